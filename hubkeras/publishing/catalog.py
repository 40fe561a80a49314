"""The image modules that Google published of the three networks, and the names under which code refers to them.

Sources: the pages of https://github.com/tensorflow/tfhub.dev for handles, versions and checkpoints; the tables of
TF-Slim's `README.md` and `nets/mobilenet/README.md` for accuracies and MobileNet V2's rounded figures. Exact numbers of
parameters and multiply-adds are properties of the networks, and tests recompute them. `catalog.csv` has the classifiers
(there never was a version 2 of the Inceptions).
"""

import csv
import fnmatch
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib import resources
from typing import Any

from hubkeras.common.choices import Task
from hubkeras.common.errors import Error, did_you_mean
from hubkeras.common.metadata import Metadata
from hubkeras.common.networks import NETWORKS, Paper
from hubkeras.consuming.cache import TFHUB

CLASSES = 1001  # background and the 1000 classes of ILSVRC-2012


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


def _classifiers() -> Iterator[Module]:
    """The classifiers, of which `catalog.csv` has a line each; empty fields are None."""
    text = resources.files("hubkeras.publishing").joinpath("catalog.csv").read_text("utf-8")
    numbers: dict[str, type] = {
        **dict.fromkeys(("image_size", "features", "parameters", "multiply_adds", "published_multiply_adds"), int),
        **dict.fromkeys(("depth_multiplier", "published_parameters", "top_1", "top_5"), float),
    }
    for row in csv.DictReader(text.splitlines()):
        facts: dict[str, Any] = {name: numbers.get(name, str)(value) for name, value in row.items() if value}
        facts["versions"] = tuple(map(int, row["versions"].split()))
        facts["kaggle"] = tuple(row["kaggle"].split())
        facts["fixed_size"] = bool(row["fixed_size"])
        yield Module(**facts, paper=NETWORKS[row["architecture"]].paper)


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
    for module in _classifiers():
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
    """The modules whose handle has `pattern` in it, in any case; `*` and `?` stand for any characters, as in a shell.

    >>> [module.image_size for module in search("*mobilenet_v2_035_*/classification")]
    [128, 160, 192, 224, 96]
    """
    pattern = pattern.lower() if set("*?[") & set(pattern) else f"*{pattern.lower()}*"
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
            advice = f"`hubkeras export SOURCE OUT_DIR --task {value}` makes it; or give" if name == "task" else "Give"
            raise Error(
                f"{handle} stands for a SavedModel with {name} {value}; this one has {getattr(metadata, name)}. "
                f"{advice} the handle of its network, or a name of your own."
            )
    if metadata.fixed_image_size and not module.fixed_size:
        raise Error(f"{handle} accepts images of any size; this SavedModel has a fixed size. Export without it.")
