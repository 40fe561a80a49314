"""From a network to a SavedModel on disk."""

import os
import tempfile

from hubkeras.common import labels as label_files
from hubkeras.common.errors import Error
from hubkeras.common.files import written_whole
from hubkeras.common.metadata import LABELS_FILE, METADATA_FILE, Metadata
from hubkeras.publishing import catalog, documentation


def export(
    model,
    directory,
    task=None,
    *,
    labels=None,
    image_size=None,
    fixed_size=False,
    overwrite=False,
    frozen=False,
    source=None,
    weights=None,
    handle=None,
):
    """Writes a network as a SavedModel for `hub.KerasLayer`, `hubkeras.KerasLayer` and TensorFlow Serving.

    Args:
        model: a `hubkeras.InceptionV2`, `InceptionResNetV2` or `MobileNetV2`. It is not changed.
        directory: the folder to write; it appears whole or not at all.
        task: `classification` or `feature_vector`; by default the former where the model has a head.
        labels: class names: a list, or the path of a file with one a line. By default the ILSVRC-2012 names for 1000
            classes, with `background` before them for 1001, and `0, 1, 2, ...` for other numbers.
        image_size: height and width in pixels that the model was trained with; the network's default by default.
        fixed_size: whether the SavedModel shall accept this size only.
        overwrite: whether to replace a folder that exists.
        frozen: whether to write constants in place of variables, with batch norm folded into the convolutions: the
            fastest form, for inference alone.
        source: provenance for the metadata, `{"checkpoint": name, "sha256": {file name: digest}}`.
        weights: `ema` or `raw`, for the metadata.
        handle: the name that it is published under, for the metadata. One of the catalogue (`hubkeras catalog`) gives
            the task and the image size, and is refused for another network.

    Returns:
        The module that was saved, see `reusable_module` and `frozen_module` of `hubkeras.packaging`.

    Raises:
        hubkeras.Error: an argument does not fit the model, or the folder exists or cannot be written.
    """
    import tensorflow as tf

    from hubkeras.architectures.network import SlimNetwork
    from hubkeras.packaging.frozen import frozen_module
    from hubkeras.packaging.reproducible import finish
    from hubkeras.packaging.reusable import reusable_module

    if not isinstance(model, SlimNetwork):
        raise Error(f"export takes a hubkeras network (hubkeras.MobileNetV2(...), ...); got a {type(model).__name__}.")
    published = catalog.publication(handle)
    if published is not None:
        task, image_size = task or published.task, image_size or published.image_size
        fixed_size = fixed_size or published.fixed_size
    task = task or ("feature_vector" if model.num_classes is None else "classification")
    if image_size is not None and image_size < model.minimum_image_size:
        raise Error(f"image_size must be at least {model.minimum_image_size} for {model.name}; got {image_size}.")
    size = image_size or model.default_image_size
    facts = Metadata.of_network(
        model,
        task,
        default_image_size=size,
        fixed_image_size=fixed_size,
        source=source,
        weights=weights,
        frozen=frozen,
        handle=handle,
    )
    if published is not None:
        catalog.check_metadata(handle, facts)
    texts = {"metadata": (METADATA_FILE, facts.to_json())}
    if task == "classification" and model.num_classes is not None:
        if labels is None:
            labels = label_files.default_labels(model.num_classes)
        elif isinstance(labels, str | os.PathLike):
            labels = label_files.read_labels(labels, model.num_classes)
        else:
            label_files.check_labels(labels, model.num_classes)
        texts["labels"] = (LABELS_FILE, "\n".join(labels))
    elif labels is not None:
        raise Error("labels are for a classification head; leave them out when exporting a feature_vector.")
    with written_whole(directory, overwrite) as partial, tempfile.TemporaryDirectory() as scratch:
        assets = {}
        for name, (file, text) in texts.items():
            assets[name] = os.path.join(scratch, file)
            with open(assets[name], "w", encoding="utf-8", newline="\n") as asset:
                asset.write(text + "\n")
        build = frozen_module if frozen else reusable_module
        module, signatures = build(model, task, size if fixed_size else None, assets)
        try:
            tf.saved_model.save(module, str(partial), signatures)
            finish(partial)
            documentation.write(partial, name=os.path.basename(os.path.abspath(directory)))
        except tf.errors.OpError as error:
            raise Error(
                f"Cannot write {directory}: {error.message.splitlines()[0]}; it is as it was before."
            ) from error
    return module
