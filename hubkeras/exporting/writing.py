"""`export` and `convert`: resolve, plan, write beside the target, load what was written, compare, put it in place."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hubkeras.common import addresses
from hubkeras.common.choices import Format, Task
from hubkeras.common.collecting import without_collection
from hubkeras.common.endings import folder_to_write, format_of
from hubkeras.common.errors import Error, first_line, no_place, tensorflow_errors
from hubkeras.common.files import TemporaryFolder
from hubkeras.common.metadata import Metadata
from hubkeras.common.parity import Parity
from hubkeras.common.plain_settings import own_random_state, plain_settings
from hubkeras.common.preprocessing import Preprocessing
from hubkeras.common.progress import Progress, silent
from hubkeras.common.staging import refuse_existing, rehearsed, staged
from hubkeras.converters import Report
from hubkeras.exporting.formats import FORMATS
from hubkeras.exporting.planning import Labels, Model, Plan, adapt, plan_file, plan_saved_model, resolve
from hubkeras.publishing import catalog, documentation
from hubkeras.runtimes import inference, measuring
from hubkeras.verifying import comparing


@dataclass(frozen=True)
class Export:
    """What `export` or `convert` has written.

    Attributes:
        path: what was written, as the caller named it.
        dry_run: whether nothing was, and this is what would be.
        metadata: of what was written.
        report: what became of each tensor of the source; None where a network was given.
        parity: how far what was written is from its source; None where it was not checked.
        files: the files or the folder that were written.
        parameters: of a file for a runtime, how many weights and biases it has.
        notes: sentences of the report, and those about what was written.
        calibration: of 8 bits, which images the ranges were found with, else empty.
        speedups: of 8 bits, how many times as fast as in float32 it is here, by the number of images in a call.
    """

    path: pathlib.Path
    metadata: Metadata
    report: Report | None
    parity: Parity | None
    files: tuple[pathlib.Path, ...]
    parameters: int | None = None
    notes: Sequence[str] = ()
    calibration: dict[str, Any] = dataclasses.field(default_factory=dict)
    speedups: dict[str, float] = dataclasses.field(default_factory=dict)
    dry_run: bool = False


@plain_settings()
def export(
    model: Model,
    directory: str | os.PathLike[str],
    task: str | None = None,
    *,
    labels: Labels = None,
    image_size: int | None = None,
    fixed_size: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    frozen: bool = False,
    provenance: dict[str, Any] | None = None,
    weights: str | None = None,
    handle: str | None = None,
    endpoints: Sequence[str] | None = None,
    output_stride: int | None = None,
    input_range: Sequence[float] | None = None,
    input_mean: Sequence[float] | float | None = None,
    input_std: Sequence[float] | float | None = None,
    preprocessing: Preprocessing | None = None,
    verify: bool = True,
    progress: Progress | None = None,
) -> Export:
    """Writes a SavedModel for `hub.KerasLayer`, `hubkeras.KerasLayer` and TensorFlow Serving.

    It is written beside `directory`, loaded from there and compared with its source, and only then put in place.

    Args:
        model: a `hubkeras.InceptionV2`, `InceptionResNetV2` or `MobileNetV2`, which is not changed; or a source of
            weights: the path or address of a TF-Slim checkpoint, a SavedModel, which gives the defaults, or another of
            the forms on the page *Weights*.
        directory: the folder to write; it appears whole or not at all.
        task: `classification`, `feature_vector` or `backbone`, which returns feature maps; by default the first that
            the network can be.
        labels: class names: a list, or the path of a file with one a line. By default the ILSVRC-2012 names for 1000
            classes, with `background` before them for 1001, and `0, 1, 2, ...` for other numbers.
        image_size: height and width in pixels that it was trained with, by default as the source's name says, or else
            the network's default.
        fixed_size: whether the SavedModel shall accept this size only.
        overwrite: whether to replace a folder that exists, where hubkeras wrote it or it is empty.
        dry_run: whether to stop before anything is written; what is returned is what would be.
        frozen: whether to write constants in place of variables, with batch norm folded into the convolutions: the
            fastest format, for inference alone.
        provenance: where the weights of a network came from, `{"checkpoint": name, "sha256": {file: digest}}`.
        weights: of a source: `ema` takes the moving averages of the weights where there are any, `raw` never; by
            default as the source says that it was made, else `ema`. Of a network: which of these it has, for the
            metadata.
        handle: the name that it is published under. One of the catalogue (`hubkeras catalog`) gives the task and the
            image size, and is refused for another network.
        endpoints: feature maps of a backbone, by stride or by Slim's names, such as
            `["stride_8", "layer_15/expansion_output"]`; by default the network's own, else the last of each stride
            from 4.
        output_stride: 8 or 16: convolutions are dilated where the network would go on to stride, as in Slim.
        input_range: the lowest and highest value of the pixels that the base was trained on, where the source does not
            say it: `(0, 1)`, `(0, 255)`; by default `(-1, 1)`, as TF-Slim's. What is written takes images in [0, 1].
        input_mean, input_std: in place of a range, mean and deviation of red, green and blue that images in [0, 1] were
            normalized with.
        preprocessing: how images are cut for it, by default as its source says or as such a network was published.
        verify: whether to compare what was written with its source, which takes seconds.
        progress: called with (done, total, what) as work goes on.

    Raises:
        hubkeras.Error: the source cannot be read, an argument does not fit, the folder exists or cannot be written, or
            what was written differs from its source. The folder is then as it was before.

    Examples:
        >>> written = hubkeras.export("digits.tgz", "features", task="feature_vector")
        >>> written.metadata.num_features, written.parity.weights_different
        (1280, 0)
        >>> network = hubkeras.MobileNetV2(0.35, num_classes=2)
        >>> hubkeras.export(network, "pets", labels=["cat", "dog"], image_size=96, verify=False).path.name
        'pets'
    """
    with rehearsed(dry_run):
        path, progress = folder_to_write(directory, overwrite, [model, labels]), progress or silent
    published = catalog.publication(handle)
    task = Task.of(task, "task") if task else published.task if published else None
    images = {"input_range": input_range, "input_mean": input_mean, "input_std": input_std}
    source = resolve(model, task, weights, provenance, progress, images)
    task = task or (Task.BACKBONE if endpoints else source.task)
    source = adapt(source, task, endpoints, output_stride)
    plan = plan_saved_model(source, task, labels, image_size, handle, fixed_size, frozen)
    if preprocessing is not None:
        plan = dataclasses.replace(plan, metadata=dataclasses.replace(plan.metadata, preprocessing=preprocessing))
    return _outcome(plan, path) if dry_run else _write(plan, path, overwrite, verify, progress)


@plain_settings()
def convert(
    model: Model,
    path: str | os.PathLike[str],
    task: str | None = None,
    *,
    to: str | None = None,
    labels: Labels = None,
    image_size: int | None = None,
    weights: str | None = None,
    input_range: Sequence[float] | None = None,
    input_mean: Sequence[float] | float | None = None,
    input_std: Sequence[float] | float | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Export:
    """Writes a network in another format than a SavedModel.

    Args:
        model: as for `export`.
        path: the file to write, whose ending says what it is: `.weights.h5` for Keras weights, `.npz` for NumPy
            arrays under Slim's names, `.onnx` for ONNX Runtime, `.tflite` for LiteRT, `.xml` for OpenVINO, whose
            weights go beside it into a `.bin`.
        task: `classification` or `feature_vector`; by default the former where there is a head.
        to: the format where the ending does not tell it: `slim` for a TF-Slim checkpoint, `path` being its prefix.
        labels, image_size, weights, input_range, input_mean, input_std: as for `export`.
        overwrite: whether to replace what exists, where hubkeras wrote it or it is empty.
        dry_run: as for `export`.
        progress: called with (done, total, what) as work goes on.
        options: those of the format; None and False are ignored. Of files for runtimes:
            `fixed_size`, whether to accept this size only; `endpoints`, named as for `export`, that are outputs too;
            `probabilities`, whether to give the softmax of the logits; `uint8`, whether to take raw pixels in [0, 255]
            in place of float32 in [0, 1]; `float16`, whether to keep the weights in half precision;
            `bfloat16`, whether OpenVINO shall compute in that where the processor does; `int8`,
            100 to 500 images for 8-bit integers: a folder, a tar archive, an `.npz` file with one array, or an array
            `[number, height, width, 3]`, RGB, float in [0, 1] or uint8.

    Returns:
        An `Export`.

    Raises:
        hubkeras.Error: the source cannot be read, an argument does not fit, or the file exists or cannot be written.

    Examples:
        >>> written = hubkeras.convert("digits.tgz", "digits.weights.h5")
        >>> written.parity.weights_compared, written.parity.weights_different
        (262, 0)
    """
    format, path, progress = format_of(path, to), pathlib.Path(addresses.output(path)), progress or silent
    options = FORMATS[format].chosen(options, path)
    with rehearsed(dry_run):
        for file in FORMATS[format].files(path):
            refuse_existing(file, overwrite, [model, labels, options.get("int8")])
    task = Task.of(task, "task") if task else None
    images = {"input_range": input_range, "input_mean": input_mean, "input_std": input_std}
    source = resolve(model, task, weights, None, progress, images)
    task = task or (Task.FEATURE_VECTOR if source.network.num_classes is None else Task.CLASSIFICATION)
    if task == Task.BACKBONE:
        raise Error("A backbone is a SavedModel; write it with export, or choose another task.")
    plan = plan_file(format, source, task, labels, image_size, options)
    return _outcome(plan, path) if dry_run else _write(plan, path, overwrite, True, progress)


def write_unchecked(model: Model, path: pathlib.Path, task: Task) -> None:
    """Writes a file as `convert` does, straight to its place and without its check; for whoever compares it anyway.

    Args:
        model, task: as for `convert`.
        path: the file, in a folder that nobody reads yet.

    Raises:
        hubkeras.Error: the source cannot be read, or the file cannot be written.
    """
    with without_collection(), own_random_state():
        plan = plan_file(format_of(path, None), resolve(model, task), task, None, None, {})
        _write_files(plan, path, path)


def _write(plan: Plan, path: pathlib.Path, overwrite: bool, verify: bool, progress: Progress) -> Export:
    """Writes beside the target, loads what was written, compares it with the source, and puts it in place."""
    files = FORMATS[plan.format].files(path)
    with staged(files[0], overwrite, [file.name for file in files[1:]]) as first, without_collection():
        name = os.path.basename(os.path.abspath(path))
        staging = first.with_name(name)
        progress(0, 1, "writing")
        notes = _write_files(plan, staging, path)
        parity = None
        if verify:
            progress(0, 1, "checking")
            parity = _compare(plan, staging, path)
        speedups = _speedups(plan, staging) if plan.calibration else {}
        if plan.format == Format.SAVED_MODEL:
            documentation.write(staging, parity, name)
    return _outcome(plan, path, parity=parity, notes=notes, speedups=speedups, dry_run=False)


def _outcome(
    plan: Plan,
    path: pathlib.Path,
    *,
    parity: Parity | None = None,
    notes: Sequence[str] = (),
    speedups: Mapping[str, float] = MappingProxyType({}),
    dry_run: bool = True,
) -> Export:
    """The record of what was written, or of what would be."""
    source, metadata, calibration = plan.source, plan.metadata, plan.calibration
    return Export(
        path,
        metadata,
        source.report,
        parity,
        tuple(FORMATS[plan.format].files(path)),
        inference.parameters(source.network, metadata.task) if metadata.interface else None,
        [*(source.report.notes if source.report else []), *notes],
        calibration.facts() if calibration else {},
        dict(speedups),
        dry_run,
    )


def _write_files(plan: Plan, staging: pathlib.Path, path: pathlib.Path) -> Sequence[str]:
    """Writes what `path` shall be to `staging`, and returns sentences on what it does not hold."""
    images = {"calibration": plan.calibration.images} if plan.calibration else {}
    try:
        return FORMATS[plan.format].write(plan.source.network, staging, plan.metadata, plan.labels, **images) or ()
    except UnicodeError as error:
        raise Error(f"{str(path)!a} is not UTF-8; give it a name of UTF-8 text.") from error
    except tensorflow_errors() as error:
        if place := no_place(error, staging.parent):
            raise place from error
        raise Error(f"Cannot write {path}: {first_line(error)}; it is as it was before.") from error


def _speedups(plan: Plan, staging: pathlib.Path) -> dict[str, float]:
    """How many times as fast as in float32 a file in 8 bits is on this machine."""
    metadata = plan.metadata
    assert metadata.interface is not None
    exact = dataclasses.replace(metadata, interface=dataclasses.replace(metadata.interface, precision="float32"))
    with TemporaryFolder() as folder:
        path = pathlib.Path(folder, staging.name)
        FORMATS[plan.format].write(plan.source.network, path, exact, plan.labels)
        return measuring.speedups(staging, path)


def _compare(plan: Plan, staging: pathlib.Path, path: pathlib.Path) -> Parity:
    """The parity of what was written with its source, which must be within the bound."""
    source = plan.source
    digests = source.report.digests if source.report else None
    images = plan.calibration.held_back if plan.calibration else None
    try:
        parity = comparing.compare(staging, source.network, source.name, digests=digests, images=images)
    except tensorflow_errors(MemoryError) as error:
        raise Error(f"{path} could not be checked ({first_line(error)}); it is as it was before.") from error
    return parity.require(path)
