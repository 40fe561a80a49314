"""The commands that write, and what is at their targets: one line each in `COMMANDS`."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

import hubkeras
from hubkeras.common.errors import Error
from hubkeras.common.files import sha256
from hubkeras.common.guards import integrity
from hubkeras.consuming import signing
from tests.support.files import DIGITS
from tests.support.keys import write_key

HANDLE = "https://tfhub.dev/somebody/model/1"
ABSENT = "absent"
WHICH = ("first", "second")


class Command(NamedTuple):
    """A command that writes.

    Attributes:
        arguments: function from the folder of what is read, `first` or `second` of it, and the target.
        target: what it writes, within a folder that is otherwise empty.
        kills: how many of the campaign's.
        files: endings in place of the target's own, of the files that it writes.
        begins: what may be at the target before: None, or what it wrote of the first or the second model.
    """

    arguments: Callable[[pathlib.Path, str, pathlib.Path], list[str]]
    target: str
    kills: int = 10
    files: tuple[str, ...] = ()
    begins: tuple[str | None, ...] = (None, "first")

    def written(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """What it writes into a folder."""
        target = folder / self.target
        return [target.with_suffix(ending) for ending in self.files] or [target]


def export(models: pathlib.Path, which: str, target: pathlib.Path) -> list[str]:
    return ["export", str(models / which), str(target), "--overwrite"]


def export_frozen(models: pathlib.Path, which: str, target: pathlib.Path) -> list[str]:
    return [*export(models, which, target), "--frozen"]


def pack(models: pathlib.Path, which: str, target: pathlib.Path) -> list[str]:
    return ["pack", str(models / which), str(target), "--overwrite"]


def install(models: pathlib.Path, which: str, target: pathlib.Path) -> list[str]:
    return ["install", str(models / which), "--handle", HANDLE, "--overwrite", "--cache-dir", str(target)]


def install_archive(models: pathlib.Path, which: str, target: pathlib.Path) -> list[str]:
    return install(models, f"{which}.tar.gz", target)


def convert(models: pathlib.Path, which: str, target: pathlib.Path) -> list[str]:
    return ["convert", str(models / which), str(target), "--overwrite"]


def convert_to(form: str) -> Callable[[pathlib.Path, str, pathlib.Path], list[str]]:
    return lambda models, which, target: [*convert(models, which, target), "--to", form]


def sign(models: pathlib.Path, which: str, target: pathlib.Path) -> list[str]:
    key = str(models / f"{which}.pem")
    return ["sign", str(models / "second"), "--private-key", key, "--signature", str(target), "--overwrite"]


def embed(models: pathlib.Path, which: str, target: pathlib.Path) -> list[str]:
    return ["embed", str(models / which), str(models / "images"), str(target), "--rows-per-file", "4"]


COMMANDS = {
    "export": Command(export, "model", 20),
    "export --frozen": Command(export_frozen, "model", 10),
    "pack": Command(pack, "model.tar.gz", 40),
    "install": Command(install, "cache", 40),
    "install an archive": Command(install_archive, "cache", 10),
    "sign": Command(sign, "model.sig", 10),
    "embed": Command(embed, "rows", 10, begins=(None,)),
    "convert to .weights.h5": Command(convert, "model.weights.h5"),
    "convert to .npz": Command(convert, "model.npz"),
    "convert to .onnx": Command(convert, "model.onnx"),
    "convert to .tflite": Command(convert, "model.tflite"),
    "convert to .xml": Command(convert, "model.xml", files=(".xml", ".bin")),
    "convert to slim": Command(
        convert_to("slim"), "model.ckpt", files=(".ckpt.index", ".ckpt.data-00000-of-00001", ".ckpt.hubkeras.json")
    ),
    "convert to hugging-face": Command(convert_to("hugging-face"), "model"),
    "convert to .keras": Command(convert_to("keras-applications"), "model.keras"),
    "convert to .h5": Command(convert_to("keras-applications"), "model.h5"),
}


def make_models(folder: pathlib.Path) -> pathlib.Path:
    """What the commands read: two SavedModels that differ, their archives, two keys and some images."""
    keras.utils.set_random_seed(0)
    networks = (hubkeras.MobileNetV2(0.35, num_classes=11), hubkeras.MobileNetV2(0.35, num_classes=11, weights=DIGITS))
    for which, network in zip(WHICH, networks, strict=True):
        hubkeras.export(network, folder / which, image_size=96, verify=False)
        hubkeras.common.archives.pack(folder / which, folder / f"{which}.tar.gz")
        write_key(folder, which)
    (folder / "images").mkdir()
    for number in range(12):
        pixels = np.random.RandomState(number).randint(0, 255, (24, 24, 3), np.uint8)
        keras.utils.save_img(folder / "images" / f"{number:02}.png", pixels, scale=False)
    return folder


# What is at a target, so that equal contents are equal texts.


def state(name: str, folder: pathlib.Path, models: pathlib.Path) -> str:
    """What a command has written into a folder, in which nothing else matters; in a cache, what is at the handle."""
    command = COMMANDS[name]
    target = folder / command.target
    if command.files:
        digests = [sha256(path) for path in command.written(folder) if path.exists()]
        return " and ".join([*digests, *[ABSENT] * (len(command.files) - len(digests))]) if digests else ABSENT
    if name == "sign":
        return _signer(target, models)
    if command.target == "cache":
        entries = [path for path in target.glob("*") if len(path.name) == 40] if target.exists() else []
        target = entries[0] if entries else target / "nothing"
    if not target.exists():
        return ABSENT
    if target.suffix in (".keras", ".h5") and "weights" not in target.name:
        return _values(target)
    if (target / "saved_model.pb").exists():
        return integrity.content_hash(integrity.hashes(target))
    if target.is_dir():
        digests = {path.name: sha256(path) for path in target.iterdir() if path.is_file() and path.name != ".lock"}
        return integrity.content_hash(digests) if digests else ABSENT
    return sha256(target)


def _signer(signature: pathlib.Path, models: pathlib.Path) -> str:
    """Whose a signature is; it has chance in it, so that its bytes are never the same."""
    if not signature.exists():
        return ABSENT
    for which in WHICH:
        try:
            signing.check_signature(models / "second", signature, public_key=models / f"{which}.pub")
        except Error:
            continue
        return f"of the {which} key"
    return "of nobody"


def _values(file: pathlib.Path) -> str:
    """Digest of all weights of a Keras model; the files have times and names in them."""
    digest = hashlib.sha256()
    for value in keras.saving.load_model(file, compile=False).get_weights():
        digest.update(value.tobytes())
    return digest.hexdigest()


def goes_on(name: str, folder: pathlib.Path, made: pathlib.Path) -> bool:
    """Whether a command that writes file after file has left some of them, each as it is to be, which `made` has."""
    target, whole = (place / COMMANDS[name].target for place in (folder, made))
    files = list(target.glob("*.parquet")) if target.is_dir() else []
    return bool(files) and all(sha256(file) == sha256(whole / file.name) for file in files)


def leftovers(name: str, folder: pathlib.Path) -> list[str]:
    """What lies beside what a command writes."""
    command = COMMANDS[name]
    names = [path.name for path in folder.iterdir() if path not in command.written(folder)]
    target = folder / command.target
    if target.is_dir() and command.target == "cache":
        whole = [path.name for path in target.iterdir()]
        names += [name for name in whole if len(name) != 40 and not name.endswith(".descriptor.txt")]
    if target.is_dir() and command.target == "rows":
        names += [path.name for path in target.iterdir() if path.suffix != ".parquet" and path.name != ".lock"]
    return names
