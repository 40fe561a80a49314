"""What is to be written: the network of a source, and all that is known of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common import labels as label_files
from hubkeras.common.choices import Averages, Format, Task
from hubkeras.common.errors import Error
from hubkeras.common.interface import Interface
from hubkeras.common.metadata import LARGEST_IMAGE, Metadata
from hubkeras.common.numbers import plain, whole
from hubkeras.common.preprocessing import preprocessing_of, source_files
from hubkeras.common.version import __version__
from hubkeras.converters import Report, read_network
from hubkeras.exporting.calibration import Calibration
from hubkeras.publishing import catalog

Progress = Callable[[int, int, str], None]
Model = SlimNetwork | str | os.PathLike[str]
Labels = Sequence[str] | str | os.PathLike[str] | None


@dataclass(frozen=True)
class Source:
    """A network to write, and what is known of where it comes from; None for what is not.

    Attributes:
        network: it is not changed.
        name: what it is, for people.
        image_size: height and width in pixels that it was trained with.
        provenance: where its weights came from, see `Metadata.source`.
        averages: which weights it has.
        report: what became of each tensor that it was read from.
        num_classes: of the head that it was trained with, also where the network has none.
    """

    network: SlimNetwork
    name: str
    image_size: int | None = None
    provenance: dict[str, Any] | None = None
    averages: Averages | None = None
    report: Report | None = None
    num_classes: int | None = None

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
        return Task.CLASSIFICATION if self.report or self.network.num_classes else Task.FEATURE_VECTOR


@dataclass(frozen=True)
class Plan:
    """What is to be written.

    Attributes:
        format: what is written.
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
    model: Model, task: Task | None, weights: str | None, provenance: dict[str, Any] | None, progress: Progress
) -> Source:
    """The network that was given, or that of a source of weights; arguments as for `export`."""
    averages = None if weights is None else Averages.of(weights, "weights")
    if isinstance(model, SlimNetwork):
        return Source(model, "the network", None, provenance, averages, num_classes=model.num_classes)
    if not isinstance(model, str | os.PathLike):
        raise Error(
            "export and convert take a hubkeras network (hubkeras.MobileNetV2(...), model.layers[0], ...) or the path "
            f"of a checkpoint, such as a saved Keras model; got a {type(model).__name__}."
        )
    head: dict[str, Any] = {} if task in (None, Task.CLASSIFICATION) else {"num_classes": None}
    network, match, report = read_network(model, weights=averages or Averages.EMA, progress=progress, **head)
    size = match.image_size if match.names_image_size else None
    classes = match.settings.get("num_classes")
    averages = Averages(report.weights)
    return Source(network, "the checkpoint", size, report.provenance, averages, report, classes)


def network_for(
    network: SlimNetwork, task: Task, endpoints: Sequence[str] | None = None, output_stride: int | None = None
) -> SlimNetwork:
    """The network, or where a task needs other settings of it, one of the same weights.

    Args:
        network: a `SlimNetwork`.
        task: `backbone` needs `endpoints`.
        endpoints, output_stride: as for `export`.

    Raises:
        hubkeras.Error: the network has no such end points or setting, or the task does not take them.
    """
    if endpoints is not None and task != Task.BACKBONE:
        raise Error(f"endpoints are for a backbone; leave them out when exporting a {task}.")
    changes: dict[str, Any] = {} if output_stride is None else {"output_stride": output_stride}
    try:
        if task == Task.BACKBONE and endpoints is not None:
            changes["endpoints"] = endpoints
        elif task == Task.BACKBONE and network.endpoints is None:
            changes["endpoints"] = network.copy(**changes).stride_endpoints()
        return network.copy(**changes) if changes else network
    except ValueError as error:
        raise Error(str(error)) from error


def labels_for(source: Source, task: Task, labels: Labels) -> list[str] | None:
    """The class names to write, None where there is no head.

    Raises:
        hubkeras.Error: there is no head that they could be for, or the source has none where one was asked for.
    """
    network = source.network
    if source.report and task == Task.CLASSIFICATION and network.num_classes is None:
        raise Error(f"{source.report.source} has no Logits; write it as a feature_vector (--task feature_vector).")
    if task != Task.CLASSIFICATION or network.num_classes is None:
        if labels is not None:
            raise Error("labels are for a classification head; leave them out when exporting a feature_vector.")
        return None
    return list(label_files.chosen_labels(labels, network.num_classes, source.labels))


def describe(
    source: Source,
    task: Task,
    *,
    labels: Sequence[str] | None = None,
    image_size: int | None = None,
    handle: str | None = None,
    fixed_size: bool = False,
    frozen: bool = False,
) -> Metadata:
    """Metadata of the model to write.

    Args:
        source: of the network.
        task: of the model.
        labels: class names, which tell how images are cut for ImageNet's.
        image_size, handle, fixed_size, frozen: as for `export`; by default as the source says.

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
    settings = network.settings()
    if task != Task.CLASSIFICATION:
        settings["num_classes"] = None
    metadata = Metadata(
        architecture=network.architecture,
        task=task,
        depth_multiplier=settings.get("depth_multiplier", 1.0),
        default_image_size=size,
        minimum_image_size=network.minimum_image_size,
        fixed_image_size=bool(fixed_size or (published and published.fixed_size)),
        num_features=network.num_features,
        num_classes=settings["num_classes"],
        settings=settings,
        source=plain(source.provenance),
        weights=source.averages,
        frozen=bool(frozen),
        handle=handle,
        versions={"hubkeras": __version__, "keras": keras.__version__, "tensorflow": tf.__version__},
        preprocessing=cut
        or preprocessing_of(handle, source_files(source.provenance), source.num_classes, labels or source.labels),
    )
    if handle is not None:
        catalog.check_metadata(handle, metadata)
    return metadata


def for_weights(metadata: Metadata, source: Source) -> Metadata:
    """Metadata of a file of weights: what a source says of itself, so that it is read again as what it was."""
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


def for_runtime(metadata: Metadata, options: dict[str, Any]) -> Metadata:
    """Metadata of a file for a runtime, with the interface that options of `convert` ask for."""
    interface = Interface(
        metadata.task,
        metadata.default_image_size if metadata.fixed_image_size else None,
        tuple(options.get("endpoints", ())),
        probabilities="probabilities" in options,
        uint8="uint8" in options,
        precision="int8" if "int8" in options else "float16" if "float16" in options else "float32",
    )
    return dataclasses.replace(metadata, interface=interface)
