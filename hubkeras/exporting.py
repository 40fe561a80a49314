"""The whole way in one function: a network, or any source of weights, becomes a SavedModel that was checked."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hubkeras.common import labels as label_files
from hubkeras.common.errors import Error
from hubkeras.common.files import refuse_existing, without_wildcards, written_whole
from hubkeras.common.metadata import LABELS_FILE, METADATA_FILE, Metadata
from hubkeras.publishing import catalog, documentation

if TYPE_CHECKING:
    from hubkeras.architectures.network import SlimNetwork
    from hubkeras.converters import Report
    from hubkeras.converters.verifying import Parity

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Written:
    """What `export` has done.

    Attributes:
        path: what was written.
        metadata: what it says of itself.
        report: what became of each tensor of the source; None where a network was given.
        parity: how far what was written is from its source; None where it was not checked.
    """

    path: pathlib.Path
    metadata: Metadata
    report: Report | None
    parity: Parity | None


@dataclass
class _Origin:
    """A network, and what is known of where it comes from; None for what is not."""

    network: SlimNetwork
    name: str
    image_size: int | None = None
    provenance: dict[str, Any] | None = None
    weights: str | None = None
    report: Report | None = None


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
    verify: bool = True,
    progress: Progress | None = None,
) -> Written:
    """Writes a SavedModel for `hub.KerasLayer`, `hubkeras.KerasLayer` and TensorFlow Serving.

    It is written beside `directory`, loaded from there and compared with its source, and only then put in place.

    Args:
        model: a `hubkeras.InceptionV2`, `InceptionResNetV2` or `MobileNetV2`, which is not changed; or the path of a
            checkpoint in any form of `hubkeras.converters.sources.ACCEPTED`.
        directory: the folder to write; it appears whole or not at all.
        task: `classification` or `feature_vector`. By default that of `handle`; else the former, but for a network
            without a head.
        labels: class names: a list, or the path of a file with one a line. By default the ILSVRC-2012 names for 1000
            classes, with `background` before them for 1001, and `0, 1, 2, ...` for other numbers.
        image_size: height and width in pixels that the model was trained with. By default what the checkpoint's name
            says, else that of `handle`, else the network's default.
        fixed_size: whether the SavedModel shall accept this size only.
        overwrite: whether to replace a folder that exists.
        frozen: whether to write constants in place of variables, with batch norm folded into the convolutions: the
            fastest form, for inference alone.
        provenance: where the weights of a network came from, for the metadata, `{"checkpoint": name, "sha256":
            {file name: digest}}`; a checkpoint gives its own.
        weights: of a checkpoint: `ema` takes the moving averages of the weights where there are any, which is the
            default, `raw` never. Of a network: which of these it has, for the metadata.
        handle: the name that it is published under, for the metadata. One of the catalogue (`hubkeras catalog`) gives
            the task and the image size, and is refused for another network.
        verify: whether to load what was written and compare it with its source, which takes seconds.
        progress: called with (done, total, what) as work goes on.

    Returns:
        A `Written`.

    Raises:
        hubkeras.Error: the checkpoint cannot be read, an argument does not fit, the folder exists or cannot be written,
            or what was written differs from its source. The folder is then as it was before.
    """
    refuse_existing(directory, overwrite)
    progress = progress or _in_silence
    published = catalog.publication(handle)
    task = task or (published.task if published else None)
    origin = _origin(model, task, weights, provenance, progress)
    network = origin.network
    task = task or ("feature_vector" if network.num_classes is None else "classification")
    known_size = published.image_size if published else network.default_image_size
    size = image_size or origin.image_size or known_size
    if size < network.minimum_image_size:
        raise Error(f"image_size must be at least {network.minimum_image_size} for {network.name}; got {size}.")
    metadata = Metadata.of_network(
        network,
        task,
        default_image_size=size,
        fixed_image_size=fixed_size or bool(published and published.fixed_size),
        source=origin.provenance,
        weights=origin.weights,
        frozen=frozen,
        handle=handle,
    )
    if published is not None:
        catalog.check_metadata(handle, metadata)
    texts = {"metadata": (METADATA_FILE, metadata.to_json())}
    names = _labels(network, task, labels)
    if names is not None:
        texts["labels"] = (LABELS_FILE, "\n".join(names))
    progress(0, 1, "writing the SavedModel")
    with written_whole(directory, overwrite) as partial, _without_collection():
        _save(network, metadata, texts, partial, directory)
        parity = None
        if verify:
            progress(0, 1, "checking")
            parity = _checked(partial, origin, directory)
        record = dataclasses.asdict(parity) if parity else None
        documentation.write(partial, record, os.path.basename(os.path.abspath(directory)))
    return Written(pathlib.Path(directory), metadata, origin.report, parity)


@contextlib.contextmanager
def _without_collection():
    """Python's garbage collector off: it would walk TensorFlow's million objects again and again, a second or two."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _in_silence(done: int, total: int, what: str) -> None:
    pass


def _origin(model, task, weights, provenance, progress):
    """The network to write: the one that was given, or that of a checkpoint."""
    from hubkeras.architectures.network import SlimNetwork
    from hubkeras.converters import read_network

    if isinstance(model, SlimNetwork):
        return _Origin(model, "the network", provenance=provenance, weights=weights)
    if not isinstance(model, str | os.PathLike):
        raise Error(
            "export takes a hubkeras network (hubkeras.MobileNetV2(...), ...) or the path of a checkpoint; got a "
            f"{type(model).__name__}."
        )
    head = {} if task in (None, "classification") else {"num_classes": None}
    network, found, report = read_network(model, weights=weights or "ema", progress=progress, **head)
    if not head and network.num_classes is None:
        raise Error(f"{os.fspath(model)} has no Logits; export it as a feature_vector (--task feature_vector).")
    size = found.image_size if found.names_image_size else None
    return _Origin(network, "the checkpoint", size, report.provenance, report.weights, report)


def _labels(network, task, labels):
    """The class names to write, None where there is no head."""
    if task != "classification" or network.num_classes is None:
        if labels is not None:
            raise Error("labels are for a classification head; leave them out when exporting a feature_vector.")
        return None
    if labels is None:
        return label_files.default_labels(network.num_classes)
    if isinstance(labels, str | os.PathLike):
        return label_files.read_labels(labels, network.num_classes)
    label_files.check_labels(labels, network.num_classes)
    return labels


def _save(network, metadata, texts, partial, directory):
    """Writes the SavedModel itself, with `texts`, `{attribute: (file name, text)}`, as its assets."""
    import tensorflow as tf

    from hubkeras.packaging.frozen import frozen_module
    from hubkeras.packaging.reproducible import finish
    from hubkeras.packaging.reusable import reusable_module

    build = frozen_module if metadata.frozen else reusable_module
    with tempfile.TemporaryDirectory() as scratch:
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
        except tf.errors.OpError as error:
            reason = error.message.splitlines()[0]
            raise Error(f"Cannot write {directory}: {reason}; it is as it was before.") from error


def _checked(partial, origin, directory):
    """The parity of what was written with its source, which must be within the bound."""
    import tensorflow as tf

    from hubkeras.converters.verifying import compare

    try:
        parity = compare(partial, origin.network, origin.name)
    except (tf.errors.OpError, MemoryError) as error:
        reason = str(getattr(error, "message", error)).splitlines()[0]
        raise Error(f"{directory} could not be checked ({reason}); it is as it was before.") from error
    if not parity.passed:
        raise Error(
            f"{directory} failed its check: {parity.weights_different} of {parity.weights_compared} weights differ "
            f"from those of {origin.name}, and its {parity.output} by {parity.error:.1e} of the largest (at most "
            f"{parity.bound:.0e} is accepted); it is as it was before."
        )
    return parity
