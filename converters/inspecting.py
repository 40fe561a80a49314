"""What a checkpoint or a SavedModel is, without building the network."""

import math
import os
from typing import Any

from hubkeras.common.guards.integrity import checked_hashes, content_hash
from hubkeras.common.metadata import METADATA_FILE, read_metadata
from hubkeras.common.places import model_folder
from hubkeras.converters.checkpoint import SHADOW
from hubkeras.converters.matching import match
from hubkeras.converters.sources import open_checkpoint
from hubkeras.converters.weights import kind_of


def inspect(source: str | os.PathLike[str]) -> dict[str, Any]:
    """The facts about a checkpoint or a SavedModel.

    Args:
        source: a checkpoint in any form, or a SavedModel folder.

    Returns:
        A dict of JSON-ready values: `kind` (`checkpoint` or `saved_model`), `architecture`, the settings, provenance,
        and `variables`, a list of dicts with `name`, `shape`, `dtype` and `use`, empty for a frozen SavedModel.

    Raises:
        hubkeras.Error: it is neither, or of no network that hubkeras knows.
    """
    folder = model_folder(source)
    own_facts = _saved_model_facts(folder) if (folder / "assets" / METADATA_FILE).is_file() else {}
    if own_facts.get("frozen"):
        return {**own_facts, "variables": []}
    with open_checkpoint(source) as checkpoint:
        found = match(checkpoint)
        inner = {tensor: name for name, tensor in found.tensors.items()}
        variables: list[dict[str, Any]] = [
            {
                "name": name,
                "shape": list(tensor.shape),
                "dtype": tensor.dtype,
                "use": tensor.kind or kind_of(name, inner.get(name), found) or "network",
            }
            for name, tensor in sorted(checkpoint.tensors.items())
        ]
        own = [v for v in variables if v["use"] in ("network", "raw values with a moving average", "Logits")]
        facts = {
            "kind": "checkpoint",
            "source": str(source),
            "architecture": found.network.architecture,
            **found.settings,
            "image_size": found.image_size,
            "parameters": sum(math.prod(v["shape"]) for v in own if "/moving_" not in v["name"]),
            "moving_averages_of_weights": sum(name.endswith(SHADOW) for name in checkpoint.tensors),
            "auxiliary_head": found.has_auxiliary_head,
            "leading_scope": found.prefix,
            "sha256": checkpoint.own_provenance()["sha256"],
        }
    return {**facts, **own_facts, "variables": variables}


def _saved_model_facts(directory):
    """What a hubkeras SavedModel says of itself, and the hash of its content."""
    digests = checked_hashes(directory)
    facts = read_metadata(directory).to_dict()
    provenance = {"image_size": facts["default_image_size"], "provenance": facts.pop("source")}
    return {"kind": "saved_model", **facts, **provenance, "content_hash": content_hash(digests)}
