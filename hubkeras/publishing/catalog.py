"""The image modules that Google published of the three networks, and the names under which code refers to them.

Sources: the pages of https://github.com/tensorflow/tfhub.dev for handles, versions and checkpoints; the tables of
TF-Slim's `README.md` and `nets/mobilenet/README.md` for accuracies and MobileNet V2's rounded figures. Exact numbers of
parameters and multiply-adds are properties of the networks, and tests recompute them.
"""

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from hubkeras.common.choices import Task
from hubkeras.common.errors import Error, did_you_mean
from hubkeras.common.metadata import Metadata
from hubkeras.common.networks import NETWORKS, Paper
from hubkeras.consuming.cache import TFHUB

CLASSES = 1001  # background and the 1000 classes of ILSVRC-2012
_SLIM = "http://download.tensorflow.org/models/"
_MOBILENET = "https://storage.googleapis.com/mobilenet_v2/checkpoints/"

# depth multiplier: features, parameters, the latter as published in millions (which leaves batch norm out)
_MOBILENET_WIDTHS = {
    1.4: (1792, 6_110_569, 6.06),
    1.3: (1664, 5_388_457, 5.34),
    1.0: (1280, 3_506_153, 3.47),
    0.75: (1280, 2_637_705, 2.61),
    0.5: (1280, 1_969_961, 1.95),
    0.35: (1280, 1_678_409, 1.66),
}
# depth multiplier, image size: multiply-adds, the same as published in millions, top-1 and top-5 accuracy in percent
_MOBILENETS = {
    (1.4, 224): (582_197_616, 582, 75.0, 92.5),
    (1.3, 224): (509_376_224, 509, 74.4, 92.1),
    (1.0, 224): (300_775_552, 300, 71.8, 91.0),
    (1.0, 192): (221_317_888, 221, 70.7, 90.1),
    (1.0, 160): (154_084_480, 154, 68.8, 89.0),
    (1.0, 128): (99_075_328, 99, 65.3, 86.9),
    (1.0, 96): (56_290_432, 56, 60.3, 83.2),
    (0.75, 224): (209_071_072, 209, 69.8, 89.6),
    (0.75, 192): (153_943_168, 153, 68.7, 88.9),
    (0.75, 160): (107_296_480, 107, 66.4, 87.3),
    (0.75, 128): (69_131_008, 69, 63.2, 85.3),
    (0.75, 96): (39_446_752, 39, 58.8, 81.6),
    (0.5, 224): (97_133_120, 97, 65.4, 86.4),
    (0.5, 192): (71_703_040, 71, 63.9, 85.4),
    (0.5, 160): (50_185_280, 50, 61.0, 83.2),
    (0.5, 128): (32_579_840, 32, 57.7, 80.8),
    (0.5, 96): (18_886_720, 18, 51.2, 75.8),
    (0.35, 224): (59_287_088, 59, 60.3, 82.9),
    (0.35, 192): (43_897_792, 43, 58.2, 81.2),
    (0.35, 160): (30_876_080, 30, 55.7, 79.1),
    (0.35, 128): (20_221_952, 20, 50.8, 75.0),
    (0.35, 96): (11_935_408, 11, 45.5, 70.4),
}


@dataclass(frozen=True)
class Module:
    """A published module: one network, one task.

    Attributes:
        handle: the name without host and version, `google/imagenet/mobilenet_v2_035_96/classification`.
        versions: numbers of its published versions; hubkeras makes modules that replace the last.
        kaggle: its model and variation on Kaggle, `google/mobilenet-v2`, `035-96-classification`.
        task: `classification` or `feature_vector`.
        architecture: `inception_v2`, `inception_resnet_v2` or `mobilenet_v2`.
        depth_multiplier: factor on the filters of every convolution.
        image_size: height and width in pixels that it was trained with.
        fixed_size: whether it accepts images of this size only.
        features: channels of the pooled features.
        classes: number of logits, background included; None for feature vectors.
        parameters: weights, biases, and batch norm's gammas and betas; moving averages are not counted.
        multiply_adds: of the convolutions and the head, for one image of `image_size`.
        published_parameters, published_multiply_adds: as Google stated them for the classification network, in
            millions, without batch norm; None where there is no such statement.
        top_1, top_5: accuracy on ImageNet's validation set in percent, of a single central crop, as published.
        archive: where TF-Slim's checkpoint was published.
        checkpoint: the checkpoint's name in the archive.
        paper: where the network was published.
    """

    handle: str
    versions: tuple[int, ...]
    kaggle: tuple[str, str]
    architecture: str
    image_size: int
    features: int
    parameters: int
    multiply_adds: int
    top_1: float
    top_5: float
    archive: str
    checkpoint: str
    paper: Paper
    published_parameters: float | None = None
    published_multiply_adds: int | None = None
    depth_multiplier: float = 1.0
    fixed_size: bool = False
    task: Task = Task.CLASSIFICATION
    classes: int | None = CLASSES

    @property
    def url(self) -> str:
        """The handle as code writes it, with the last version: `https://tfhub.dev/.../5`."""
        return f"{TFHUB}{self.handle}/{self.versions[-1]}"

    def sibling(self) -> "Module":
        """The module of the same network for the other task."""
        other = {Task.CLASSIFICATION: Task.FEATURE_VECTOR, Task.FEATURE_VECTOR: Task.CLASSIFICATION}[self.task]
        return MODULES[f"{self.handle.rsplit('/', 1)[0]}/{other}"]

    def facts(self) -> dict[str, Any]:
        """The attributes and the address as JSON-ready values."""
        return {**asdict(self), "url": self.url}


def _mobilenet(multiplier: float, size: int) -> Module:
    features, parameters, published_parameters = _MOBILENET_WIDTHS[multiplier]
    multiply_adds, published_multiply_adds, top_1, top_5 = _MOBILENETS[multiplier, size]
    percent, stem = f"{round(100 * multiplier):03}", f"mobilenet_v2_{multiplier}_{size}"
    return Module(
        handle=f"google/imagenet/mobilenet_v2_{percent}_{size}/classification",
        versions=(1, 2, 3, 4, 5),
        kaggle=("google/mobilenet-v2", f"{percent}-{size}-classification"),
        architecture="mobilenet_v2",
        image_size=size,
        features=features,
        parameters=parameters,
        multiply_adds=multiply_adds,
        top_1=top_1,
        top_5=top_5,
        archive=f"{_MOBILENET}{stem}.tgz",
        checkpoint=f"{stem}.ckpt",
        paper=NETWORKS["mobilenet_v2"].paper,
        published_parameters=published_parameters,
        published_multiply_adds=published_multiply_adds,
        depth_multiplier=multiplier,
    )


_INCEPTION_V2 = Module(
    handle="google/imagenet/inception_v2/classification",
    versions=(1, 3, 4, 5),  # there never was a version 2 of the Inceptions
    kaggle=("google/inception-v2", "classification"),
    architecture="inception_v2",
    image_size=224,
    features=1024,
    parameters=11_179_361,
    multiply_adds=1_934_858_240,
    top_1=73.9,
    top_5=91.8,
    archive=f"{_SLIM}inception_v2_2016_08_28.tar.gz",
    checkpoint="inception_v2.ckpt",
    paper=NETWORKS["inception_v2"].paper,
)
_INCEPTION_RESNET_V2 = Module(
    handle="google/imagenet/inception_resnet_v2/classification",
    versions=(1, 3, 4, 5),
    kaggle=("google/inception-resnet-v2", "classification"),
    architecture="inception_resnet_v2",
    image_size=299,
    features=1536,
    parameters=55_814_729,
    multiply_adds=13_155_795_552,
    top_1=80.4,
    top_5=95.3,
    archive=f"{_SLIM}inception_resnet_v2_2016_08_30.tar.gz",
    checkpoint="inception_resnet_v2_2016_08_30.ckpt",
    paper=NETWORKS["inception_resnet_v2"].paper,
)
_PREVIEW = replace(
    _mobilenet(1.0, 224),
    handle="google/tf2-preview/mobilenet_v2/classification",
    versions=(1, 2, 3, 4),
    kaggle=("google/mobilenet-v2", "tf2-preview-classification"),
    fixed_size=True,
)


def _feature_vector(module: Module) -> Module:
    """The module of a classifier's features: the same network without its head."""
    weights = module.features * CLASSES
    model, variation = module.kaggle
    return replace(
        module,
        handle=module.handle.replace("/classification", "/feature_vector"),
        kaggle=(model, variation.replace("classification", "feature-vector")),
        task=Task.FEATURE_VECTOR,
        classes=None,
        parameters=module.parameters - weights - CLASSES,
        multiply_adds=module.multiply_adds - weights,
    )


def _modules() -> Iterator[Module]:
    for module in (_INCEPTION_V2, _INCEPTION_RESNET_V2, _PREVIEW, *(_mobilenet(*key) for key in _MOBILENETS)):
        yield from (module, _feature_vector(module))


MODULES = {module.handle: module for module in sorted(_modules(), key=lambda module: module.handle)}

_TFHUB_HANDLE = re.compile(r"(?:https?://(?:www\.)?(?:tfhub\.dev|hub\.tensorflow\.google\.cn)/)?(.+?)(?:/(\d+))?/?")
_KAGGLE_HANDLE = re.compile(
    r"(?:https?://(?:www\.)?kaggle\.com/models/)?([^/]+/[^/]+)/(?:frameworks/)?tensorflow2/(?:variations/)?([^/]+)"
    r"(?:/(?:versions/)?\d+)?/?",
    re.IGNORECASE,
)


def find(handle: str) -> Module | None:
    """The catalogued module that a handle names, or None.

    Args:
        handle: in any form that people use, with or without host and version: `https://tfhub.dev/google/imagenet/...`,
            `google/imagenet/inception_v2/feature_vector/5`,
            `https://www.kaggle.com/models/google/mobilenet-v2/TensorFlow2/035-96-classification/2`, and Kaggle's longer
            `.../frameworks/TensorFlow2/variations/.../versions/2`.

    Raises:
        hubkeras.Error: the module never had this version. Kaggle counts versions of its own.
    """
    handle = handle.split("?")[0]
    if match := _KAGGLE_HANDLE.fullmatch(handle):
        name = (match[1].lower(), match[2].lower())
        return next((module for module in MODULES.values() if module.kaggle == name), None)
    match = _TFHUB_HANDLE.fullmatch(handle)
    module = MODULES.get(match[1]) if match else None
    if module and match and match[2] and not 1 <= int(match[2]) <= module.versions[-1]:
        raise Error(f"{handle}: {module.handle} has versions 1 to {module.versions[-1]}; got {match[2]}.")
    return module


def get(handle: str) -> Module:
    """The catalogued module that a handle names.

    Raises:
        hubkeras.Error: there is none.

    >>> get("google/imagenet/inception_v2/feature_vector/5").features
    1024
    """
    module = find(handle)
    if module is None:
        advice = did_you_mean(handle.removeprefix(TFHUB), MODULES) or "."
        text = f"{handle} is not a module of the catalogue, which `hubkeras catalog` lists{advice}"
        raise Error(text, repair="hubkeras catalog")
    return module


def publication(handle: str | None) -> Module | None:
    """The catalogued module that a new SavedModel replaces.

    Args:
        handle: what it is published under: a catalogued handle or one of another publisher than Google; or None.

    Returns:
        The `Module`, or None for one's own handle and for None.

    Raises:
        hubkeras.Error: it is neither.
    """
    if handle is None:
        return None
    if re.search(r"(^|[/.])(google|tfhub\.dev|kaggle\.com)/", handle):
        return get(handle)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)+", handle):
        raise Error(f"{handle!r} is not a handle; expected <publisher>/<name>/<version> or one of `hubkeras catalog`.")
    return None


def search(pattern: str = "*") -> list[Module]:
    """The modules whose handle has `pattern` in it; `*` and `?` stand for any characters, as in a shell.

    >>> [module.image_size for module in search("*mobilenet_v2_035_*/classification")]
    [128, 160, 192, 224, 96]
    """
    pattern = pattern if set("*?[") & set(pattern) else f"*{pattern}*"
    return [module for handle, module in MODULES.items() if fnmatch.fnmatchcase(handle, pattern)]


def check_metadata(handle: str, metadata: Metadata) -> None:
    """Raises hubkeras.Error unless a SavedModel is the network and task that a catalogued handle stands for.

    Args:
        handle: any handle; one that is not in the catalogue may stand for anything.
        metadata: of the SavedModel, a `hubkeras.common.metadata.Metadata`.
    """
    module = find(handle)
    if module is None:
        return
    expected = {
        "architecture": module.architecture,
        "depth_multiplier": module.depth_multiplier,
        "task": module.task,
        "num_classes": module.classes,
        "default_image_size": module.image_size,
        "num_features": module.features,
    }
    for name, value in expected.items():
        if getattr(metadata, name) != value:
            raise Error(
                f"{handle} stands for a SavedModel with {name} {value}; this one has {getattr(metadata, name)}. "
                "Give the handle of its network, or a name of your own."
            )
    if metadata.fixed_image_size and not module.fixed_size:
        raise Error(f"{handle} accepts images of any size; this SavedModel has a fixed size. Export without it.")
