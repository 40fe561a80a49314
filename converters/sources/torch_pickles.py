"""PyTorch's `.bin` and `.pth` files, read without PyTorch and without running what a pickle may hold.

Both formats: the zip archive that PyTorch 1.6 and newer write, and the older one, pickles followed by the raw bytes of
the tensors. Source: `torch/serialization.py`.
"""

import collections
import contextlib
import math
import pathlib
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, ClassVar, NamedTuple

import numpy as np

from hubkeras.common.errors import Error, first_line
from hubkeras.common.guards import contents
from hubkeras.common.guards.zips import open_zip
from hubkeras.converters.checkpoint import MOST_VARIABLE_BYTES, Tensor

_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_START = b"\x80\x02\x8a\x0a" + _MAGIC.to_bytes(10, "little")
_PROTOCOL = 1001
_STORAGES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "float64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_MOST_PICKLE_BYTES = 8 << 20  # without the tensors; a state dict of a thousand names has 200 KB
_MOST_OBJECTS, _DEEPEST = 200_000, 8  # in dicts within dicts; an optimizer has three for each variable
_MOST_DIMENSIONS = 16
_DAMAGE: tuple[type[Exception], ...] = (
    *(pickle.UnpicklingError, EOFError, zipfile.BadZipFile, struct.error, KeyError, ValueError, TypeError),
    *(IndexError, AttributeError, OSError, NotImplementedError, MemoryError, RecursionError, zlib.error),
)


Path = tuple[str, ...]


class _Storage(NamedTuple):
    key: str
    dtype: str
    size: int


class _View(NamedTuple):
    """A view into a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


# the unpickled object of a file, and what reads the bytes of a storage
_Opened = tuple[Any, Callable[[_Storage], bytes]]


class _Rebuild:
    """What stands for PyTorch's functions that make a tensor; a pickle can call it, and not change it."""

    __slots__ = ()

    def __call__(self, source: Any, offset: int = 0, shape: Any = None, strides: Any = (), *_: Any) -> _View:
        if isinstance(source, _View):  # a parameter, which is made of a tensor
            return source
        return _View(source, offset, tuple(shape), tuple(strides))

    def __setstate__(self, state: Any) -> None:
        raise _RefusedError("a function with a state")


class _Inert:
    """What stands for settings, numbers and the like beside the weights: it takes all that a pickle gives it, and
    keeps none of it.
    """

    __slots__ = ()

    def __new__(cls, *_: Any, **__: Any) -> "_Inert":
        return super().__new__(cls)

    def __call__(self, *_: Any, **__: Any) -> "_Inert":
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass

    def add(self, value: Any) -> None:
        pass


# modules whose objects training scripts keep beside the weights: options, scores, dates, paths, counters
_BESIDE = frozenset(["argparse", "datetime", "pathlib", "uuid", "types", "enum", "decimal", "fractions"])
_BESIDE_PACKAGES = (
    *("numpy.", "omegaconf.", "yacs.", "torch.optim."),
    *("lightning.", "lightning_fabric.", "pytorch_lightning."),
)
_CONTAINERS = ("set", "frozenset", "slice", "bytearray", "list", "dict", "tuple")
_BUILTINS = (*_CONTAINERS, "complex", "int", "float", "str", "bool")
_BESIDE_NAMES = frozenset(
    [
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("_codecs", "encode"),
        *(("builtins", name) for name in _BUILTINS),
        *(("__builtin__", name) for name in _BUILTINS),
        ("typing", "Any"),
        *(("collections", name) for name in ("defaultdict", "Counter", "deque")),
        *(("torch", name) for name in ("Size", "device", "Generator")),
        *(("torch", name) for name in ("float32", "float16", "bfloat16", "float64", "int64", "int32", "bool", "uint8")),
    ]
)


def _is_beside(module: str, name: str) -> bool:
    return module in _BESIDE or module.startswith(_BESIDE_PACKAGES) or (module, name) in _BESIDE_NAMES


class _OrderedDict(_Rebuild):
    """What stands for `collections.OrderedDict`; pickles of Python 2 give it its items."""

    __slots__ = ()

    def __call__(self, items: Any = (), *_: Any) -> Any:
        return collections.OrderedDict((_key(key), value) for key, value in items)


def _key(key: Any) -> Any:
    """A key of a dict, if it is a name, a number or a few of them; tuples within tuples can take years to hash."""
    parts = key if isinstance(key, tuple) and len(key) <= _MOST_DIMENSIONS else (key,)
    if not all(part is None or isinstance(part, str | bytes | int | float | _Inert) for part in parts):
        raise _RefusedError(f"a dict with a {type(key).__name__} as a key")
    return key


def _check_keys(keys: Iterable[Any]) -> None:
    for key in keys:
        _key(key)


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _OrderedDict(),
    **{("torch._utils", f"_rebuild_{kind}"): _Rebuild() for kind in ("tensor", "tensor_v2", "parameter")},
    # as they are written: the dtype of a storage is all that is needed of it
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


class _RefusedError(Exception):
    """A pickle names something that is neither a tensor nor a dict."""


_InPython: Any = pickle._Unpickler  # whose methods are not among the types that are published


class _Unpickler(_InPython):
    """Builds tensors and dicts, drops what training keeps beside them, and refuses by name all else.

    The one in Python, since that in C makes room for as many objects as a pickle says that it has.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(_InPython.dispatch)

    def load_setitem(self) -> None:
        """As Python's, for harmless keys; so the others."""
        _key(self.stack[-2])
        super().load_setitem()

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        super().load_dict()

    def load_additems(self) -> None:
        _check_keys(self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        _check_keys(self.stack)
        super().load_frozenset()

    dispatch.update({pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems, pickle.DICT[0]: load_dict})
    dispatch.update({pickle.ADDITEMS[0]: load_additems, pickle.FROZENSET[0]: load_frozenset})

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if _is_beside(module, name):
            return _Inert
        raise _RefusedError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, size, *view = pid
        if kind != "storage" or not isinstance(dtype, str) or not isinstance(key, str | int) or any(view):
            raise _RefusedError(f"the persistent object {kind!r}" if isinstance(kind, str) else "a persistent object")
        if not isinstance(size, int) or size * np.dtype(dtype).itemsize > MOST_VARIABLE_BYTES:
            raise _RefusedError(f"a storage of more than {MOST_VARIABLE_BYTES >> 20} MiB")
        return _Storage(str(key), dtype, size)


def is_torch(path: pathlib.Path) -> bool:
    """Whether a file is PyTorch's, by its content, or by its name and none else's."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        start = file.read(len(_LEGACY_START))
    if start == _LEGACY_START:
        return True
    if start.startswith(b"PK"):
        try:
            with open_zip(path) as archive:
                return any(name.endswith("/data.pkl") for name in archive.namelist())
        except zipfile.BadZipFile:
            return path.suffix in (".bin", ".pth", ".pt")
    return path.suffix in (".bin", ".pth", ".pt")


@contextlib.contextmanager
def open_torch(path: pathlib.Path) -> Iterator[dict[Path, Tensor]]:
    """Context manager that yields the tensors of a file, `{path of keys: Tensor}`, each read when it is asked for.

    A state dict has paths of one key, the checkpoint of a training run has it below others (`state_dict`, `optimizer`).

    Raises:
        hubkeras.Error: the file is damaged, or its pickle asks for anything but tensors, storages and dicts.
    """
    contents.refuse(path, accepted=(contents.ZIP,))
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
            if file.read(2) == b"PK":
                data, load = _zipped(stack.enter_context(open_zip(path)))
            else:
                data, load = _legacy(file, path.stat().st_size)
            tensors = {path: _tensor(view, load) for path, view in _views(data).items()}
        except _RefusedError as error:
            raise Error(
                f"{path} is a pickle that asks for {error}, which hubkeras does not run; give a file of tensors alone "
                "(torch.save(model.state_dict(), ...), or safetensors)."
            ) from error
        except Error:
            raise
        except _DAMAGE as error:
            raise Error(f"{path} is not a whole PyTorch file ({first_line(error)}); fetch or copy it again.") from error
        yield tensors


def _views(data: Any) -> dict[Path, _View]:
    """`{path of keys: tensor}` of the tensors in dicts within dicts."""
    views: dict[Path, _View] = {}
    # one object may be referred to many times, so that a small pickle names millions of tensors
    waiting: list[tuple[Path, Any]] = [((), data)]
    for _ in range(_MOST_OBJECTS):
        if not waiting or len(waiting) > _MOST_OBJECTS:
            break
        path, value = waiting.pop()
        if isinstance(value, _View):
            views[path] = value
        elif isinstance(value, dict) and len(path) < _DEEPEST:
            waiting += [((*path, str(key)), item) for key, item in value.items()]
    if waiting:
        raise ValueError(f"it holds more than {_MOST_OBJECTS} objects")
    if not views:
        raise ValueError(f"it holds a {type(data).__name__} without tensors, not a dict of tensors")
    return views


def _zipped(archive: zipfile.ZipFile) -> _Opened:
    """The unpickled object of the zip format, and a function that reads the bytes of a storage."""
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"it is a zip archive with {len(pickles) or 'no'} data.pkl")
    (pickled,) = pickles
    root = pickled.removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise ValueError("its numbers are big endian")
    if archive.getinfo(pickled).file_size > _MOST_PICKLE_BYTES:
        raise ValueError("its data.pkl is too large")
    with archive.open(pickled) as stream:
        unpickler = _Recording(stream)
        data = unpickler.load()
    sizes = {member.filename: member.file_size for member in archive.infolist()}
    for storage in unpickler.storages.values():
        name, size = f"{root}data/{storage.key}", storage.size * np.dtype(storage.dtype).itemsize
        if sizes.get(name) != size:
            raise ValueError(f"{name} has {sizes.get(name, 'no')} bytes, expected {size}")
    return data, lambda storage: archive.read(f"{root}data/{storage.key}")  # checks its CRC


class _Limited:
    """The pickles at the start of a file, which end with an error where they are too long."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.left = file, _MOST_PICKLE_BYTES

    def read(self, size: int) -> bytes:
        return self._counted(self.file.read(min(size, self.left + 1)))

    def readline(self) -> bytes:
        return self._counted(self.file.readline(self.left + 1))

    def _counted(self, data: bytes) -> bytes:
        self.left -= len(data)
        if self.left < 0:
            raise ValueError("its pickles are too large")
        return data


def _legacy(file: BinaryIO, file_size: int) -> _Opened:
    """The same of the older format: four pickles, the keys of the storages, then for each its length and its bytes."""
    file.seek(0)
    pickles = _Limited(file)
    magic, protocol, system = (_Unpickler(pickles).load() for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL or not system.get("little_endian"):
        raise ValueError("it does not start as PyTorch's files do")
    unpickler = _Recording(pickles)
    data = unpickler.load()
    places = {}
    for key in _Unpickler(pickles).load():
        storage = unpickler.storages[str(key)]
        (size,) = struct.unpack("<q", file.read(8))
        length = size * np.dtype(storage.dtype).itemsize
        places[storage.key] = (file.tell(), length)
        if size != storage.size or file.tell() + length > file_size:
            raise ValueError(f"the storage {key} is cut short")
        file.seek(length, 1)

    def load(storage: _Storage) -> bytes:
        start, length = places[storage.key]
        file.seek(start)
        return file.read(length)

    return data, load


class _Recording(_Unpickler):
    """Keeps the storages that it met, by key."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def persistent_load(self, pid: Any) -> _Storage:
        storage = super().persistent_load(pid)
        return self.storages.setdefault(storage.key, storage)


def _tensor(view: _View, load: Callable[[_Storage], bytes]) -> Tensor:
    storage, offset, shape, strides = view
    if not isinstance(storage, _Storage) or not len(shape) == len(strides) <= _MOST_DIMENSIONS:
        raise ValueError("a tensor without a storage")
    if any(not isinstance(n, int) or n < 0 for n in (offset, *shape, *strides)):
        raise ValueError("a tensor with a negative size")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 not in shape and (last >= storage.size or math.prod(shape) > storage.size):
        raise ValueError("a tensor reaches beyond its storage")

    def read() -> np.ndarray:
        flat = np.frombuffer(load(storage), storage.dtype)
        steps = [stride * flat.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(flat[offset:], shape, steps, writeable=False)

    return Tensor(shape, storage.dtype, read)
