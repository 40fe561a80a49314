"""Names in checkpoints of networks under other heads: detectors, segmenters and pose estimators built on Slim's scopes.

Sources: `models/*_feature_extractor.py` of TensorFlow's Object Detection API, `model.py` of DeepLab, and
`predict.py` of DeepLabCut, whose head lies below `pose/`.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from hubkeras.converters.naming.renaming import Renaming, Target


class Hyperparams(NamedTuple):
    """What a detector's `pipeline.config` says of its network.

    Attributes:
        epsilon, momentum: of batch norm; the latter is called `decay` there.
        activation: `RELU`, `RELU_6` or another; TF-Slim's MobileNet V2 has its own in any case.
    """

    epsilon: float
    momentum: float
    activation: str


class _Head(NamedTuple):
    """A head: what it is called, a name that only checkpoints with it have, and the names of its tensors."""

    kind: str
    marker: re.Pattern[str]
    tensors: re.Pattern[str]


_HEADS = (
    _Head(
        "detection head",
        re.compile(r"^((First|Second)Stage)?(FeatureExtractor|BoxPredictor)"),
        # the feature maps that SSD adds lie in the network's own scope: `layer_19_1_Conv2d_2_1x1_256`
        re.compile(
            r"^(BoxPredictor_\d+|(First|Second)StageBoxPredictor|WeightShared\w+|Conv)/"
            r"|^FeatureExtractor/\w+/((layer_\d+|Mixed_5c)_\d_Conv2d_|fpn/|bottom_up_)"
        ),
    ),
    _Head(
        "segmentation head",
        re.compile(r"^logits/semantic/"),
        re.compile(r"^(logits|aspp\d+|image_pooling|concat_projection|decoder)/"),
    ),
    _Head("pose head", re.compile(r"^pose/"), re.compile(r"^pose/")),
)
_PIPELINE = "By pipeline.config batch norm has an epsilon of {0.epsilon:g} and a momentum (decay) of {0.momentum:g}."
_ACTIVATIONS = {"RELU": "relu", "RELU_6": "relu6"}
_UNKNOWN_ACTIVATION = (
    "An SSD's pipeline.config says which activation its Inception V2 has; this one has ReLU as TF-Slim's. Most have "
    "RELU_6, with which the outputs differ: put the file beside the checkpoint."
)
_OTHER_ACTIVATION = "pipeline.config says {0.activation}, where this one has ReLU as TF-Slim's: its outputs differ."
_STAGES = re.compile(r"^(?P<stage>First|Second)StageFeatureExtractor/(?P<rest>.+)")
_LAST_REPEAT = re.compile(r"^InceptionResnetV2/Repeat/")


def is_single_shot(names: Iterable[str]) -> bool:
    """Whether the names are of an SSD, the network of which is as its `pipeline.config` says."""
    return any(name.startswith("FeatureExtractor/") for name in names)


def renaming_of(names: Iterable[str], hyperparams: Hyperparams | None = None) -> Renaming:
    """What the names of a checkpoint mean: those of a network in its own scope are Slim's, and stay.

    A Faster R-CNN has its network in two scopes, in the second of which Slim's `Repeat_2` counts anew as `Repeat`.

    Args:
        names: of the tensors.
        hyperparams: of an SSD, where its `pipeline.config` is there and tells.
    """
    names = list(names)
    targets = {name: Target(slim_name(name)) for name in names}
    heads = [head for head in _HEADS if any(map(head.marker.search, names))]
    ignored = {name: head.kind for head in heads for name in names if head.tensors.search(name)}
    settings: dict[str, Any] = {}
    notes = []
    if any(map(_STAGES.search, names)):
        notes.append("The network was found in the two stages of a Faster R-CNN.")
        if any(target.variable.startswith("InceptionResnetV2/") for target in targets.values()):
            settings["align_feature_maps"] = True  # as its first stage is built, with SAME padding throughout
    if hyperparams:
        settings |= {"batch_norm_epsilon": hyperparams.epsilon, "batch_norm_momentum": hyperparams.momentum}
        notes.append(_PIPELINE.format(hyperparams))
    if any(name.startswith("FeatureExtractor/InceptionV2/") for name in names):
        if hyperparams is None:
            notes.append(_UNKNOWN_ACTIVATION)
        elif hyperparams.activation in _ACTIVATIONS:
            settings["activation"] = _ACTIVATIONS[hyperparams.activation]
        else:
            notes.append(_OTHER_ACTIVATION.format(hyperparams))
    return Renaming("a TF-Slim checkpoint", targets, ignored, settings, tuple(notes))


def slim_name(name: str) -> str:
    """Slim's name of a tensor below the stages of a Faster R-CNN; other names are Slim's already."""
    match = _STAGES.match(name)
    if not match:
        return name
    rest = match["rest"]
    return _LAST_REPEAT.sub("InceptionResnetV2/Repeat_2/", rest) if match["stage"] == "Second" else rest
