"""The one door for users' models of Keras: a base, what is done to images before it, and the head after it.

Readers of files build the tree of `SavedLayer`, whatever the file; what the layers mean is told here.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hubkeras.common.errors import first_line
from hubkeras.common.head_layers import SOFTMAX, HeadError
from hubkeras.common.keras_heads import FROZEN, unkept_settings
from hubkeras.converters.checkpoint import Hints, Tensor
from hubkeras.converters.naming import applications_bases, graph_bases
from hubkeras.converters.naming.bases import Base, BaseFinder
from hubkeras.converters.naming.heads_after import After, head_after, head_targets
from hubkeras.converters.naming.hubkeras_networks import native_bases
from hubkeras.converters.naming.images_before import (
    Images,
    ImagesError,
    images_before,
    range_is_told,
    range_of,
    range_settings,
    size_of_inputs,
)
from hubkeras.converters.naming.keras_applications import what_else
from hubkeras.converters.naming.keras_layers import keras_layer_bases
from hubkeras.converters.naming.layer_graph import LayerGraph, title_of, trains_always
from hubkeras.converters.naming.renaming import NamingError, Renaming, Target
from hubkeras.converters.naming.saved_layers import SavedLayer, has_own_class, kind_of_training, snake_case

# the kinds of bases; a model has one base of one of them
BASES: tuple[BaseFinder, ...] = (applications_bases.bases, native_bases, keras_layer_bases, graph_bases.bases)
_DAMAGE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, OSError, RecursionError)
_REGULARIZERS = "(kernel|bias|depthwise|pointwise|gamma|beta)_regularizer"
_MOST_NAMED = 3
_OTHERS = "other layers of the model"
_PREPARING = "layers that prepare images"
_PUBLISHED = ("predictions", "Logits")  # the library's own names of the last layer
_IMAGENET_CLASSES = 1000


@dataclass
class _Reading:
    """What is known of a model, as it is read; what cannot be kept is a reason."""

    loss: str | None
    settings: dict[str, Any] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    range_note: str = ""
    has_own_head: bool = False
    head_refused: str | None = None
    images_refused: str | None = None


def renaming_of_users_model(root: SavedLayer, tensors: Mapping[str, Tensor]) -> tuple[Renaming, Hints]:
    """What the tensors of a user's model are, and what else the model tells: head, range and size of images.

    Args:
        root: the model's layers, with their configs.
        tensors: by their paths in the file.

    Raises:
        NamingError: it has no base that hubkeras knows, or several, or one that is not as its library makes it. A head
            or images that cannot be kept are no error, but in the hints: the base alone can be read.
    """
    try:
        return _read(root, tensors)
    except NamingError:
        raise
    except _DAMAGE as error:  # a config may have anything in the place of a number or a name
        raise NamingError(f"its config cannot be read ({type(error).__name__}: {first_line(error)})") from error


def _read(root: SavedLayer, tensors: Mapping[str, Tensor]) -> tuple[Renaming, Hints]:
    graph = LayerGraph.of(root)
    base = _only_base(root, graph, tensors)
    reading = _Reading(_loss(root), dict(base.settings), dict(base.targets), dict(base.ignored), list(base.notes))
    images, before = _read_images(reading, graph, base, tensors)
    size = images.size if images.size is not None else base.image_size
    base.check_size(size)
    _read_head(reading, graph, base, before, size)
    if always := next((layer for layer in root.walk() if layer not in before and trains_always(layer)), None):
        reading.head_refused = f"{title_of(always)} is called with training=True, also when the model only infers"
    reading.notes += [*_notes_on_classes(root), *_notes_on_precision(root), *_notes_on_training(graph, base)]
    ignored = {
        name: reading.ignored.get(name) or kind_of_training(name) or _OTHERS
        for name in tensors
        if name not in reading.targets
    }
    renaming = Renaming(
        base.title, reading.targets, ignored, reading.settings, tuple(reading.notes), base.gammas_may_be_trivial
    )
    hints = Hints(
        reading.settings,
        image_size=size,
        labels=list(base.labels) if base.labels and reading.has_own_head else None,
        preprocessing=images.preprocessing or base.preprocessing,
        head_refused=reading.head_refused,
        images_refused=reading.images_refused,
    )
    return renaming, hints


def _loss(root: SavedLayer) -> str | None:
    """The loss that a model was compiled with, in snake case; None where the file does not tell, or for several."""
    compiled = root.config.get("compile_config")
    loss = compiled.get("loss") if isinstance(compiled, Mapping) else None
    if isinstance(loss, Mapping) and len(loss) == 1:  # by the name of the one output
        (loss,) = loss.values()
    if isinstance(loss, list) and len(loss) == 1:
        (loss,) = loss
    if isinstance(loss, Mapping):
        loss = loss.get("class_name") if loss.get("class_name") != "function" else loss.get("config")
    return snake_case(loss) if isinstance(loss, str) else None


def _notes_on_classes(root: SavedLayer) -> Iterator[str]:
    """A sentence for each model of a class that a user wrote."""
    for model in filter(has_own_class, root.walk()):
        yield (
            f"The model {model.name or 'itself'} is of a class of its own ({model.kind}), whose code the file has not. "
            "Its layers were taken as they are connected; what a `call` of that class does besides is not kept."
        )


def _notes_on_precision(root: SavedLayer) -> Iterator[str]:
    """A sentence where layers compute in fewer bits than float32, by the policies in their configs."""
    policies = (layer.config.get("dtype") for layer in root.walk())
    names = {
        str(_inner(policy.get("config")).get("name") if isinstance(policy, Mapping) else policy) for policy in policies
    }
    if low := sorted(name for name in names if name.endswith("float16")):
        yield (
            f"The model computes in {' and '.join(low)}; hubkeras' model computes in float32, so its numbers differ "
            "from the model's by what that rounds."
        )


def _notes_on_training(graph: LayerGraph, base: Base) -> Iterator[str]:
    """A sentence on settings that act in training alone and are not kept."""
    unkept = [
        (name, layer)
        for layer in graph.layers
        for name in unkept_settings(layer.config)
        if layer not in base.layers or name != FROZEN  # which has a note of its own
    ]
    if unkept:
        names = ", ".join(f"{name} of {title_of(layer)}" for name, layer in unkept[:_MOST_NAMED])
        more = f" and {len(unkept) - _MOST_NAMED} more" if len(unkept) > _MOST_NAMED else ""
        yield f"Settings that act in training alone were left out: {names}{more}."
    regularized = [
        layer
        for layer in graph.layers
        if layer in base.layers
        and any(value and re.fullmatch(_REGULARIZERS, name) for name, value in layer.config.items())
    ]
    if regularized:
        yield (
            f"The regularizers of {len(regularized)} of the base's layers were left out; hubkeras' model has those of "
            "TF-Slim."
        )


def _inner(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _only_base(root: SavedLayer, graph: LayerGraph, tensors: Mapping[str, Tensor]) -> Base:
    bases = [base for find in BASES for base in find(root, graph, tensors)]
    if len(bases) > 1:
        names = " and ".join(f"{base.title} ({base.name})" for base in bases)
        raise NamingError(f"it has {len(bases)} bases, {names}; save the one to convert as a model of its own")
    if not bases:
        raise NamingError(what_else(root))
    return bases[0]


def _read_images(
    reading: _Reading, graph: LayerGraph, base: Base, tensors: Mapping[str, Tensor]
) -> tuple[Images, list[SavedLayer]]:
    """What is done to images before the base, and the layers that do it."""
    try:
        images, before = images_before(graph, base, tensors)
        seen, note = range_of(images, base)
    except ImagesError as error:
        reading.images_refused = str(error)
        before = [layer for layer in graph.layers if layer in graph.all_before(base.first)]
        return Images(size=size_of_inputs(before)), before
    reading.settings |= range_settings(seen)
    reading.ignored |= {tensor: _PREPARING for layer in before for tensor in layer.weights.values()}
    reading.range_note = note
    reading.notes += _notes_on_images(images)
    return images, before


def _notes_on_images(images: Images) -> Iterator[str]:
    if images.in_training:
        yield f"Layers that change images in training alone were left out: {', '.join(images.in_training)}."
    if images.resized:
        other = f" (bilinearly; the model says {images.resampling})" if images.resampling else ""
        yield (
            f"The model cuts and resizes images itself ({images.resized}); hubkeras' model takes them at {images.size} "
            f"x {images.size} pixels: {images.preprocessing}{other}."
        )


def _read_head(reading: _Reading, graph: LayerGraph, base: Base, before: list[SavedLayer], size: int | None) -> None:
    try:
        after = head_after(graph, base, base.map_size(size), reading.loss)
        _refuse_others(graph, base, [*before, *after.layers])
        targets = dict(head_targets(after, base))
    except HeadError as error:
        reading.head_refused = str(error)
        reading.settings["num_classes"] = None
        return
    reading.targets |= targets
    reading.notes += after.notes
    reading.settings |= _head_settings(after, base)
    reading.has_own_head = after.head is not None and after.head.layers == base.head
    if reading.range_note and (range_is_told(reading.settings) or "head" in reading.settings):
        reading.notes.append(reading.range_note)


def _head_settings(after: After, base: Base) -> dict[str, Any]:
    """The head as settings of a network, none of what is the default."""
    if base.whole is not None and (after.head is None or after.head.layers == base.head):
        return dict(base.whole) | _meaning_settings(after, base)
    settings: dict[str, Any] = {"num_classes": None}
    if after.pooling not in (None, "avg"):
        settings["pooling"] = after.pooling
    if after.head is None:
        return settings
    settings["num_classes"] = after.head.num_classes
    if not _is_published(after):
        settings["head"] = [layer.to_json() for layer in after.head.layers]
    return settings | _meaning_settings(after, base)


def _meaning_settings(after: After, base: Base) -> dict[str, Any]:
    """What the logits mean, where the layers after the base say so; none of what is the default."""
    if after.head is None or not after.layers or after.head.classifier_activation == SOFTMAX:
        return {}
    return {"classifier_activation": after.head.classifier_activation}


def _is_published(after: After) -> bool:
    """Whether a head is the library's own of the ImageNet classes, which is Slim's."""
    only = after.sources[0] if len(after.sources) == 1 else None
    return only is not None and only.name in _PUBLISHED and only.config.get("units") == _IMAGENET_CLASSES


def _refuse_others(graph: LayerGraph, base: Base, chain: list[SavedLayer]) -> None:
    """Raises HeadError where a layer is none of the base and the chains, or takes what is within the base."""
    for layer in base.layers - {base.last}:
        outside = [other for other in graph.after(layer) if other not in base.layers]
        if outside or layer in graph.outputs:
            to = title_of(outside[0]) if outside else "the model's outputs"
            raise HeadError(f"{to} takes what {title_of(layer)} within the base gives")
    others = [layer for layer in graph.layers if layer not in base.layers and layer not in set(chain)]
    if others:
        raise HeadError(f"{title_of(others[0])} is neither before the base nor after it")
