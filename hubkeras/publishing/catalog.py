"""The image modules that Google published of the three networks, and the names under which code refers to them.

Sources: the pages of https://github.com/tensorflow/tfhub.dev for handles, versions and checkpoints; the tables of
TF-Slim's `README.md` and `nets/mobilenet/README.md` for accuracies and MobileNet V2's rounded figures. Exact numbers of
parameters and multiply-adds are properties of the networks, and tests recompute them.
"""

import difflib
import fnmatch
import re
from dataclasses import asdict, dataclass
from typing import Any

from hubkeras.common.errors import Error
from hubkeras.common.metadata import Metadata
from hubkeras.common.networks import NETWORKS, Paper
from hubkeras.consuming.cache import TFHUB

TASKS = ("classification", "feature_vector")
CLASSES = 1001  # background and the 1000 classes of ILSVRC-2012
KAGGLE = "https://www.kaggle.com/models/"
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
    versions: tuple
    kaggle: tuple
    task: str
    architecture: str
    depth_multiplier: float
    image_size: int
    fixed_size: bool
    features: int
    classes: int | None
    parameters: int
    multiply_adds: int
    published_parameters: float | None
    published_multiply_adds: int | None
    top_1: float
    top_5: float
    archive: str
    checkpoint: str
    paper: Paper

    @property
    def url(self) -> str:
        """The handle as code writes it, with the last version: `https://tfhub.dev/.../5`."""
        return f"{TFHUB}{self.handle}/{self.versions[-1]}"

    def sibling(self) -> "Module":
        """The module of the same network for the other task."""
        start, task = self.handle.rsplit("/", 1)
        return MODULES[f"{start}/{TASKS[1 - TASKS.index(task)]}"]

    def facts(self) -> dict[str, Any]:
        """The attributes and the address as JSON-ready values."""
        return {**asdict(self), "url": self.url}


def _networks():
    """Yields the facts of each classification network, once for each publisher's name of it."""
    for multiplier, size in _MOBILENETS:
        features, parameters, published_parameters = _MOBILENET_WIDTHS[multiplier]
        multiply_adds, published, top_1, top_5 = _MOBILENETS[multiplier, size]
        percent = f"{round(100 * multiplier):03}"
        facts = {
            "architecture": "mobilenet_v2",
            "depth_multiplier": multiplier,
            "image_size": size,
            "features": features,
            "parameters": parameters,
            "multiply_adds": multiply_adds,
            "published_parameters": published_parameters,
            "published_multiply_adds": published,
            "top_1": top_1,
            "top_5": top_5,
            "archive": f"{_MOBILENET}mobilenet_v2_{multiplier}_{size}.tgz",
            "checkpoint": f"mobilenet_v2_{multiplier}_{size}.ckpt",
        }
        name = f"google/imagenet/mobilenet_v2_{percent}_{size}"
        yield name, ("google/mobilenet-v2", f"{percent}-{size}-"), (1, 2, 3, 4, 5), facts
        if (multiplier, size) == (1.0, 224):
            preview = ("google/mobilenet-v2", "tf2-preview-")
            yield "google/tf2-preview/mobilenet_v2", preview, (1, 2, 3, 4), {**facts, "fixed_size": True}
    inceptions = (
        ("inception_v2", 1024, 11_179_361, 1_934_858_240, 73.9, 91.8, "2016_08_28", ""),
        ("inception_resnet_v2", 1536, 55_814_729, 13_155_795_552, 80.4, 95.3, "2016_08_30", "_2016_08_30"),
    )
    for name, features, parameters, multiply_adds, top_1, top_5, date, suffix in inceptions:
        facts = {
            "architecture": name,
            "depth_multiplier": 1.0,
            "image_size": NETWORKS[name].default_image_size,
            "features": features,
            "parameters": parameters,
            "multiply_adds": multiply_adds,
            "published_parameters": None,
            "published_multiply_adds": None,
            "top_1": top_1,
            "top_5": top_5,
            "archive": f"{_SLIM}{name}_{date}.tar.gz",
            "checkpoint": f"{name}{suffix}.ckpt",
        }
        # there never was a version 2 of the Inceptions
        yield f"google/imagenet/{name}", (f"google/{name.replace('_', '-')}", ""), (1, 3, 4, 5), facts


def _modules():
    for name, (model, variation), versions, facts in _networks():
        for task in TASKS:
            facts = {"fixed_size": False, "paper": NETWORKS[facts["architecture"]].paper, **facts}
            head = {"classes": CLASSES}
            if task == "feature_vector":
                weights = facts["features"] * CLASSES
                head = {
                    "classes": None,
                    "parameters": facts["parameters"] - weights - CLASSES,
                    "multiply_adds": facts["multiply_adds"] - weights,
                }
            kaggle = (model, variation + task.replace("_", "-"))
            yield Module(f"{name}/{task}", versions, kaggle, task, **{**facts, **head})


MODULES = {module.handle: module for module in sorted(_modules(), key=lambda module: module.handle)}

_TFHUB_HANDLE = re.compile(r"(?:https?://(?:www\.)?(?:tfhub\.dev|hub\.tensorflow\.google\.cn)/)?(.+?)(?:/(\d+))?/?")
_KAGGLE_HANDLE = re.compile(
    r"(?:https?://(?:www\.)?kaggle\.com/models/)?([^/]+/[^/]+)/(?:frameworks/)?tensorflow2/(?:variations/)?([^/]+)"
    r"(?:/(?:versions/)?(\d+))?/?",
    re.IGNORECASE,
)


def find(handle: str) -> tuple[Module | None, int | None]:
    """The catalogued module that a handle names.

    Args:
        handle: in any form that people use, with or without host and version: `https://tfhub.dev/google/imagenet/...`,
            `google/imagenet/inception_v2/feature_vector/5`,
            `https://www.kaggle.com/models/google/mobilenet-v2/TensorFlow2/035-96-classification/2`, and Kaggle's longer
            `.../frameworks/TensorFlow2/variations/.../versions/2`.

    Returns:
        The `Module` and the version as the handle has it (Kaggle counts its own) or None; or None and None for a
        handle of something else.
    """
    handle = handle.split("?")[0]
    if match := _KAGGLE_HANDLE.fullmatch(handle):
        model, variation, version = match.groups()
        names = (model.lower(), variation.lower())
        module = next((module for module in MODULES.values() if module.kaggle == names), None)
    else:
        match = _TFHUB_HANDLE.fullmatch(handle)
        name, version = match.groups() if match else (handle, None)
        module = MODULES.get(name)
        if module and version and not 1 <= int(version) <= module.versions[-1]:
            raise Error(f"{handle}: {module.handle} has versions 1 to {module.versions[-1]}; got {version}.")
    return module, (int(version) if module and version else None)


def get(handle: str) -> Module:
    """The catalogued module that a handle names.

    Raises:
        hubkeras.Error: there is none.

    >>> get("google/imagenet/inception_v2/feature_vector/5").features
    1024
    """
    module, _ = find(handle)
    if module is None:
        close = difflib.get_close_matches(handle.removeprefix(TFHUB), MODULES, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise Error(f"{handle} is not a module of the catalogue, which `hubkeras catalog` lists{hint or '.'}")
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
    module, _ = find(handle)
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
