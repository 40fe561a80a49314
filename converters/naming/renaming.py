"""From the tensors of a foreign file to those of Slim: one record of what its names mean, and one function."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hubkeras.common.errors import Error
from hubkeras.converters.checkpoint import MOST_VARIABLE_BYTES, Tensor

GAMMAS = "batch-norm gammas, all of them 1"
_WIDENED = ("float16", "bfloat16")
_INTEGERS = ("int", "uint", "I", "U")


class NamingError(Error):
    """Why the names or tensors of a file are not those of a network: a clause without the file's name and a full stop.

    `open_checkpoint` makes the sentence of it.
    """


class Layout(NamedTuple):
    """Where the axes of Slim's tensor are in the foreign one.

    Attributes:
        axes: for each axis of Slim's tensor that is in the foreign one, its number there.
        leading: number of axes of size 1 that Slim's tensor has before these.
        squeezed: number of axes of size 1 that the foreign tensor has before those of `axes`, which count from there.
    """

    axes: tuple[int, ...]
    leading: int = 0
    squeezed: int = 0

    def shape_to_slim(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of Slim's tensor for that of the foreign one, which has `squeezed` axes and those of `axes`."""
        return (1,) * self.leading + tuple(shape[self.squeezed + axis] for axis in self.axes)

    def to_slim(self, array: np.ndarray) -> np.ndarray:
        """The foreign array as Slim's."""
        array = np.transpose(array.reshape(array.shape[self.squeezed :]), self.axes)
        return array.reshape((1,) * self.leading + array.shape)

    def from_slim(self, array: np.ndarray) -> np.ndarray:
        """Slim's array as the foreign one, contiguous."""
        array = np.transpose(array.reshape(array.shape[self.leading :]), np.argsort(self.axes))
        return np.ascontiguousarray(array.reshape((1,) * self.squeezed + array.shape))


SLIM = Layout(())  # stands for that of Slim's own tensors, of any shape and type, which are taken as they are
VECTOR = Layout((0,))
# PyTorch has output channels first, then the input's; a depthwise kernel is [channels, 1, height, width]
PYTORCH = {"conv": Layout((2, 3, 1, 0)), "depthwise": Layout((2, 3, 0, 1)), "dense": Layout((1, 0))}
KERAS = {"conv": Layout((0, 1, 2, 3)), "depthwise": Layout((0, 1, 2, 3)), "dense": Layout((0, 1))}


class Target(NamedTuple):
    """The variable that a foreign tensor fills.

    Attributes:
        variable: Slim's name, with the root scope.
        layout: of the tensor.
    """

    variable: str
    layout: Layout = SLIM


class Renaming(NamedTuple):
    """What the names of a foreign file mean.

    Attributes:
        title: whose network it is, for messages.
        targets: `{foreign name: Target}` of the tensors that are the network's; those that are not here keep their
            names.
        ignored: `{foreign name: kind}` of those that are known and not used.
        settings: arguments of the network that neither names nor shapes tell.
        notes: sentences that the user should read.
        gammas_may_be_trivial: whether batch norm has gammas there that TF-Slim's network has not.
    """

    title: str
    targets: Mapping[str, Target]
    ignored: Mapping[str, str]
    settings: Mapping[str, Any] = {}
    notes: tuple[str, ...] = ()
    gammas_may_be_trivial: bool = False


def rename(tensors: Mapping[str, Tensor], renaming: Renaming) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of a foreign file under Slim's names and in Slim's layouts.

    Those that are not the network's are under their own names and have a kind. Half precision is widened, which
    changes no value.

    Returns:
        The tensors, and the notes.

    Raises:
        NamingError: a tensor has a number of axes that it should not have, is quantized or larger than any variable.
    """
    refuse_large({name: tensor.shape for name, tensor in tensors.items()})
    renaming = _without_trivial_gammas(tensors, renaming)
    renamed, widened = {}, set()
    for name, tensor in tensors.items():
        target = renaming.targets.get(name, Target(name))
        if name in renaming.ignored:
            renamed[name] = tensor._replace(kind=renaming.ignored[name])
        elif target.layout is SLIM:
            renamed[target.variable] = tensor
        else:
            renamed[target.variable] = _in_layout(name, tensor, target.layout)
            widened |= {tensor.dtype} & set(_WIDENED)
    notes = renaming.notes
    if widened:
        notes += (f"The file holds {' and '.join(sorted(widened))}; the values were widened to float32.",)
    return renamed, notes


def refuse_large(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises NamingError where a tensor is larger than any variable of the networks, whatever it holds."""
    for name, shape in shapes.items():
        if math.prod(shape) * 4 > MOST_VARIABLE_BYTES:
            raise NamingError(f"{name} has the shape {list(shape)}; no variable of these networks is so large")


def _in_layout(name: str, tensor: Tensor, layout: Layout) -> Tensor:
    axes = layout.squeezed + len(layout.axes)
    if len(tensor.shape) != axes or any(size != 1 for size in tensor.shape[: layout.squeezed]):
        raise NamingError(f"{name} has shape {list(tensor.shape)}, expected {axes} axes")
    if tensor.dtype.startswith(_INTEGERS):
        raise NamingError(f"{name} is {tensor.dtype}, so the file is quantized; give the one with float32 weights")
    dtype = "float32" if tensor.dtype in _WIDENED else tensor.dtype

    def read() -> np.ndarray:
        return layout.to_slim(np.asarray(tensor.read())).astype(dtype, copy=False)

    return Tensor(layout.shape_to_slim(tensor.shape), dtype, read)


def _without_trivial_gammas(tensors: Mapping[str, Tensor], renaming: Renaming) -> Renaming:
    """Moves gammas to the ignored ones where TF-Slim has none and all are 1, which changes nothing."""
    gammas = [name for name, target in renaming.targets.items() if target.variable.endswith("/BatchNorm/gamma")]
    if not renaming.gammas_may_be_trivial or not all((tensors[name].read() == 1).all() for name in gammas):
        return renaming
    return renaming._replace(ignored={**renaming.ignored, **dict.fromkeys(gammas, GAMMAS)})
