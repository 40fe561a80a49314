"""The whole way in one function: a network, or any source of weights, becomes a SavedModel or another form."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hubkeras.common import addresses
from hubkeras.common import labels as label_files
from hubkeras.common.collecting import without_collection
from hubkeras.common.errors import Error, first_line
from hubkeras.common.files import TemporaryFolder, without_wildcards
from hubkeras.common.forms import Job, folder_to_write, form_of
from hubkeras.common.interface import Interface
from hubkeras.common.metadata import LABELS_FILE, LARGEST_IMAGE, METADATA_FILE, Metadata
from hubkeras.common.numbers import whole
from hubkeras.common.preprocessing import preprocessing_of, source_files
from hubkeras.common.staging import refuse_existing, staged
from hubkeras.packaging.settings import plain_settings
from hubkeras.publishing import catalog, documentation

if TYPE_CHECKING:
    from hubkeras.architectures.network import SlimNetwork
    from hubkeras.converters import Parity, Report

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Written:
    """What `export` or `convert` has done.

    Attributes:
        path: what was written, as the caller named it.
        metadata: what it says of itself.
        report: what became of each tensor of the source; None where a network was given.
        parity: how far what was written is from its source; None where it was not checked.
        files: the files or the folder that were written.
        parameters: of a file for a runtime, how many weights and biases it has.
        notes: sentences of the report, and those about what was written.
        calibration: of 8 bits, what `hubkeras.consuming.images.Calibration.facts` tells, else empty.
    """

    path: pathlib.Path
    metadata: Metadata
    report: Report | None
    parity: Parity | None
    files: tuple[pathlib.Path, ...]
    parameters: int | None = None
    notes: Sequence[str] = ()
    calibration: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class _Origin:
    """A network, and what is known of where it comes from; None for what is not."""

    network: SlimNetwork
    name: str
    image_size: int | None = None
    provenance: dict[str, Any] | None = None
    weights: str | None = None
    report: Report | None = None
    classes: int | None = None  # of the head that it was trained with, also where the network has none

    @property
    def labels(self) -> list[str] | None:
        return self.report.labels if self.report else None

    def handle(self, task: str) -> str | None:
        """The name that the source, a SavedModel for this task, was published under."""
        own = self.report.metadata if self.report else None
        return own.handle if own and own.task == task else None


@plain_settings()
def export(
    model: SlimNetwork | str | os.PathLike[str],
    directory: str | os.PathLike[str],
    task: str | None = None,
    *,
    labels: Sequence[str] | str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    fixed_size: bool = False,
    overwrite: bool = False,
    frozen: bool = False,
    provenance: dict[str, Any] | None = None,
    weights: str | None = None,
    handle: str | None = None,
    endpoints: Sequence[str] | None = None,
    output_stride: int | None = None,
    verify: bool = True,
    progress: Progress | None = None,
) -> Written:
    """Writes a SavedModel for `hub.KerasLayer`, `hubkeras.KerasLayer` and TensorFlow Serving.

    It is written beside `directory`, loaded from there and compared with its source, and only then put in place.

    Args:
        model: a `hubkeras.InceptionV2`, `InceptionResNetV2` or `MobileNetV2`, which is not changed; or a source of
            weights in any form of `hubkeras.converters.sources.ACCEPTED`. A SavedModel as source gives the defaults.
        directory: the folder to write; it appears whole or not at all.
        task: `classification`, `feature_vector` or `backbone`, which returns feature maps; by default the first that
            the network can be.
        labels: class names: a list, or the path of a file with one a line. By default the ILSVRC-2012 names for 1000
            classes, with `background` before them for 1001, and `0, 1, 2, ...` for other numbers.
        image_size: height and width in pixels that it was trained with, by default as the source's name says, or else
            the network's default.
        fixed_size: whether the SavedModel shall accept this size only.
        overwrite: whether to replace a folder that exists, where hubkeras wrote it or it is empty.
        frozen: whether to write constants in place of variables, with batch norm folded into the convolutions: the
            fastest form, for inference alone.
        provenance: where the weights of a network came from, `{"checkpoint": name, "sha256": {file: digest}}`.
        weights: of a source: `ema`, the default, takes the moving averages of the weights where there are any, `raw`
            never. Of a network: which of these it has, for the metadata.
        handle: the name that it is published under. One of the catalogue (`hubkeras catalog`) gives the task and the
            image size, and is refused for another network.
        endpoints, output_stride: see `hubkeras.packaging.modules.network_for`.
        verify: whether to compare what was written with its source, which takes seconds.
        progress: called with (done, total, what) as work goes on.

    Raises:
        hubkeras.Error: the source cannot be read, an argument does not fit, the folder exists or cannot be written, or
            what was written differs from its source. The folder is then as it was before.
    """
    from hubkeras.packaging.modules import network_for

    directory = folder_to_write(directory, overwrite, [model, labels])
    published = catalog.publication(handle)
    task = task or (published.task if published else None)
    origin = _origin(model, task, weights, provenance, progress or _in_silence)
    task = task or ("backbone" if endpoints else _task(origin))
    origin = dataclasses.replace(origin, network=network_for(origin.network, task, endpoints, output_stride))
    names = _labels(origin, task, labels)
    metadata = _metadata(origin, task, names, image_size, handle, fixed_size, frozen)
    return _export(origin, metadata, names, directory, overwrite, verify, progress or _in_silence)


def _export(origin, metadata, names, directory, overwrite, verify, progress):
    texts = {"metadata": (METADATA_FILE, metadata.to_json())}
    if names is not None:
        texts["labels"] = (LABELS_FILE, "\n".join(names))
    progress(0, 1, "writing the SavedModel")
    with staged(directory, overwrite) as partial, without_collection():
        _save(origin.network, metadata, texts, partial, directory)
        parity = None
        if verify:
            progress(0, 1, "checking")
            parity = _checked(partial, origin, directory)
        path, name = pathlib.Path(directory), os.path.basename(os.path.abspath(directory))
        documentation.write(partial, parity and dataclasses.asdict(parity), name)
    return Written(path, metadata, origin.report, parity, (path,), notes=getattr(origin.report, "notes", ()))


def _metadata(origin, task, labels, image_size, handle, fixed_size, frozen):
    """What is written says of itself."""
    network, handle = origin.network, handle or origin.handle(task)
    published = catalog.publication(handle)
    default = origin.image_size or (published.image_size if published else network.default_image_size)
    size = default if image_size is None else whole(image_size, "image_size")
    if not network.minimum_image_size <= size <= LARGEST_IMAGE:
        bounds = f"at least {network.minimum_image_size} and at most {LARGEST_IMAGE}"
        raise Error(f"image_size must be {bounds} for {network.name}; got {size}.")
    told = origin.report and (origin.report.metadata or origin.report).preprocessing
    cut = told or preprocessing_of(handle, source_files(origin.provenance), origin.classes, labels or origin.labels)
    metadata = Metadata.of_network(
        network,
        task,
        default_image_size=size,
        fixed_image_size=fixed_size or bool(published and published.fixed_size),
        source=origin.provenance,
        weights=origin.weights,
        frozen=frozen,
        handle=handle,
        preprocessing=cut,
    )
    if published is not None:
        catalog.check_metadata(handle, metadata)
    return metadata


def _in_silence(done: int, total: int, what: str) -> None: ...


def _task(origin):
    """What to write where nobody says: what a SavedModel was for, else a classifier, but for a network without head."""
    if origin.report and origin.report.metadata:
        return origin.report.metadata.task
    if origin.network.endpoints is not None:
        return "backbone"
    return "classification" if origin.report or origin.network.num_classes else "feature_vector"


def _origin(model, task, weights, provenance, progress):
    """The network to write: the one that was given, or that of a checkpoint."""
    from hubkeras.architectures.network import SlimNetwork
    from hubkeras.converters import read_network

    if isinstance(model, SlimNetwork):
        return _Origin(model, "the network", None, provenance, weights, classes=model.num_classes)
    if not isinstance(model, str | os.PathLike):
        raise Error(
            "export and convert take a hubkeras network (hubkeras.MobileNetV2(...), model.layers[0], ...) or the path "
            f"of a checkpoint, such as a saved Keras model; got a {type(model).__name__}."
        )
    head = {} if task in (None, "classification") else {"num_classes": None}
    network, found, report = read_network(model, weights=weights or "ema", progress=progress, **head)
    size = found.image_size if found.names_image_size else None
    classes = found.settings.get("num_classes")
    return _Origin(network, "the checkpoint", size, report.provenance, report.weights, report, classes)


def _labels(origin, task, labels):
    """The class names to write, None where there is no head."""
    network = origin.network
    if origin.report and task == "classification" and network.num_classes is None:
        raise Error(f"{origin.report.source} has no Logits; write it as a feature_vector (--task feature_vector).")
    if task != "classification" or network.num_classes is None:
        if labels is not None:
            raise Error("labels are for a classification head; leave them out when exporting a feature_vector.")
        return None
    return label_files.chosen_labels(labels, network.num_classes, origin.labels)


def _save(network, metadata, texts, partial, directory):
    """Writes the SavedModel itself, with `texts`, `{attribute: (file name, text)}`, as its assets."""
    import tensorflow as tf

    from hubkeras.packaging.frozen import frozen_module
    from hubkeras.packaging.reproducible import finish
    from hubkeras.packaging.reusable import reusable_module

    build = frozen_module if metadata.frozen else reusable_module
    with TemporaryFolder() as scratch:
        assets = {}
        for name, (file, text) in texts.items():
            assets[name] = pathlib.Path(scratch, file)
            assets[name].write_bytes(f"{text}\n".encode())
        size = metadata.default_image_size if metadata.fixed_image_size else None
        module, signatures = build(network, metadata.task, size, assets)
        try:
            partial.mkdir()
            with without_wildcards(partial) as plain:
                tf.saved_model.save(module, str(plain), signatures)
                finish(plain)
        except UnicodeError as error:
            raise Error(f"{directory!a} is not UTF-8; give the folder a name of UTF-8 text.") from error
        except tf.errors.OpError as error:
            raise Error(f"Cannot write {directory}: {first_line(error)}; it is as it was before.") from error


def _checked(partial, origin, directory):
    """The parity of what was written with its source, which must be within the bound."""
    import tensorflow as tf

    from hubkeras.converters.verifying import compare

    try:
        digests = origin.report.digests if origin.report else None
        return compare(partial, origin.network, origin.name, digests=digests).accepted(directory)
    except (tf.errors.OpError, MemoryError) as error:
        raise Error(f"{directory} could not be checked ({first_line(error)}); it is as it was before.") from error


@plain_settings()
def convert(
    model: SlimNetwork | str | os.PathLike[str],
    path: str | os.PathLike[str],
    task: str | None = None,
    *,
    to: str | None = None,
    labels: Sequence[str] | str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    weights: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Written:
    """Writes a network in another form than a SavedModel.

    Args:
        model: as for `export`.
        path: the file to write, whose ending says what it is: `.weights.h5` for Keras weights, `.onnx` for ONNX
            Runtime, `.tflite` for LiteRT, `.xml` for OpenVINO, whose weights go beside it into a `.bin`.
        task: `classification` or `feature_vector`; by default the former where there is a head.
        to: the form where the ending does not tell it: `slim` for a TF-Slim checkpoint, `path` being its prefix.
        labels, image_size, weights: as for `export`.
        overwrite: whether to replace what exists, where hubkeras wrote it or it is empty.
        progress: called with (done, total, what) as work goes on.
        options: what the form takes besides; None and False are as good as left out. Those of files for runtimes:
            `fixed_size`, whether to accept this size only; `endpoints`, names of Slim's end points that become outputs
            too; `probabilities`, whether to give the softmax of the logits; `uint8`, whether to take raw pixels in
            [0, 255] in place of float32 in [0, 1]; `float16`, whether to keep the weights in half precision; `int8`,
            100 to 500 images for 8-bit integers, see `hubkeras.consuming.images.calibration_images`.

    Returns:
        A `Written`.

    Raises:
        hubkeras.Error: the source cannot be read, an argument does not fit, or the file exists or cannot be written.
    """
    form, path, progress = form_of(path, to), pathlib.Path(addresses.output(path)), progress or _in_silence
    options = {name: value for name, value in options.items() if value is not None and value is not False}
    for name in options:
        if name not in form.options:
            raise Error(f"{path} takes no {name} (--{name.replace('_', '-')}); leave it out or write another form.")
    for file in form.files(path):
        refuse_existing(file, overwrite, [model, labels, options.get("int8")])
    origin = _origin(model, task, weights, None, progress)
    task = task or ("feature_vector" if origin.network.num_classes is None else "classification")
    if task == "backbone":
        raise Error("A backbone is a SavedModel; write it with export, or choose another task.")
    names = _labels(origin, task, labels)
    metadata = _metadata(origin, task, names, image_size, None, bool(options.get("fixed_size")), form.serving)
    progress(0, 1, "writing")
    notes = getattr(origin.report, "notes", [])
    job = Job(origin.network, metadata, names, origin.report, path, overwrite, options, notes)
    parity, count = form.write(job), None
    if form.serving:
        from hubkeras.runtimes import inference

        count = inference.parameters(origin.network, task)
    return Written(path, metadata, origin.report, parity, form.files(path), count, notes, job.calibration)


def write_for_runtime(job: Job) -> Parity:
    """The writer of `.onnx`, `.tflite` and `.xml`; what was written is run and compared before it takes its place."""
    from hubkeras.consuming.images import calibration_images
    from hubkeras.converters.verifying import sample_images
    from hubkeras.runtimes import files
    from hubkeras.runtimes.opening import open_model

    size, options = job.metadata.default_image_size, job.options
    interface = Interface(
        job.metadata.task,
        size if job.metadata.fixed_image_size else None,
        tuple(options.get("endpoints", ())),
        probabilities="probabilities" in options,
        uint8="uint8" in options,
        precision="int8" if "int8" in options else "float16" if "float16" in options else "float32",
    )
    calibration, compared = None, sample_images(size)
    if "int8" in options:
        found = calibration_images(options["int8"], size, job.metadata.preprocessing)
        job.calibration.update(found.facts())
        calibration, compared = found.images, found.held_back
    metadata, others = dataclasses.replace(job.metadata, interface=interface), form_of(job.path).files(job.path)[1:]
    with staged(job.path, job.overwrite, [file.name for file in others]) as partial:
        files.write(job.network, partial, metadata, job.labels, calibration)
        return _outputs_parity(open_model(partial), interface, compared, job.network, "the network").accepted(job.path)


@plain_settings()
def verify_file(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    weights: str | None = None,
    progress: Progress | None = None,
    safe_mode: bool = True,
) -> Parity:
    """Compares a file for a runtime, run there, with its source in float64.

    Args:
        path: what `convert` wrote.
        source, weights, progress, safe_mode: as for `hubkeras.converters.verifying.verify_source`.

    Raises:
        hubkeras.Error: either cannot be read, they are of different networks, or the runtime is not installed.
    """
    from hubkeras.converters.verifying import sample_images
    from hubkeras.runtimes.opening import open_model

    model = open_model(path, safe_mode=safe_mode)
    interface, metadata = model.interface, model.metadata
    assert metadata is not None
    origin = _origin(source, metadata.task, weights or metadata.weights, None, progress or _in_silence)
    network = origin.network
    if (network.architecture, network.settings()) != (metadata.architecture, metadata.settings):
        raise Error(f"{path} and {os.fspath(source)} are of different networks: their settings differ.")
    return _outputs_parity(model, interface, sample_images(metadata.default_image_size), network, os.fspath(source))


def _outputs_parity(model, interface, images, network, reference):
    """How far a file that was opened is from its network, on images that both see as the file takes them."""
    from hubkeras.converters.verifying import compare_outputs

    return compare_outputs(
        model.run,
        network,
        interface.task,
        interface.seen(images),
        reference=reference,
        probabilities=interface.probabilities,
        bound=interface.tolerance(network.facts.tolerance),
    )
