"""What the tensors of a source tell of its head, where nothing else does: no layer of one is left out unseen."""

import re
from collections.abc import Mapping
from typing import Any

from hubkeras.common.head_layers import Dense
from hubkeras.common.networks import NetworkFacts
from hubkeras.converters.checkpoint import Checkpoint

_LAYER = re.compile(r"(?:.*/)?Logits/((?:hidden|batch_norm|layer_norm)_\d+)/[a-z_]+")


def unknown_head(checkpoint: Checkpoint) -> str | None:
    """Why the head of a source cannot be told, None where it can: weights alone do not tell activations."""
    if "head" in checkpoint.hints.settings:
        return None
    names = (name for name, tensor in checkpoint.tensors.items() if tensor.kind is None)
    layer = next((match[1] for name in names if (match := _LAYER.fullmatch(name))), None)
    if layer is None:
        return None
    return (
        f"its head has the layer {layer} beside the logits, and weights alone do not tell what is between them (save "
        "the whole model as .keras, or write the file with hubkeras.convert)"
    )


def head_settings(facts: NetworkFacts, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The settings of a head without biases, which shapes tell; none of other heads.

    Args:
        facts: of the network.
        shapes: of the variables by their names below the root scope.
    """
    scope = f"Logits/{facts.logits}"
    kernel = shapes.get(f"{scope}/weights")
    if not kernel or f"{scope}/biases" in shapes:
        return {}
    return {"num_classes": kernel[-1], "head": [Dense(units=kernel[-1], use_bias=False).to_json()]}
