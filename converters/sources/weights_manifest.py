"""The weights of a TensorFlow.js model: the `weightsManifest` of its `model.json`, and the files that it names.

A manifest is a list of groups. The bytes of a group's files, one behind the other, are its weights, in order and
without gaps, little endian. Source: `io/weights_loader.ts` and `io/io_utils.ts` of TensorFlow.js. Nothing of a manifest
is believed before the files beside it hold as much.
"""

import functools
import math
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hubkeras.common.guards import contents
from hubkeras.common.guards.limits import MOST_BYTES
from hubkeras.common.guards.permissions import check_ordinary, permissions_checked
from hubkeras.converters.checkpoint import Tensor
from hubkeras.converters.naming.renaming import NamingError, refuse_large

_MOST_FILES, _MOST_WEIGHTS = 10_000, 30_000
_MOST_NAME, _MOST_AXES = 1_000, 8
_DTYPES = {"float32": "<f4", "int32": "<i4", "bool": "?"}  # as they are stored where nothing is quantized
_QUANTIZED = {"uint8": "<u1", "uint16": "<u2", "float16": "<f2"}
_DRIVE_OR_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class Part(NamedTuple):
    """A file with a part of a group's bytes, which begins at `start` of these and ends before `end`."""

    file: pathlib.Path
    start: int
    end: int


class Stored(NamedTuple):
    """How the numbers of a weight are stored: `value * scale + minimum` where they are quantized to whole numbers."""

    dtype: np.dtype
    scale: float = 1.0
    minimum: float = 0.0


class Weights(NamedTuple):
    """The weights of a model.

    Attributes:
        tensors: `{name: Tensor}`; those of an optimizer begin with `optimizer/`.
        files: that hold them.
        quantized: the dtypes that weights are stored with, where these are not their own.
    """

    tensors: dict[str, Tensor]
    files: tuple[pathlib.Path, ...]
    quantized: tuple[str, ...]


def read_manifest(manifest: Any, model: pathlib.Path) -> Weights:
    """The weights that a manifest describes; their numbers are read when they are asked for.

    Args:
        manifest: the value of `weightsManifest`.
        model: the `model.json` that it is of, beside which the files lie.

    Raises:
        NamingError: it is damaged, names files outside of the folder or some twice, or files that are missing, or that
            hold more or less than it says.
    """
    if not isinstance(manifest, list) or not all(isinstance(group, dict) for group in manifest):
        raise _bad("is no list of groups")
    if sum(len(_list(group, "paths")) for group in manifest) > _MOST_FILES:
        raise _bad(f"names more than {_MOST_FILES:,} files")
    if sum(len(_list(group, "weights")) for group in manifest) > _MOST_WEIGHTS:
        raise _bad(f"names more than {_MOST_WEIGHTS:,} weights")
    tensors: dict[str, Tensor] = {}
    files: list[pathlib.Path] = []
    quantized: set[str] = set()
    for group in manifest:
        parts = list(_parts(_list(group, "paths"), model))
        for name, tensor, stored in _tensors(_list(group, "weights"), parts):
            if name in tensors:
                raise _bad(f"has two weights of the name {_short(name)}")
            tensors[name] = tensor
            quantized |= {stored.dtype.name} & set(_QUANTIZED)
        files += [part.file for part in parts]
    if len(set(files)) < len(files):
        raise _bad("names a file twice")
    return Weights(tensors, tuple(files), tuple(sorted(quantized)))


def _bad(what: str) -> NamingError:
    return NamingError(f"its weightsManifest {what}")


def _short(text: Any) -> str:
    text = str(text)
    text = text if len(text) <= 100 else f"{text[:60]}...{text[-40:]}"
    return text if text.isprintable() else ascii(text)


def _list(group: Mapping[str, Any], key: str) -> list[Any]:
    if not isinstance(group.get(key), list):
        raise _bad(f"has a group without a list of {key}")
    return group[key]


def _parts(paths: Sequence[Any], model: pathlib.Path) -> Iterator[Part]:
    """The files of a group, each with its place in the bytes of all."""
    # a cache may keep files elsewhere, with links to them, but then all of them
    roots = [os.path.realpath(model.parent), os.path.dirname(os.path.realpath(model))]
    end = 0
    for name in paths:
        if not isinstance(name, str) or not name or not name.isprintable():
            raise _bad("names files by other things than text")
        parts = pathlib.PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or "\\" in name or _DRIVE_OR_SCHEME.match(name):
            raise _bad(f"names the file {_short(name)}, which lies outside of the folder")
        file = model.parent / name
        real = pathlib.Path(os.path.realpath(file))
        if not any(map(real.is_relative_to, roots)):
            raise _bad(f"names the file {_short(name)}, which is a link out of the folder")
        check_ordinary(file)
        if not file.is_file():
            raise NamingError(f"its file of weights {_short(name)} is missing; put it beside the model.json")
        contents.refuse(file, only=("pointer", "page"))
        with permissions_checked(), open(file, "rb") as opened:
            start, end = end, end + opened.seek(0, 2)
        yield Part(file, start, end)


def _tensors(weights: Sequence[Any], parts: Sequence[Part]) -> Iterator[tuple[str, Tensor, Stored]]:
    """(name, tensor, how it is stored) for each weight of a group, whose bytes are those of the files."""
    there, place = parts[-1].end if parts else 0, 0
    for weight in weights:
        name, shape, dtype, stored = _form_of(weight)
        start, place = place, place + math.prod(shape) * stored.dtype.itemsize
        if place > min(there, MOST_BYTES):
            raise NamingError(
                f"{_files(parts)} {there:,} bytes, too few for the weight {_short(name)} and those before it; "
                "fetch or copy the whole model again"
            )
        read = functools.partial(_read, parts, start, shape, dtype, stored)
        yield name, Tensor(shape, dtype, read), stored
    if place != there:
        raise NamingError(
            f"{_files(parts)} {there:,} bytes, where its weightsManifest has weights of {place:,}; fetch or copy the "
            "whole model again"
        )


def _files(parts: Sequence[Part]) -> str:
    if len(parts) == 1:
        return f"its file of weights {_short(parts[0].file.name)} has"
    return f"its {len(parts)} files of weights have"


def _form_of(weight: Any) -> tuple[str, tuple[int, ...], str, Stored]:
    """Name, shape, dtype and form of a weight, by its entry of the manifest."""
    if not isinstance(weight, dict) or not isinstance(weight.get("name"), str):
        raise _bad("has a weight without a name")
    name, shape, dtype = weight["name"], weight.get("shape"), weight.get("dtype")
    if not 0 < len(name) <= _MOST_NAME or not name.isprintable():
        raise _bad(f"has a weight of the name {_short(name)!r}")
    if not isinstance(shape, list) or len(shape) > _MOST_AXES or not all(_is_size(size) for size in shape):
        raise _bad(f"gives {_short(name)} the shape {_short(shape)}")
    refuse_large({_short(name): tuple(shape)})
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise _bad(f"gives {_short(name)} the dtype {_short(dtype)}; expected {', '.join(_DTYPES)}")
    stored = _stored(name, dtype, weight.get("quantization"))
    if weight.get("group") == "optimizer" and not name.startswith("optimizer/"):
        name = f"optimizer/{name}"
    return name, tuple(shape), dtype, stored


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_BYTES


def _stored(name: str, dtype: str, quantization: Any) -> Stored:
    if quantization is None:
        return Stored(np.dtype(_DTYPES[dtype]))
    kind = quantization.get("dtype") if isinstance(quantization, dict) else None
    if not isinstance(kind, str) or kind not in _QUANTIZED or dtype != "float32":
        raise _bad(f"quantizes {_short(name)}, of {dtype}, to {_short(kind)}; expected {', '.join(_QUANTIZED)}")
    if kind == "float16":
        return Stored(np.dtype(_QUANTIZED[kind]))
    factors = [quantization.get(key) for key in ("scale", "min")]
    good = (isinstance(f, int | float) and not isinstance(f, bool) and abs(f) < 1e30 for f in factors)  # and no NaN
    if not all(good):
        raise _bad(f"quantizes {_short(name)} with scale {_short(factors[0])} and min {_short(factors[1])}")
    return Stored(np.dtype(_QUANTIZED[kind]), *map(float, factors))


def _read(parts: Sequence[Part], start: int, shape: tuple[int, ...], dtype: str, stored: Stored) -> np.ndarray:
    end = start + math.prod(shape) * stored.dtype.itemsize
    values = np.frombuffer(b"".join(_bytes(parts, start, end)), stored.dtype)
    if stored.dtype.kind == "u":  # in double precision, as JavaScript computes it
        values = values.astype(np.float64) * stored.scale + stored.minimum
    return values.astype(dtype).reshape(shape)


def _bytes(parts: Iterable[Part], start: int, end: int) -> Iterator[bytes]:
    """The bytes of a group from `start` to `end`, from the files that they lie in."""
    for part in parts:
        first, last = max(start, part.start), min(end, part.end)
        if first < last:
            with open(part.file, "rb") as file:
                file.seek(first - part.start)
                yield file.read(last - first)
