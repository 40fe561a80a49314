"""Checkpoints of TF1's `retrain.py`, by the names that it gives: a TF1 module, and one layer that it trains."""

import re
from collections.abc import Mapping

from hubkeras.common.head_layers import Dense
from hubkeras.common.networks import NETWORKS
from hubkeras.converters.checkpoint import Tensor
from hubkeras.converters.naming.renaming import VECTOR, Layout, NamingError, Renaming, Target

# `final_training_ops` in versions from before there were modules
_HEAD = re.compile(
    r"final_(?:retrain|training)_ops/(?:weights/final_(?P<weights>weights)|biases/final_(?P<biases>biases))"
)
_SCOPES = {facts.scope: facts for facts in NETWORKS.values()}


def with_head(renaming: Renaming, tensors: Mapping[str, Tensor]) -> Renaming:
    """What the names of a checkpoint mean, those of the layer of `retrain.py` as the head of the network.

    Args:
        renaming: of the names without it.
        tensors: of the checkpoint, by name.

    Raises:
        NamingError: the layer is not whole.
    """
    parts = {match.lastgroup: name for name in tensors if (match := _HEAD.fullmatch(name))}
    roots = {part for name in tensors for part in name.split("/")[:-1] if part in _SCOPES}
    if not parts or len(roots) != 1:
        return renaming
    if set(parts) != {"weights", "biases"}:
        raise NamingError(f"the layer that retrain.py trained has {next(iter(parts.values()))} alone")
    facts, units = _SCOPES[roots.pop()], tensors[parts["biases"]].shape[-1]
    scope = next(name.partition(f"{facts.scope}/")[0] for name in tensors if f"{facts.scope}/" in name)
    layouts = {"weights": Layout((0, 1), len(facts.logits_kernel_size)), "biases": VECTOR}
    head = {
        parts[leaf]: Target(f"{scope}{facts.scope}/Logits/{facts.logits}/{leaf}", layout)
        for leaf, layout in layouts.items()
    }
    settings = {"num_classes": units, "head": [Dense(units=units).to_json()]}
    note = "The layer that retrain.py trained (final_retrain_ops) is the head, whose softmax it takes."
    return renaming._replace(
        targets={**renaming.targets, **head}, settings={**renaming.settings, **settings}, notes=(*renaming.notes, note)
    )
