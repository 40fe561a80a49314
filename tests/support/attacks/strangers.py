"""Files that are no model at all, under every ending that is read."""

import gzip
import io
import zipfile

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 14000000\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not found</body></html>\n"


def _zipped():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return data.getvalue()


# {what: (bytes, words that the refusal has)}
CONTENTS = {
    "a Git LFS pointer": (POINTER, "is a Git LFS pointer, not the file itself: run `git lfs pull` where it was cloned"),
    "a web page": (PAGE, "is a web page: the download failed; fetch it again"),
    "a page with a comment first": (b"\xef\xbb\xbf\n<!-- x -->\n" + PAGE, "is a web page: the download failed"),
    "an error in XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
    "an error in JSON": (b'{"error": "Entry not found"}', "is JSON, such as a server's message of an error"),
    "nothing": (b"", "is empty: the download or the copy failed"),
    "a zip archive": (_zipped(), "zip archive"),
    "plain text": (b"Hello, here is the model\n" * 100, "is plain text, not a model"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "is an image (PNG)"),
    "a compressed page": (gzip.compress(PAGE), "compressed with gzip"),
}
SOURCES = (
    *(
        "model.h5",
        "model.weights.h5",
        "model.keras",
        "frozen.pb",
        "model.safetensors",
        "pytorch_model.bin",
        "model.pth",
    ),
    *(
        "model.pt",
        "model.tgz",
        "model.tar.gz",
        "model.tar",
        "model.ckpt",
        "model.ckpt-1000",
        "model.index",
        "model.npz",
        "model.json",
    ),
    "weights",
)
RUNTIMES = ("model.onnx", "model.tflite", "model.xml")
# files of folders, with the others of the folder as far as they are looked at before
IN_FOLDERS = {
    "saved_model/saved_model.pb": ("variables/variables.index", "variables/variables.data-00000-of-00001"),
    "saved_model/variables/variables.index": ("saved_model.pb", "variables/variables.data-00000-of-00001"),
    "hugging_face/model.safetensors": ("config.json",),
    "hugging_face/pytorch_model.bin": ("config.json",),
    "checkpoint/model.ckpt-1.index": ("model.ckpt-1.data-00000-of-00001",),
}
