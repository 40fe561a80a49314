"""Whether the outputs of a model are probabilities, told by the last operation of its graph, or else by its outputs.

A classifier from elsewhere may end in a softmax or not, and nothing but its graph says so.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from hubkeras.runtimes.graph_steps import Step, name_of

SOFTMAX, SIGMOID, LINEAR = "softmax", "sigmoid", "linear"
_MEANINGS = {
    "Softmax": SOFTMAX,
    **dict.fromkeys(("Sigmoid", "Logistic", "HardSigmoid"), SIGMOID),
    **dict.fromkeys(("MatMul", "BiasAdd", "Conv2D", "Gemm", "Conv", "LogSoftmax", "QLinearMatMul", "QGemm"), LINEAR),
    "FullyConnected": LINEAR,
}
# what changes no value: of TensorFlow, ONNX, LiteRT and OpenVINO
_UNCHANGED = """
    Identity IdentityN Cast Reshape Squeeze ExpandDims Unsqueeze Flatten Snapshot StopGradient EnsureShape Convert
    PreventGradient CheckNumerics QuantizeLinear DequantizeLinear Quantize Dequantize FakeQuantize Result
"""
PASSING = frozenset(_UNCHANGED.split())
_ADDING = frozenset(["Add", "AddV2", "AddN"])  # of a bias: a sum of probabilities is none
_NOT_ONE = 1e-3  # how far from 1 a sum of probabilities may be
PROBES = 6  # images that are tried where the graph does not tell


def meaning_of(operation: str) -> str | None:
    """What an operation makes of its input: `softmax`, `sigmoid`, `linear`, or None for what does not tell."""
    return LINEAR if operation in _ADDING else _MEANINGS.get(operation)


def follow(name: str, operations: dict[str, tuple[str, str | None]]) -> str | None:
    """What gives a tensor, past operations that change no value.

    Args:
        name: of the tensor.
        operations: `{tensor: (operation, its first input)}`.
    """
    seen: set[str] = set()
    current: str | None = name
    while current in operations and current not in seen:
        seen.add(current)
        operation, source = operations[current]
        if operation not in PASSING:
            return meaning_of(operation)
        current = source
    return None


def of_function(function: Any, output: str, steps: Iterable[Step]) -> str | None:
    """What the last operation of a function of a SavedModel makes of its input, see `meaning_of`.

    Args:
        function: a concrete function that was loaded, with named outputs.
        output: name of the output.
        steps: its operations, see `hubkeras.runtimes.graph_steps`.
    """
    tensors = dict(zip(sorted(function.structured_outputs), function.outputs, strict=True))  # as TensorFlow flattens
    operations = {step.output: (step.operation, next(iter(step.inputs), None)) for step in steps}
    return follow(name_of(tensors[output].name), operations)


def of_outputs(run: Callable[[np.ndarray], np.ndarray], size: tuple[int, int]) -> str:
    """What a model's outputs look like for several images: `softmax`, `sigmoid` or `linear`.

    Args:
        run: from float32 `[batch, height, width, 3]` in [0, 1] to `[batch, width]`.
        size: height and width.
    """
    random = np.random.RandomState(0)
    images = random.uniform(0, 1, (PROBES, *size, 3)).astype(np.float32)
    images[0], images[1] = 0, 1
    images[2:4] = random.uniform(0, 1, (2, 1, 1, 3))
    return of_values(np.concatenate([run(image[np.newaxis]) for image in images]))


def of_values(outputs: np.ndarray) -> str:
    """What outputs `[images, width]` look like: `softmax`, `sigmoid` or `linear`."""
    values = outputs.astype(np.float64)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        return LINEAR
    if values.shape[-1] > 1 and np.abs(values.sum(-1) - 1).max() < _NOT_ONE:
        return SOFTMAX
    return SIGMOID
