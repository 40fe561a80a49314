"""From the bytes of an image file to its pixels: the one decoder of whatever reads images.

Pillow decodes; the kind is read off the first bytes, whatever the file is called. What Pillow would read wrongly, and
what people take for images besides, is refused by name.
"""

import io
import re
import threading
from typing import Any

import numpy as np

from hubkeras.common.errors import Error, first_line
from hubkeras.common.guards import image_bombs

MOST_FILE_BYTES = 512 << 20  # of a file of one image
MOST_PIXELS = 2**28  # 16384 x 16384, which take 768 MiB as RGB
_LARGE = 2**25  # pixels; images above are decoded one at a time, so that as many as there are cores fit in memory
_ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "WebP": (".webp",),
    "TIFF": (".tif", ".tiff"),
}
IMAGE_ENDINGS = tuple(ending for endings in _ENDINGS.values() for ending in endings)
EXPECTED = "JPEG, PNG, GIF, BMP, WebP or TIFF"
# the first bytes of each kind that is read, and of what is refused by name; `.` is any byte
_READ = {
    rb"\xff\xd8\xff": "JPEG",
    rb"\x89PNG\r\n\x1a\n": "PNG",
    rb"GIF8[79]a": "GIF",
    rb"BM": "BMP",
    rb"RIFF....WEBP": "WebP",
    rb"II[*+]\0|MM\0[*+]": "TIFF",
}
_RAW = "a camera's raw photo: develop it to JPEG"
_REFUSED = {
    rb"....ftyp(hei|hev|mif1|msf1)": "a HEIC photo: convert it to JPEG",
    rb"....ftypavi[fs]": "an AVIF image: convert it to JPEG or PNG",
    rb"....ftypcrx|II\*\0....CR|FUJIFILM|II(RO|RS|U\0)": _RAW,
    rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ": "a video: take images from it",
    rb"\0\0\0\x0c(jP  |JXL )|\xff[\x4f\x0a]": "a JPEG 2000 or JPEG XL image: convert it to JPEG or PNG",
    rb"8BPS": "a Photoshop file: convert it to PNG",
    rb"%PDF|%!PS": "a document: convert its pages to PNG",
    rb"\0\0[\1\2]\0": "an icon: convert it to PNG",
    rb"v/1\x01|#\?R": "an image of high dynamic range: convert it to PNG",
    rb"version https://git-lfs": "a Git LFS pointer: run `git lfs pull`",
    rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*|<!--.*?-->\s*|<!DOCTYPE svg[^>]*>\s*)*<svg": "an SVG drawing: convert it",
    rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|\?xml)": "a web page: the download failed",
    rb"\Z": "empty",
}
# pattern, kind and why it is refused; a raw photo may begin as a TIFF does
_KINDS = [
    *((re.compile(pattern, re.DOTALL | re.IGNORECASE), "", reason) for pattern, reason in _REFUSED.items()),
    *((re.compile(pattern, re.DOTALL), kind, "") for pattern, kind in _READ.items()),
]
_HEADER = 1024  # bytes that tell the kind
# EXIF's orientation: what makes such an image upright, as names in PIL.Image.Transpose
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_BACK = {6: 8, 8: 6}  # the turn that undoes it; the others undo themselves
_ORIENTATION, _BITS, _PHOTOMETRIC, _SUBFILE, _DNG = 0x0112, 258, 262, 254, 50706  # tags of TIFF, and so of EXIF
_large = threading.Lock()


def decode_pixels(data: bytes, path: str = "The image", upright: bool = True) -> np.ndarray:
    """The pixels of an image: the first frame or page, palettes and CMYK as RGB, 16 bits by their upper byte.

    Alpha and colour profiles are dropped.

    Args:
        data: the bytes of the file.
        path: of the file, for messages.
        upright: whether to turn it as its EXIF orientation says; else the pixels are as they are stored. Orientations
            that cannot be read are none.

    Returns:
        uint8 `[height, width, 3]`, RGB; not writable.

    Raises:
        hubkeras.Error: it is of a kind that is not read, damaged, or of more than `MOST_PIXELS` pixels.
    """
    kind = _kind_of(data, path)
    image_bombs.check_parts(data, kind, path)
    try:
        with _opener(kind)(io.BytesIO(data)) as image:
            width, height = image.size
            if not width or not height:
                raise Error(f"{path} is a {kind} image without pixels.")
            if width * height > MOST_PIXELS:
                limit = f"at most {MOST_PIXELS:,} are read"
                raise Error(f"{path} has {width} x {height} pixels; {limit}, shrink it.")
            image_bombs.check_scans(data, kind, path, width * height)
            if width * height <= _LARGE:
                return _rgb(image, path, upright)
            with _large:
                return _rgb(image, path, upright)
    except Error:
        raise
    except MemoryError as error:
        raise Error(f"{path} does not fit in memory ({kind} of {len(data):,} bytes); shrink it.") from error
    except Exception as error:  # Pillow's plug-ins raise whatever they come upon in damaged files
        raise Error(f"{path} is a damaged {kind} file ({first_line(error) or type(error).__name__}).") from error


def _kind_of(data: bytes, path: str) -> str:
    header = data[:_HEADER]
    for pattern, kind, reason in _KINDS:
        if pattern.match(header):
            if reason:
                raise Error(f"{path} is {reason}.")
            return kind
    raise Error(f"{path} is not an image that can be read; expected {EXPECTED}.")


def _opener(kind: str) -> Any:
    """Pillow's class for a kind; `Image.open` would try others, and warn of large images."""
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

    return {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "WebP": WebPImagePlugin.WebPImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
    }[kind]


def _rgb(image: Any, path: str, upright: bool) -> np.ndarray:
    tags = getattr(image, "tag_v2", {})
    if _DNG in tags or tags.get(_SUBFILE, 0) & 1:  # a small preview comes first
        raise Error(f"{path} is {_RAW}.")
    bits, inverted = (tags.get(_BITS) or (16,))[0], tags.get(_PHOTOMETRIC) == 0
    stored = _orientation(image)
    image.load()
    left = _orientation(image)  # Pillow turns TIFFs when it loads them
    turn = left if upright else _BACK.get(stored, stored) if left != stored else 1
    if turn in _TURNS:
        image = image.transpose(_transpose(turn))
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        grey = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
        return np.repeat((255 - grey if inverted else grey)[..., np.newaxis], 3, axis=-1)
    if image.mode in ("I", "F"):
        raise Error(f"{path} has numbers for pixels, whose range it does not say; convert it to 8 or 16 bits.")
    image.info.pop("transparency", None)  # alpha is dropped, which Pillow would warn of
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _orientation(image: Any) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
        return value if value in _TURNS else 1
    except Exception:  # malformed, of whatever kind
        return 1


def _transpose(turn: int) -> Any:
    from PIL import Image

    return getattr(Image.Transpose, _TURNS[turn])
