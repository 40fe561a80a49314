"""The `.weights.h5` files of `hubkeras convert`."""

import contextlib
import json

import h5py

from hubkeras.common.errors import Error
from hubkeras.converters.sources.checkpoint import Checkpoint, first_line

H5_ATTRIBUTE = "hubkeras"


@contextlib.contextmanager
def open_h5(path):
    """A `.weights.h5` file of `hubkeras convert`, whose attributes hold the Slim names of its datasets."""
    try:
        with h5py.File(path) as file:
            attributes = json.loads(file.attrs.get(H5_ATTRIBUTE, "null"))
            if attributes is None:
                raise Error(f"{path} was not written by `hubkeras convert`: its attribute {H5_ATTRIBUTE!r} is missing.")
            datasets = attributes["datasets"]
            missing = sorted(name for name, key in datasets.items() if key not in file)
            if missing:
                raise Error(f"{path}: the variable {missing[0]} is missing ({len(missing)} in all).")
            shapes = {name: file[key].shape for name, key in datasets.items()}
            dtypes = {name: file[key].dtype.name for name, key in datasets.items()}
            yield Checkpoint(
                str(path), [path], shapes, dtypes, lambda name: file[datasets[name]][()], attributes=attributes
            )
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise Error(f"{path} is a damaged .weights.h5 file ({first_line(error)}).") from error
