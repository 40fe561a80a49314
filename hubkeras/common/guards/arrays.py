"""NumPy arrays in zip archives (`.npz`): numbers alone, and as many as are stored."""

import io
import math
import zipfile

import numpy as np
from numpy.lib import format

_MOST_HEADER = 16 << 10  # bytes; NumPy itself takes 10,000
_NUMBERS = "biufc"  # kinds of dtypes


def header_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array in an archive of `zips.open_zip`, which stores every byte that these ask for.

    Raises:
        ValueError: a clause on what is wrong with it: no array, not of numbers, or of another size than it claims.
        OSError, zipfile.BadZipFile, zlib.error: it cannot be read.
    """
    with archive.open(member) as file:
        start = io.BytesIO(file.read(_MOST_HEADER))
    try:
        read = {1: format.read_array_header_1_0, 2: format.read_array_header_2_0}
        shape, _, dtype = read[format.read_magic(start)[0]](start)
    except (ValueError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError("is no array of numbers") from error
    if dtype.hasobject:
        raise ValueError("holds Python objects, which are pickles, not numbers")
    if dtype.kind not in _NUMBERS:
        raise ValueError(f"holds values of the type {dtype}, not numbers")
    stored, claimed = member.file_size - start.tell(), math.prod(shape) * dtype.itemsize
    if stored != claimed or min(shape, default=0) < 0:
        raise ValueError(f"has the shape {list(shape)} and stores {stored:,} of its {claimed:,} bytes")
    return shape, dtype
