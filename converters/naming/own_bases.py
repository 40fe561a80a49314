"""Networks of ours as bases of users' models: what their settings say of head and images."""

from collections.abc import Iterable, Mapping
from typing import Any

from hubkeras.common.head_layers import Dense, HeadError, HeadLayer, Noise, names_of, of_json
from hubkeras.common.input_range import InputRange
from hubkeras.converters.naming.bases import Base
from hubkeras.converters.naming.layer_graph import LayerGraph, title_of
from hubkeras.converters.naming.renaming import Layout, NamingError, Target
from hubkeras.converters.naming.saved_layers import SavedLayer

OF_HEAD = ("num_classes", "head", "classifier_activation", "pooling")
OTHERS = "other layers of the model"
OF_IMAGES = ("input_range", "input_mean", "input_std")


def base_of(
    title: str,
    network: Any,
    layer: SavedLayer,
    graph: LayerGraph,
    targets: Mapping[str, Target],
    settings: Mapping[str, Any],
    has_head: bool,
    **more: Any,
) -> Base:
    """The base that a layer is.

    Args:
        title: for messages.
        network: one of `hubkeras.architectures.NETWORKS`.
        layer: of the user's model.
        graph: of its layers.
        targets: of the layer's tensors, as of the network alone.
        settings: of the network, head and range of images among them.
        has_head: whether the layer gives the logits of the network, else its features or feature maps.
        more: other attributes of the base.

    Raises:
        NamingError: no head can follow what the layer gives, or the settings are none.
    """
    settings = dict(settings)
    try:
        sees = InputRange.of(*(settings.get(name) for name in OF_IMAGES))
        head = _head(network, settings, targets) if has_head else ()
    except (HeadError, ValueError, TypeError) as error:
        raise NamingError(f"{title_of(layer)} has settings that cannot be read ({error})") from error
    follows = any(other is not layer and other.weights for other in graph.all_after(layer))
    if follows and (settings.get("endpoints") or settings.get("final_endpoint")):
        raise NamingError(
            f"{title_of(layer)} has endpoints or a final_endpoint, after which hubkeras keeps no layers of others"
        )
    return Base(
        title=title,
        name=layer.name,
        facts=network.facts,
        targets=_continued(targets, network, head) if head and follows else targets,
        first=layer,
        last=layer,
        layers=frozenset([layer]),
        settings={name: value for name, value in settings.items() if name not in (*OF_IMAGES, *OF_HEAD)},
        sees=sees,
        pooling=None if settings.get("endpoints") else str(settings.get("pooling", "avg")),
        head=head,
        whole=_whole(settings, has_head),
        **more,
    )


def around(network: Any, layers: Iterable[str]) -> str:
    """Why layers with weights around a network cannot be kept, where there is no config."""
    return (
        f"it has other layers with weights around {network.__name__} ({', '.join(sorted(set(layers))[:5])}), and "
        "weights alone do not tell what these compute; put the config beside them, config.json with what "
        "model.to_json() gives, or save the whole model as .keras"
    )


def frozen_note(layer: SavedLayer) -> tuple[str, ...]:
    """A sentence on a layer that was not trained, which hubkeras' model can be; none for others."""
    if layer.config.get("trainable", True):
        return ()
    return (
        f"The base, {title_of(layer)}, was frozen (trainable=False); all variables of the model that hubkeras makes "
        "can be trained.",
    )


def _whole(settings: Mapping[str, Any], has_head: bool) -> dict[str, Any]:
    """The settings of the head as it is."""
    if has_head:
        return {name: settings[name] for name in OF_HEAD if name in settings}
    return {"num_classes": None, **{name: settings[name] for name in ("pooling",) if name in settings}}


def _head(network: Any, settings: Mapping[str, Any], targets: Mapping[str, Target]) -> tuple[HeadLayer, ...]:
    """The layers of a network's head: those of its settings, or Slim's dropout and logits."""
    if settings.get("head"):
        return of_json(settings["head"])
    end = f"{network.scope}/Logits/{network.facts.logits}/"
    hidden = [t.variable for t in targets.values() if "/Logits/" in t.variable and not t.variable.startswith(end)]
    if hidden:
        raise HeadError(f"a head with {hidden[0]}, and nothing tells its layers; put the SavedModel where it was")
    dropout, logits = network.create_layers(network.settings_for(num_classes=settings["num_classes"]))[1].children()
    regularizers = {"weights": logits.regularizer, "biases": logits.bias_regularizer}
    factors = {name: (0.0, float(value.l2)) for name, value in regularizers.items() if value is not None}
    return Noise(rate=dropout.RATE), Dense(units=settings["num_classes"], regularizers=factors)


def _continued(targets: Mapping[str, Target], network: Any, head: tuple[HeadLayer, ...]) -> dict[str, Target]:
    """Targets of a head that other layers follow: its logits are a hidden layer, whose kernel has two axes."""
    index = max(number for number, layer in enumerate(head) if isinstance(layer, Dense))
    alone, followed = names_of(head, network.facts.logits), names_of((*head, Dense(units=1)), network.facts.logits)
    old, new = (f"{network.scope}/Logits/{names[index]}/" for names in (alone, followed))
    axes = len(network.facts.logits_kernel_size)
    renamed = {}
    for path, target in targets.items():
        layout = Layout((0, 1), squeezed=axes) if target.variable == f"{old}weights" else target.layout
        renamed[path] = Target(target.variable.replace(old, new), layout)
    return renamed
