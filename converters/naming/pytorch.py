"""Which network the names of a PyTorch file are of, and Slim's names for them."""

from collections.abc import Collection

from hubkeras.converters.naming import hugging_face, timm
from hubkeras.converters.naming.renaming import NamingError, Renaming

_COUNTER = "num_batches_tracked"  # of PyTorch's batch norm, which only counts with it
# (names that a file of the network has, what it is and why it is not read)
_STRANGERS = (
    (
        {"conv_stem.weight", "blocks.0.0.conv_dw.weight"},
        "timm's own MobileNet or EfficientNet (`mobilenetv2_100` and others), which is padded on all sides alike and "
        "whose images are normalised by mean and deviation, as TF-Slim's are not",
    ),
    (
        {"features.0.0.weight", "features.18.0.weight", "classifier.1.weight"},
        "torchvision's MobileNet V2, which is padded on all sides alike and has a batch-norm epsilon of 1e-5, as "
        "TF-Slim's has not",
    ),
    ({"conv_stem.convolution.weight", "layer.0.convolution.weight"}, "Hugging Face's MobileNet V1"),
    ({"layer1.0.conv1.weight", "conv1.weight"}, "a ResNet of PyTorch"),
)
_EXPECTED = (
    "expected Hugging Face's MobileNet V2 (`google/mobilenet_v2_1.0_224`, ...) or the Inception-ResNet V2 of timm or "
    "Cadene"
)


def renaming_of(names: Collection[str]) -> Renaming:
    """What the names of a state dict are.

    Raises:
        NamingError: they are of another network, or not all of them are of the one that most are of.
    """
    given = set(names)
    if {hugging_face.MARKER, hugging_face.BASE + hugging_face.MARKER} & given:
        return _complete(given, hugging_face.renaming_of(given))
    if given.issuperset(timm.MARKERS):
        return _complete(given, timm.renaming_of(given))
    bare = {name.removeprefix("mobilenet_v1.").removeprefix("module.") for name in given}
    for markers, title in _STRANGERS:
        if markers <= bare:
            raise NamingError(f"it is {title}; {_EXPECTED}")
    some = ", ".join(sorted(given)[:3])
    raise NamingError(f"it is of no network that hubkeras knows (it holds {some or 'no tensors'}, ...); {_EXPECTED}")


def _complete(names: set[str], renaming: Renaming) -> Renaming:
    """The renaming with batch norm's counters among the ignored names, after which none may be left over."""
    rest = names - renaming.targets.keys() - renaming.ignored.keys()
    counters = {name: _COUNTER for name in rest if name.endswith(f".{_COUNTER}")}
    unknown = sorted(rest - counters.keys())
    if unknown:
        raise NamingError(
            f"the tensor {unknown[0]} is not one of {renaming.title} ({len(unknown)} such); it is a changed network"
        )
    return renaming._replace(ignored={**renaming.ignored, **counters})
