"""What the networks use of Keras, for inference, in NumPy: variables and layers that hold them.

Names and arguments are Keras' own. Initial weights are zeros or ones, since weights follow; regularizers do nothing.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np


class Variable:
    """A variable.

    Attributes:
        dtype: name of that of its value.
    """

    def __init__(self, value: np.ndarray, name: str, trainable: bool, regularizer: Any) -> None:
        self._held, self.dtype = value, value.dtype.name
        self.name, self.trainable, self.regularizer = name, trainable, regularizer

    @property
    def value(self) -> np.ndarray:
        """Its array, not to be changed."""
        return np.asarray(self._held, self.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._held.shape

    def assign(self, value: Any) -> None:
        """Sets the value, of the same shape. The array of another variable is shared, until either gets another."""
        held = value._held if isinstance(value, Variable) else np.array(value, self.dtype)
        if held.shape != self.shape:
            raise ValueError(f"{self.name} has shape {self.shape}; got {held.shape}.")
        self._held = held

    def __mul__(self, factor: float) -> np.ndarray:
        return self.value * factor

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.value, dtype)


class Operation:
    """What Keras' layers inherit."""

    input = output = property(lambda self: None)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


class Layer(Operation):
    """A layer, called by its `call`."""

    built = False

    def __init__(self, name: str, autocast: bool = True, dtype: Any = None, trainable: bool = True) -> None:
        policy = {"compute_dtype": dtype or "float32", "variable_dtype": dtype or "float32"}
        self.name = name
        self.dtype_policy = dtype if isinstance(dtype, SimpleNamespace) else SimpleNamespace(**policy)
        self._trainable_variables: list[Variable] = []
        self._non_trainable_variables: list[Variable] = []

    def _set_trainable(self, value: bool) -> None:
        pass

    trainable = property(lambda self: True, _set_trainable)
    compute_dtype = property(lambda self: self.dtype_policy.compute_dtype)
    variable_dtype = property(lambda self: self.dtype_policy.variable_dtype)

    def add_weight(
        self, shape: Any, initializer: Any, name: str, regularizer: Any = None, trainable: bool = True, **_: Any
    ) -> Variable:
        fill = np.ones if initializer == "ones" else np.zeros
        variable = Variable(fill(shape, self.variable_dtype), name, trainable, regularizer)
        (self._trainable_variables if trainable else self._non_trainable_variables).append(variable)
        return variable

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)  # type: ignore[attr-defined]


class Model(Layer):
    """A model, which is a layer."""


class BatchNormalization(Layer):
    """The arguments of Keras' batch norm."""

    def __init__(
        self, name: str, scale: bool = True, epsilon: float = 1e-3, momentum: float = 0.99, **kwargs: Any
    ) -> None:
        super().__init__(name, **kwargs)
        self.scale, self.epsilon, self.momentum = scale, epsilon, momentum


class Regularizer:
    """A regularizer."""

    def __init__(self, l1: float = 0, l2: float = 0) -> None:
        self.l1, self.l2 = l1, l2


class L2(Regularizer):
    """That of the sum of squares."""

    def __init__(self, l2: float) -> None:
        super().__init__(l2=l2)


class Initializer:
    """An initializer, which draws nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def clone(self) -> "Initializer":
        return self


class KerasTensor:
    """A symbolic tensor, of which there are none."""


class SeedGenerator:
    """A random state, which nothing takes."""


def _initializer(value: Any) -> Any:
    return Initializer()


layers = SimpleNamespace(Layer=Layer, BatchNormalization=BatchNormalization)
regularizers = SimpleNamespace(
    **dict.fromkeys(("Regularizer", "L1", "L1L2"), Regularizer), L2=L2, serialize=lambda regularizer: {}
)
initializers = SimpleNamespace(TruncatedNormal=Initializer, VarianceScaling=Initializer, get=_initializer)
saving = SimpleNamespace(register_keras_serializable=lambda package: lambda cls: cls)
random = SimpleNamespace(SeedGenerator=SeedGenerator)
backend = SimpleNamespace(backend=lambda: "numpy")
