"""What becomes of each tensor of a source."""

import re

from hubkeras.common.choices import Choice
from hubkeras.converters.checkpoint import SHADOW, Tensor
from hubkeras.converters.matching import Match

# what `tf.contrib.quantize` adds: `weights_quant/min`, `act_quant/.../max/biased`, `post_activation_bypass_quant/...`
_QUANTIZATION = re.compile(r"(^|/)\w+_quant/")


class Use(Choice):
    """What a tensor of a TF-Slim checkpoint is for; readers of other sources have kinds of their own beside these."""

    NETWORK = "network"
    LOGITS = "Logits"
    RAW = "raw values with a moving average"
    AVERAGES = "exponential moving averages"
    AUXILIARY = "AuxLogits"
    SLOTS = "optimizer slots"
    STEP = "global_step"
    QUANTIZATION = "quantization ranges"
    LEFT_OUT = "after the last end point"


def use_of(name: str, tensor: Tensor, match: Match) -> str:
    """A `Use`, the kind that the reader of the source knows, or `other scope: ...`.

    Args:
        name: of the tensor.
        tensor: of a source.
        match: of the same source.
    """
    if tensor.kind is not None:
        return tensor.kind
    if _QUANTIZATION.search(name):
        return Use.QUANTIZATION
    variable = match.variables.get(name)
    if variable is None:
        return Use.STEP if name == "global_step" else f"other scope: {name.split('/')[0]}"
    if variable.startswith("AuxLogits/"):
        return Use.AUXILIARY
    if variable.endswith(SHADOW):
        return Use.AVERAGES
    if f"{variable}{SHADOW}" in match.tensors:
        return Use.RAW
    if variable.rsplit("/", 1)[0] in match.tensors:
        return Use.SLOTS
    return Use.LOGITS if variable.startswith("Logits/") else Use.NETWORK
