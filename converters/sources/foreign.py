"""From the tensors of a foreign file to a `Checkpoint` under Slim's names."""

import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hubkeras.common.errors import Error
from hubkeras.converters.naming.tables import Names
from hubkeras.converters.sources.checkpoint import Checkpoint

# The largest variables of the networks are kernels of heads: 1,536 features by 40,000 classes are 235 MiB.
MOST_VARIABLE_BYTES = 256 << 20
GAMMAS = "batch-norm gammas, all of them 1"
_WIDENED = ("float16", "bfloat16")


class Stored(NamedTuple):
    """A tensor in a foreign file: its shape, the name of its dtype, and a function that reads it."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


def refuse_large(path: str | os.PathLike[str], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises hubkeras.Error where a tensor is larger than any variable of the networks, whatever it holds."""
    large = next((name for name, shape in shapes.items() if math.prod(shape) * 4 > MOST_VARIABLE_BYTES), None)
    if large is not None:
        raise Error(f"{path}: {large} has the shape {list(shapes[large])}; no variable of these networks is so large.")


def renamed(
    path: str | os.PathLike[str],
    files: Sequence[pathlib.Path],
    stored: dict[str, Stored],
    names: Names,
    image_size: int | None = None,
    notes: Sequence[str] = (),
) -> Checkpoint:
    """The checkpoint of a foreign file.

    Its tensors are under Slim's names and in Slim's layouts, those that are not the network's under their own names
    and with their kind. Half precision is widened, which changes no value.

    Raises:
        hubkeras.Error: a tensor has a number of axes that it should not have, or it is quantized.
    """
    refuse_large(path, {name: tensor.shape for name, tensor in stored.items()})
    foreign, shapes, dtypes, kinds = {}, {}, {}, {}
    names = _without_trivial_gammas(stored, names)
    for name, tensor in stored.items():
        if name in names.ignored:
            kinds[name], shapes[name], dtypes[name], foreign[name] = (
                names.ignored[name],
                tensor.shape,
                tensor.dtype,
                name,
            )
            continue
        slim, layout = names.tensors[name]
        shape = layout.shape_to_slim(tensor.shape)
        if shape is None:
            raise Error(f"{path}: {name} has shape {list(tensor.shape)}, expected {len(layout.axes)} axes.")
        if tensor.dtype.startswith(("int", "uint", "I", "U")):
            raise Error(
                f"{path}: {name} is {tensor.dtype}, so the file is quantized; give the one with float32 weights."
            )
        shapes[slim], foreign[slim] = shape, name
        dtypes[slim] = "float32" if tensor.dtype in _WIDENED else tensor.dtype
    notes = [*names.notes, *notes]
    widened = {stored[name].dtype for name in names.tensors} & set(_WIDENED)
    if widened:
        notes.append(f"The file holds {' and '.join(sorted(widened))}; the values were widened to float32.")

    def read(name: str) -> np.ndarray:
        value = np.asarray(stored[foreign[name]].read())
        if name in kinds:
            return value
        return names.tensors[foreign[name]].layout.to_slim(value).astype(dtypes[name], copy=False)

    return Checkpoint(
        str(path), files, shapes, dtypes, read, names=(str(path),), image_size=image_size, kinds=kinds, notes=notes
    )


def _without_trivial_gammas(stored: dict[str, Stored], names: Names) -> Names:
    """The names with the gammas among the ignored ones where TF-Slim has none and all are 1, which changes nothing."""
    gammas = [name for name, tensor in names.tensors.items() if tensor.slim.endswith("/BatchNorm/gamma")]
    if not names.gammas_may_be_trivial or not all((stored[name].read() == 1).all() for name in gammas):
        return names
    tensors = {name: tensor for name, tensor in names.tensors.items() if name not in set(gammas)}
    return names._replace(tensors=tensors, ignored={**names.ignored, **dict.fromkeys(gammas, GAMMAS)})
