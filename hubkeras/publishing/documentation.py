"""The page and the model card of a SavedModel, written from what the SavedModel says of itself.

The page has the form of https://github.com/tensorflow/tfhub.dev: title, one line, metadata in comments, sections. The
card is a README.md as the Hugging Face Hub shows it. Both lie beside the model and are not part of its archive.
"""

import json
import os
import pathlib
import re
from typing import Any

from hubkeras.common import integrity, marks
from hubkeras.common.errors import Error
from hubkeras.common.files import refuse_existing, written_whole
from hubkeras.common.metadata import Metadata, read_metadata
from hubkeras.common.places import model_folder
from hubkeras.common.preprocessing import WHOLE
from hubkeras.consuming.cache import TFHUB
from hubkeras.publishing import catalog

PAGE_FILE = "documentation.md"
CARD_FILE = "README.md"
VERIFICATION_FILE = "assets.extra/verification.json"  # SavedModel's folder for what TensorFlow itself does not read

NAMES = {"inception_v2": "Inception V2", "inception_resnet_v2": "Inception-ResNet V2", "mobilenet_v2": "MobileNet V2"}
PAPERS = {module.architecture: module.paper for module in catalog.MODULES.values()}
SLIM = "https://github.com/tensorflow/models/tree/master/research/slim"
_CHANGES = {
    "imagenet": {
        1: "First release, for TensorFlow 1.",
        2: "Fine-tuning updates the moving averages of batch norm.",
        3: "The momentum of batch norm is 0.99 and can be set.",
        4: "A SavedModel of TensorFlow 2.",
        5: "Has the signature `serving_default`; gradients with persistent tapes work.",
    },
    "tf2-preview": {
        1: "First release.",
        2: "`training` has a default; the regularization losses are right.",
        3: "Every variable has a name of its own, so that models can be saved as HDF5.",
        4: "Fine-tuning updates the moving averages of batch norm again.",
    },
}


_WHAT = {
    "classification": "Image classification",
    "feature_vector": "Feature vectors of images",
    "backbone": "Feature maps of images",
}


def write(
    directory: str | os.PathLike[str],
    parity: dict[str, Any] | None = None,
    name: str | None = None,
    asset_path: str = "internal",
) -> list[pathlib.Path]:
    """Writes the page and the model card into the folder of a SavedModel, in place of those that are there.

    A page or model card that somebody else wrote is never replaced.

    Args:
        directory: a SavedModel that hubkeras wrote.
        parity: how far it is from its checkpoint, `{"weights_compared", "weights_different", "output", "error",
            "bound"}`, which is kept beside it; by default what was kept before.
        name: of the folder, for code in the page where the model has no handle.
        asset_path: address of the archive of `hubkeras pack`, for the page's metadata; `internal` is tfhub.dev's word
            for models that are not published.

    Returns:
        The paths of the two files.

    Raises:
        hubkeras.Error: the folder is no SavedModel of hubkeras or a damaged one, or cannot be written; or `asset_path`
            is neither.
    """
    directory = model_folder(directory)
    if asset_path != "internal" and not re.fullmatch(r"https?://\S+\.tar\.gz", asset_path):
        raise Error(f"asset_path must be the http(s) address of a .tar.gz, or internal; got {asset_path!r}.")
    integrity.check(directory)
    metadata = read_metadata(directory)
    if metadata.architecture not in NAMES:
        raise Error(f"{directory} is of {metadata.architecture}; there are pages for {', '.join(NAMES)} only.")
    record = directory / VERIFICATION_FILE
    records = {} if parity is None else {VERIFICATION_FILE: json.dumps(parity, indent=2) + "\n"}
    if parity is None and record.is_file():
        parity = _read_parity(record)
    name = name or directory.absolute().name
    texts = {PAGE_FILE: page(metadata, parity, name, asset_path), CARD_FILE: model_card(metadata, parity, name)}
    for file in texts:  # all of them before the first is replaced
        refuse_existing(directory / file, overwrite=True, foreign=marks.foreign_page)
    for file, text in {**records, **texts}.items():
        with written_whole(directory / file, overwrite=True, foreign=lambda _: None) as partial:
            partial.write_text(text, "utf-8")
    return [directory / file for file in texts]


def _read_parity(record):
    """What `write` kept of a check."""
    try:
        parity = json.loads(record.read_text("utf-8"))
        numbers = [parity[key] for key in ("weights_compared", "weights_different", "error", "bound")]
        if all(isinstance(number, int | float) for number in numbers) and isinstance(parity["output"], str):
            return {"reference": "the checkpoint", **parity}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise Error(f"{record} is damaged; remove it, or export the model again.")


def title_of(metadata: Metadata, name: str = "model") -> str:
    """`<publisher>/<name>/<version>` of a SavedModel; without a handle, `hubkeras/<name>/1`.

    What tfhub.dev refuses becomes a hyphen: in publishers all but small letters, digits and hyphens, in names all but
    ASCII letters, digits, `_`, `.` and `-`.
    """
    module = catalog.find(metadata.handle)[0] if metadata.handle else None
    if module:
        return module.url.removeprefix(TFHUB)
    publisher, *names = (metadata.handle or f"hubkeras/{name}").split("/")
    names = [re.sub(r"[^A-Za-z0-9_.-]+", "-", part).strip("-") or "model" for part in names if part]
    version = [] if names[-1].isdigit() and len(names) > 1 else ["1"]
    return "/".join([re.sub(r"[^a-z0-9-]+", "-", publisher.lower()).strip("-") or "hubkeras", *names, *version])


def page(
    metadata: Metadata, parity: dict[str, Any] | None = None, name: str = "model", asset_path: str = "internal"
) -> str:
    """The page of a SavedModel, Markdown.

    Args:
        metadata: of the SavedModel, a `hubkeras.common.metadata.Metadata`.
        parity, name, asset_path: as for `write`.
    """
    facts = {
        "asset-path": asset_path,
        "dataset": "imagenet-ilsvrc-2012-cls" if _is_imagenet(metadata) else "other",
        "fine-tunable": "false" if metadata.frozen else "true",
        "format": "saved_model_2",
        "task": "image-classification" if metadata.task == "classification" else "image-feature-vector",
        "network-architecture": metadata.architecture.replace("_", "-"),
    }
    comments = "\n".join(f"<!-- {key}: {value} -->" for key, value in facts.items())
    heading = f"# Module {title_of(metadata, name)}\n{_summary(metadata)}\n\n{comments}"
    return "\n\n".join([heading, *_sections(metadata, parity, name)]) + "\n"


def model_card(metadata: Metadata, parity: dict[str, Any] | None = None, name: str = "model") -> str:
    """The model card of a SavedModel, Markdown with YAML front matter; arguments as for `page`."""
    classification = metadata.task == "classification"
    lines = [
        "library_name: tf-keras",
        f"pipeline_tag: {'image-classification' if classification else 'image-feature-extraction'}",
        f"tags: [{metadata.architecture.replace('_', '-')}, tensorflow, saved-model, tf-slim, hubkeras]",
    ]
    if _is_imagenet(metadata):
        lines += ["datasets: [imagenet-1k]", "license: apache-2.0"]
    heading = f"# {NAMES[metadata.architecture]}: {title_of(metadata, name)}\n\n{_summary(metadata)}"
    return "\n\n".join(["---\n" + "\n".join(lines) + "\n---", heading, *_sections(metadata, parity, name)]) + "\n"


def _is_imagenet(metadata):
    """Whether handle and checkpoint have the names of one that Google published."""
    module = catalog.find(metadata.handle)[0] if metadata.handle else None
    if module is None or not metadata.source or "through" in metadata.source:  # it may have been trained on since
        return False
    stem = re.escape(module.checkpoint.removesuffix(".ckpt"))
    name = metadata.source["checkpoint"]
    return name == module.archive.rsplit("/", 1)[-1] or bool(re.fullmatch(rf"{stem}(\.ckpt(\..+)?)?", name))


def _network_name(metadata):
    multiplier = metadata.depth_multiplier
    scaled = f" with depth multiplier {multiplier:g}" if metadata.architecture == "mobilenet_v2" else ""
    if metadata.architecture == "inception_v2" and multiplier != 1:
        scaled = f" with depth multiplier {multiplier:g}"
    return NAMES[metadata.architecture] + scaled


def _summary(metadata):
    what = _WHAT[metadata.task]
    data = " trained on ImageNet (ILSVRC-2012-CLS)" if _is_imagenet(metadata) else ""
    return f"{what} with {_network_name(metadata)}{data}."


def _sections(metadata, parity, name):
    module = catalog.find(metadata.handle)[0] if metadata.handle else None
    # code in the page names the model by its handle, once it is installed, or by its folder
    location = module.url if module else name
    return [
        "## Overview\n\n" + _overview(metadata, module),
        "## Training\n\n" + _training(metadata, module, parity),
        "## Usage\n\n" + _usage(metadata, module, location),
        "## Fine-tuning\n\n" + _fine_tuning(metadata, location),
        "## Changelog\n\n" + _changelog(metadata, module),
    ]


def _overview(metadata, module):
    authors, title, year, address = PAPERS[metadata.architecture]
    size, smallest = metadata.default_image_size, metadata.minimum_image_size
    sizes = f"{size} x {size} pixels"
    sizes += " only" if metadata.fixed_image_size else f"; other sizes work too, from {smallest} x {smallest}"
    facts = [f"* images: RGB in [0, 1], {sizes}", f"* preprocessing: {metadata.preprocessing}"]
    facts += [f"* features: {metadata.num_features}"]
    if metadata.num_classes:
        facts.append(f"* classes: {metadata.num_classes}, as logits; the names are in `assets/labels.txt`")
    if module:
        facts.append(f"* parameters: {module.parameters:,}")
        facts.append(f"* multiply-adds for one image: {module.multiply_adds / 1e6:,.0f} million")
    text = (
        f"{NAMES[metadata.architecture]} was published by {authors} in [{title}]({address}), {year}. "
        f"This is the network as [TF-Slim]({SLIM}) builds it, {_network_name(metadata)}, as a SavedModel of "
        "TensorFlow 2:\n\n" + "\n".join(facts)
    )
    if module:
        sibling = module.sibling()
        other = "classifies" if sibling.task == "classification" else "returns feature vectors"
        text += f"\n\nThe same network that {other}: [`{sibling.handle}/{sibling.versions[-1]}`]({sibling.url})."
    return text


def _training(metadata, module, parity):
    source = metadata.source
    lines = []
    if source:
        digests = "".join(f"\n* `{file}`, SHA-256 `{digest}`" for file, digest in source["sha256"].items())
        end = ":" if digests else "."
        lines.append(f"The weights are those of the checkpoint `{source['checkpoint']}`{end}{digests}")
        if "through" in source:
            lines.append(f"They were read through `{source['through']['checkpoint']}`, which may have been trained on.")
    else:
        lines.append("The weights were given by a program; the SavedModel does not say where they came from.")
    if metadata.weights == "ema":
        lines.append("They are the exponential moving averages of the weights, as in evaluation by TF-Slim.")
    elif metadata.weights == "raw":
        lines.append("They are the weights as they were at the end of training.")
    if module and not _is_imagenet(metadata):
        lines.append("The handle is that of a module of Google's, whose place this one takes; the weights are others.")
    elif module:
        lines.append(
            f"Google trained this network on ImageNet (ILSVRC-2012-CLS), published the checkpoint in {module.archive} "
            f"and stated an accuracy of {module.top_1} % (top 1) and {module.top_5} % (top 5) on the validation set."
        )
    if parity:
        equal = parity["weights_compared"] - parity["weights_different"]
        lines.append(
            f"Measured when this SavedModel was made: {equal} of {parity['weights_compared']} variables are "
            f"bit-identical to {parity['reference']}'s, and the {parity['output']} differ from those of the same "
            f"network in float64 by {parity['error']:.1e} of the largest (at most {parity['bound']:.0e} is accepted)."
        )
    return "\n\n".join(lines)


def _python(*lines):
    return "```python\n" + "\n".join(lines) + "\n```"


def _usage(metadata, module, location):
    size = metadata.default_image_size
    blocks = []
    if module:
        blocks += [
            "In the folder of this page, make the handle known to `tensorflow_hub` on this machine, without a network:",
            f"```sh\nhubkeras install . --handle {module.url}\n```",
        ]
    else:
        blocks.append("Run the code where the folder of this SavedModel lies.")
    if metadata.task != "backbone":
        is_classifier = metadata.task == "classification"
        blocks += _classifier(location, size, metadata.preprocessing) if is_classifier else _features(location, size)
    return "\n\n".join([*blocks, *_without_hub(metadata, location)])


def _classifier(location, size, preprocessing):
    cut = "".join(f", {name}={value!r}" for name, value in vars(preprocessing).items() if value != getattr(WHOLE, name))
    return [
        "Name what is in a photo:",
        _python(
            "import hubkeras",
            "import tensorflow_hub as hub",
            "",
            f'model = hub.load("{location}")',
            f'image = hubkeras.load_image("photo.jpg", {size}{cut})',
            "labels = model.labels.asset_path.numpy().decode()",
            "for name, probability in hubkeras.decode_predictions(model(image[None]), labels=labels)[0]:",
            '    print(f"{name}: {probability:.1%}")',
        ),
        "In a model of tf_keras, which returns logits:",
        _python(
            "import tensorflow_hub as hub",
            "import tf_keras",
            "",
            f'm = tf_keras.Sequential([hub.KerasLayer("{location}")])',
            f"m.build([None, {size}, {size}, 3])",
        ),
    ]


def _features(location, size):
    return [
        "In a model of tf_keras:",
        _python(
            "import tensorflow_hub as hub",
            "import tf_keras",
            "",
            "num_classes = 10",
            "m = tf_keras.Sequential([",
            f'    hub.KerasLayer("{location}", trainable=False),',
            '    tf_keras.layers.Dense(num_classes, activation="softmax"),',
            "])",
            f"m.build([None, {size}, {size}, 3])",
        ),
    ]


def _without_hub(metadata, location):
    size = metadata.default_image_size
    output = f"(1, {metadata.num_classes or metadata.num_features})"
    if metadata.task == "backbone":
        alone, names = "It returns a dict of feature maps by name:", sorted(metadata.settings["endpoints"])
        call = ["maps = model(images)", f"assert sorted(maps) == {json.dumps(names)}"]
    elif metadata.frozen:
        alone, call = "With TensorFlow alone:", [f"assert model(images).shape == {output}"]
    else:
        alone = "With TensorFlow alone, end points included:"
        call = [
            "outputs = model(images, return_endpoints=True)",
            f"assert outputs['default'].shape == {output}",
        ]
    return [
        alone,
        _python(
            "import tensorflow as tf",
            "import tensorflow_hub as hub",
            "",
            f'model = tf.saved_model.load(hub.resolve("{location}"))',
            f"images = tf.zeros([1, {size}, {size}, 3])",
            *call,
        ),
    ]


def _fine_tuning(metadata, location):
    if metadata.frozen:
        return (
            "This SavedModel is frozen: it has constants in place of variables, which is fastest for inference, and "
            "cannot be trained. Export the network again without `--frozen` to train it."
        )
    return "\n\n".join(
        [
            "With `trainable=True` the layer trains: batch norm uses the batch's statistics and updates its moving "
            "averages, and the regularization losses of TF-Slim are added. The momentum of these averages is 0.99, "
            "which suits small data sets; it can be set:",
            _python(
                "import tensorflow_hub as hub",
                "",
                f'layer = hub.KerasLayer("{location}", trainable=True, arguments=dict(batch_norm_momentum=0.997))',
            ),
        ]
    )


def _changelog(metadata, module):
    made = metadata.versions.get("hubkeras")
    by = f"Written by hubkeras {made}" if made else "Written by hubkeras"
    if module is None:
        number = title_of(metadata).rsplit("/", 1)[-1]
        return f"#### Version {number}\n\n* {by}."
    changes = _CHANGES[module.handle.split("/")[1]]
    versions = [f"#### Version {number}\n\n* {changes[number]}" for number in module.versions]
    versions[-1] += f"\n* This SavedModel takes its place. {by}, it accepts images of {_accepts(metadata)} and carries "
    versions[-1] += "its metadata" + (" and the names of its classes." if metadata.num_classes else ".")
    return "\n\n".join(versions)


def _accepts(metadata):
    return "one size" if metadata.fixed_image_size else "any size"
