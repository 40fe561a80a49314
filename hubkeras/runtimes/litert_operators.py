"""LiteRT's operators: their options and versions, and the activations of heads as formulas of them."""

from hubkeras.runtimes.formulas import Formula, X

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
FORMULAS: dict[str, Formula] = {
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
# options of operators that have any
OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    **dict.fromkeys(("MAX_POOL_2D", "AVERAGE_POOL_2D"), "Pool2DOptions"),
    **dict.fromkeys(("MEAN", "REDUCE_MAX"), "ReducerOptions"),
    **{name: f"{name.capitalize()}Options" for name in ("ADD", "SUB", "MUL", "GELU", "SOFTMAX")},
    "CONCATENATION": "ConcatenationOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "LEAKY_RELU": "LeakyReluOptions",
}
FUSED = {None: "NONE", "relu": "RELU", "relu6": "RELU6"}
# of operators in 8 bits; those that are not here have them from the first on
VERSIONS = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), 3),
    **dict.fromkeys(("ADD", "SUB", "CONCATENATION", "MEAN", "REDUCE_MAX", "MAX_POOL_2D", "AVERAGE_POOL_2D"), 2),
    "FULLY_CONNECTED": 4,
}


def elu(alpha: float) -> Formula:
    """The formula of an ELU; LiteRT's own has an alpha of 1."""
    if alpha == 1:
        return "ELU", X
    return "ADD", ("RELU", X), ("MUL", ("ELU", ("MINIMUM", X, 0)), alpha)
