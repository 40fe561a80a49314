"""Files of the safetensors format, read with its own library, which checks the header and every offset."""

import contextlib
import functools
import pathlib
from collections.abc import Iterator

from hubkeras.common.errors import Error, first_line
from hubkeras.common.extras import extra
from hubkeras.common.guards import contents
from hubkeras.converters.checkpoint import Tensor

_DTYPES = {"F32": "float32", "F16": "float16", "F64": "float64", "BF16": "bfloat16", "I64": "int64", "I8": "int8"}


def is_safetensors(path: pathlib.Path) -> bool:
    """Whether a file is one by its name, or by its start: the length of a header, then JSON."""
    if path.suffix == ".safetensors":
        return path.is_file()
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        start = file.read(10)
    return start[8:] == b'{"' and start[5:8] == b"\0\0\0"


@contextlib.contextmanager
def open_safetensors(path: pathlib.Path) -> Iterator[dict[str, Tensor]]:
    """Context manager that yields the tensors of a file by name, each read when it is asked for.

    Raises:
        hubkeras.Error: the library is missing, or the file is damaged.
    """
    contents.refuse(path)
    safetensors = extra("hugging-face", "safetensors")
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(safetensors.safe_open(path, framework="numpy"))
            tensors = {}
            for name in file.keys():  # noqa: SIM118  it is no dict
                part = file.get_slice(name)
                dtype = part.get_dtype()
                read = functools.partial(file.get_tensor, name)
                tensors[name] = Tensor(tuple(part.get_shape()), _DTYPES.get(dtype, dtype), read)
        except (safetensors.SafetensorError, OSError) as error:
            raise Error(
                f"{path} is not a whole safetensors file ({first_line(error)}); fetch or copy it again."
            ) from error
        yield tensors
