"""What is to be written: the network of a source, and all that is known of it."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common import labels as label_files
from hubkeras.common.choices import Averages, Format, Task
from hubkeras.common.errors import Error
from hubkeras.common.head_layers import without_head
from hubkeras.common.input_range import InputRange
from hubkeras.common.interface import PRECISIONS, Interface
from hubkeras.common.labels import Labels
from hubkeras.common.metadata import LARGEST_IMAGE, Metadata
from hubkeras.common.numbers import plain, whole
from hubkeras.common.preprocessing import preprocessing_of, source_files
from hubkeras.common.progress import Progress, silent
from hubkeras.common.version import __version__, version_of
from hubkeras.converters import Report, read_network
from hubkeras.converters.sources import models_in_memory
from hubkeras.converters.sources.models_in_memory import KerasModel
from hubkeras.exporting.calibration import Calibration, calibration_images
from hubkeras.exporting.formats import FORMATS
from hubkeras.publishing import catalog

Model = SlimNetwork | KerasModel | str | os.PathLike[str]


@dataclass(frozen=True)
class Source:
    """A network to write, and what is known of where it comes from; None for what is not.

    Attributes:
        network: it is not changed.
        name: what it is, for people.
        image_size: height and width in pixels that it was trained with.
        provenance: where its weights came from, see `Metadata.source`.
        averages: which weights it has.
        num_classes: of the head that it was trained with, also where the network has none.
        report: what became of each tensor that it was read from.
        in_memory: whether it was given as a model, not as a file that should have a head.
    """

    network: SlimNetwork
    name: str = "the network"
    image_size: int | None = None
    provenance: dict[str, Any] | None = None
    averages: Averages | None = None
    num_classes: int | None = None
    report: Report | None = None
    in_memory: bool = False

    @property
    def metadata(self) -> Metadata | None:
        """What the source says of itself."""
        return self.report.metadata if self.report else None

    @property
    def labels(self) -> list[str] | None:
        """Class names that the source has."""
        return self.report.labels if self.report else None

    @property
    def task(self) -> Task:
        """What to write where nobody says: what a SavedModel was for, else a classifier, but for headless networks."""
        if self.metadata:
            return self.metadata.task
        if self.network.endpoints is not None:
            return Task.BACKBONE
        return Task.CLASSIFICATION if self.network.num_classes or not self.in_memory else Task.FEATURE_VECTOR


@dataclass(frozen=True)
class Plan:
    """What is to be written.

    Attributes:
        format: of what is written.
        source: of the network.
        metadata: of what is written.
        labels: class names, or None where there is no head.
        calibration: images for the ranges of 8 bits, or None.
    """

    format: Format
    source: Source
    metadata: Metadata
    labels: list[str] | None
    calibration: Calibration | None = None


def resolve(
    model: Model,
    task: Task | None = None,
    weights: str | None = None,
    provenance: dict[str, Any] | None = None,
    progress: Progress = silent,
    images: Mapping[str, Any] = MappingProxyType({}),
) -> Source:
    """The network that was given, or that of a source of weights.

    Args:
        model, task, weights, provenance, progress: as for `export`.
        images: its arguments `input_range`, `input_mean` and `input_std`.
    """
    averages = None if weights is None else Averages.of(weights, "weights")
    seen = _seen(images)
    if isinstance(model, SlimNetwork):
        own = InputRange.of_settings(model.settings())
        if seen and seen != own:
            raise Error(
                f"The network sees images as {own}; got {seen}. Build it with that range, and leave it out here."
            )
        classes = model.num_classes
        return Source(model, provenance=provenance, averages=averages, num_classes=classes, in_memory=True)
    if not isinstance(model, str | os.PathLike) and not models_in_memory.library_of(model):
        layer = "; put it into a model, keras.Sequential([layer])" if models_in_memory.is_layer(model) else ""
        raise Error(
            "export and convert take a hubkeras network (hubkeras.MobileNetV2(...)), a Keras or tf_keras model of one "
            f"with a head, or the path of a checkpoint or of such a model; got a {type(model).__name__}{layer}."
        )
    in_memory = models_in_memory.library_of(model) is not None
    head: dict[str, Any] = {} if task in (None, Task.CLASSIFICATION) else {"num_classes": None}
    network, match, report = read_network(model, weights=averages, progress=progress, seen=seen, **head)
    return Source(
        network,
        "the model" if in_memory else "the checkpoint",
        match.image_size if match.names_image_size else None,
        provenance or report.provenance,
        report.weights,
        match.settings.get("num_classes"),
        report,
        in_memory,
    )


def _seen(images: Mapping[str, Any]) -> InputRange | None:
    """The range of images that a caller gives, None where it gives none."""
    if all(value is None for value in images.values()):
        return None
    try:
        return InputRange.of_settings(images)
    except ValueError as error:
        raise Error(str(error)) from error


def adapt(source: Source, task: Task, endpoints: Sequence[str] | None, output_stride: int | None) -> Source:
    """The source, or where a task needs other settings of its network, one with a network of the same weights.

    Raises:
        hubkeras.Error: the network has no such end points or setting, or the task does not take them.
    """
    if endpoints is not None and task != Task.BACKBONE:
        raise Error(f"endpoints are for a backbone; leave them out when exporting a {task}.")
    network = source.network
    changes: dict[str, Any] = {} if output_stride is None else {"output_stride": output_stride}
    try:
        if task == Task.BACKBONE and endpoints is not None:
            changes["endpoints"] = endpoints
        elif task == Task.BACKBONE and network.endpoints is None:
            changes["endpoints"] = network.copy(**changes).stride_endpoints()
        return dataclasses.replace(source, network=network.copy(**changes)) if changes else source
    except ValueError as error:
        raise Error(str(error)) from error


def plan_saved_model(
    source: Source,
    task: Task,
    labels: Labels,
    image_size: int | None,
    handle: str | None,
    fixed_size: bool,
    frozen: bool,
) -> Plan:
    """What to write of a source as a SavedModel; arguments as for `export`."""
    names = _labels(source, task, labels)
    metadata = describe(source, task, names, image_size, handle, bool(fixed_size))
    return Plan(Format.SAVED_MODEL, source, dataclasses.replace(metadata, frozen=bool(frozen)), names)


def plan_file(
    format: Format,
    source: Source,
    task: Task,
    labels: Labels,
    image_size: int | None,
    options: Mapping[str, Any],
) -> Plan:
    """What to write of a source in another format; arguments as for `convert`."""
    names = _labels(source, task, labels)
    metadata = describe(source, task, names, image_size, fixed_size="fixed_size" in options)
    if not FORMATS[format].for_inference:
        return Plan(format, source, _of_weights(metadata, source), names)
    metadata = dataclasses.replace(metadata, frozen=True, interface=_interface(source.network, metadata, options))
    calibration = None
    if "int8" in options:
        calibration = calibration_images(options["int8"], metadata.default_image_size, metadata.preprocessing)
    return Plan(format, source, metadata, names, calibration)


def describe(
    source: Source,
    task: Task,
    labels: Sequence[str] | None = None,
    image_size: int | None = None,
    handle: str | None = None,
    fixed_size: bool = False,
) -> Metadata:
    """Metadata of a model of a source; arguments as for `export`, the class names in a list.

    Raises:
        hubkeras.Error: the size is out of range, or the handle stands for another model.
    """
    network, own = source.network, source.metadata
    handle = handle or (own.handle if own and own.task == task else None)
    published = catalog.publication(handle)
    size = source.image_size or (published.image_size if published else network.default_image_size)
    size = size if image_size is None else whole(image_size, "image_size")
    if not network.minimum_image_size <= size <= LARGEST_IMAGE:
        bounds = f"at least {network.minimum_image_size} and at most {LARGEST_IMAGE}"
        raise Error(f"image_size must be {bounds} for {network.name}; got {size}.")
    cut = (own or source.report).preprocessing if source.report else None
    files = source_files(source.provenance)
    settings = network.settings() if task == Task.CLASSIFICATION else without_head(network.settings())
    metadata = Metadata(
        architecture=network.architecture,
        task=task,
        depth_multiplier=settings.get("depth_multiplier", 1.0),
        default_image_size=size,
        minimum_image_size=network.minimum_image_size,
        fixed_image_size=fixed_size or bool(published and published.fixed_size),
        num_features=network.num_features,
        num_classes=settings["num_classes"],
        settings=settings,
        source=plain(source.provenance),
        weights=source.averages,
        handle=handle,
        versions={"hubkeras": __version__, **{name: version_of(name) for name in ("keras", "tensorflow")}},
        preprocessing=cut or preprocessing_of(handle, files, source.num_classes, labels or source.labels),
    )
    if handle is not None:
        catalog.check_metadata(handle, metadata)
    return metadata


def _labels(source: Source, task: Task, labels: Labels) -> list[str] | None:
    """The class names to write, None where there is no head."""
    network = source.network
    if source.report and task == Task.CLASSIFICATION and network.num_classes is None:
        raise Error(f"{source.report.source} has no Logits; write it as a feature_vector (--task feature_vector).")
    if task != Task.CLASSIFICATION or network.num_classes is None:
        if labels is not None:
            raise Error("labels are for a classification head; leave them out when exporting a feature_vector.")
        return None
    return list(label_files.chosen_labels(labels, network.num_classes, source.labels))


def _of_weights(metadata: Metadata, source: Source) -> Metadata:
    """Metadata of a file of weights: what the source says of itself, so that it is read again as what it was."""
    network, own = source.network, source.metadata or metadata
    headless = metadata.task if own.task == Task.CLASSIFICATION else own.task
    return dataclasses.replace(
        own,
        task=Task.CLASSIFICATION if network.num_classes else headless,
        default_image_size=metadata.default_image_size,
        num_classes=network.num_classes,
        settings=network.settings(),
        source=metadata.source,
        weights=metadata.weights,
        frozen=False,
        versions=metadata.versions,
    )


def _interface(network: SlimNetwork, metadata: Metadata, options: Mapping[str, Any]) -> Interface:
    """Inputs and outputs of a file for a runtime; end points may be named as those of a backbone are."""
    strides, scope = network.structure.strides, network.scope
    names = (strides.get(name, name.removeprefix(f"{scope}/")) for name in options.get("endpoints", ()))
    return Interface(
        metadata.task,
        metadata.default_image_size if metadata.fixed_image_size else None,
        tuple(dict.fromkeys(f"{scope}/{name}" for name in names)),
        probabilities="probabilities" in options,
        uint8="uint8" in options,
        precision=next((name for name in reversed(PRECISIONS) if name in options), "float32"),
    )
