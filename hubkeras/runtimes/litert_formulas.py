"""Activations of heads as LiteRT operators."""

from typing import Any

X = "x"  # the input of a formula
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
# activations: a formula is an operator and its inputs, which are formulas, numbers, or X
FORMULAS: dict[str, tuple[Any, ...]] = {
    "relu": ("RELU", X),
    "relu6": ("RELU6", X),
    "leaky_relu": ("LEAKY_RELU", X),
    "gelu": ("GELU", X),
    "gelu_tanh": ("GELU", X),
    "silu": ("MUL", X, ("LOGISTIC", X)),
    "hard_silu": ("HARD_SWISH", X),
    "softplus": ("ADD", ("RELU", X), ("LOG", ("ADD", ("EXP", ("NEG", ("ABS", X))), 1))),
    "tanh": ("TANH", X),
    "sigmoid": ("LOGISTIC", X),
}


def elu(alpha: float) -> tuple[Any, ...]:
    """The formula of an ELU; LiteRT's own has an alpha of 1."""
    if alpha == 1:
        return "ELU", X
    return "ADD", ("RELU", X), ("MUL", ("ELU", ("MINIMUM", X, 0)), alpha)
