"""What the three networks share: input checks, the loop over stages, the head, configuration."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from hubkeras.architectures import arguments, operations, states
from hubkeras.architectures import endpoints as end_points_of_networks
from hubkeras.architectures.convolutions import EPSILON
from hubkeras.architectures.layers import Scope, Shape, SlimLayer, Tensor, set_trainable
from hubkeras.architectures.options import CallOptions
from hubkeras.common.networks import NetworkFacts, read_weights
from hubkeras.common.numbers import plain
from hubkeras.common.ranges import warn_of_range


class SlimNetwork(keras.Model):
    """An image network of TF-Slim: stages, global average pooling, and an optional classification head.

    Subclasses give the class attributes below, `create_layers` and `classify`.

    Attributes:
        facts: the constants of the architecture; the class has some of them as attributes of its own, see below.
        variations: settings that most networks leave at Slim's defaults, and these.
        folds_for_inference: whether folding batch norm into the convolutions at each call makes inference faster. Only
            in MobileNet V2, which does little else; the Inceptions have many weights for that.
        every_layer_is_end_point: whether the outputs of nearly all layers are end points.
        num_features: channels of the pooled features.
        num_classes: number of logits, or None where there is no head.
        endpoints: names of the feature maps that the network returns, or None where it returns logits or features.
    """

    facts: NetworkFacts
    architecture: str
    title: str
    scope: str
    default_image_size: int
    minimum_image_size: int
    num_features: int
    variations: Mapping[str, Any] = {"batch_norm_epsilon": EPSILON, "final_endpoint": None, "endpoints": None}
    folds_for_inference = False
    every_layer_is_end_point = False
    _range_unseen = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("architecture", "title", "scope", "default_image_size", "minimum_image_size"):
            setattr(cls, name, getattr(cls.facts, name))

    def __init__(
        self,
        *,
        batch_norm_momentum: float,
        weights: Any,
        dtype: Any,
        name: str | None = None,
        trainable: bool = True,
        initialize: bool | None = None,
        **settings: Any,
    ) -> None:
        """Builds the network; see the subclasses for the public arguments.

        Args:
            initialize: False spares the time of random weights where others follow, and leaves zeros.
            settings: the subclass' own, and `final_endpoint` and `endpoints`.
        """
        super().__init__(name=name or self.scope, autocast=False, dtype=dtype)
        self.batch_norm_momentum, settings = plain(batch_norm_momentum), plain(settings)
        arguments.check_batch_norm(self.batch_norm_momentum, settings.get("batch_norm_epsilon", EPSILON))
        stages, head = self._choose_layers(settings)
        for setting, value in settings.items():
            setattr(self, setting, tuple(value) if isinstance(value, list) else value)
        self.setting_names = list(settings)
        for layer in stages:
            setattr(self, layer.name, layer)
        self.stage_names = [layer.name for layer in stages]
        self.head = head
        for layer in self.all_layers():
            layer.dtype_policy = self.dtype_policy
        if not (weights is None if initialize is None else initialize):
            for layer in self.all_layers():
                if hasattr(layer, "kernel_initializer"):
                    layer.kernel_initializer = "zeros"
        self.build((None, None, None, 3))
        self._initial_regularizers = states.regularizers(self.slim_variables())
        self.trainable = trainable
        if weights is not None:
            read_weights(self, weights)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "trainable":
            set_trainable(self, value)
        else:
            super().__setattr__(name, value)

    def _choose_layers(self, settings: dict[str, Any]) -> tuple[list[SlimLayer], Scope | None]:
        """The layers that the settings ask for; where these end before the head, `num_classes` becomes None."""
        own = {name: value for name, value in settings.items() if name not in ("final_endpoint", "endpoints")}
        arguments.check_names(type(self), own)
        stages, head = self.create_layers(**own)
        names, final, endpoints = self.end_points(stages), settings["final_endpoint"], settings["endpoints"]
        count = len(stages) if final is None else end_points_of_networks.stages_until(final, names)
        resolved = {}
        if endpoints is not None:
            resolved = end_points_of_networks.resolve(endpoints, stages[:count], names[:count], self.scope, final)
            count = max(end_points_of_networks.stages_until(inner, names) for inner in resolved.values())
        if count < len(stages) or endpoints is not None:
            head, settings["num_classes"] = None, None
        self._chosen = resolved
        self._end_points = {stage.name: own for stage, own in zip(stages[:count], names, strict=False)}
        self._strides = end_points_of_networks.last_of_strides(stages[:count], names[:count])
        self.left_out = tuple(stage.name for stage in stages[count:])
        return stages[:count], head

    @classmethod
    def create_layers(cls, **settings: Any) -> tuple[list[SlimLayer], Scope | None]:
        """The layers of a network of these settings, not built yet.

        Returns:
            The stages, applied one after the other, of which the first takes images in [-0.5, 0.5]; and the head, a
            `Scope` of the layers that `classify` applies, or None. Each is named by its Slim scope.
        """
        raise NotImplementedError

    @classmethod
    def end_points(cls, stages: Sequence[SlimLayer]) -> list[tuple[str, ...]]:
        """Slim's end points of each stage, the stage's output first; none where Slim names none."""
        return [(stage.name,) for stage in stages]

    @classmethod
    @functools.cache
    def filters(cls, **settings: Any) -> dict[str, int]:
        """Filters of each convolution before the head by its scope, `{"Conv2d_2c_3x3": 192, ...}`."""
        stages, _ = cls.create_layers(num_classes=None, **settings)
        layers = (pair for stage in stages for pair in stage.walk(""))
        return {scope[1:]: layer.filters for scope, layer in layers if hasattr(layer, "filters")}

    @classmethod
    @functools.cache
    def scopes(cls) -> set[str]:
        """Slim's scopes below the root scope, without the head's, of the whole network."""
        stages, _ = cls.create_layers(num_classes=None)
        return {stage.name for stage in stages}

    @classmethod
    def settings_from_shapes(cls, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
        """The network's arguments that the shapes of its variables tell.

        Args:
            shapes: of the variables by their names below the root scope; there may be other tensors among them.

        Returns:
            `num_classes`, None where there is no head, and those of `variations` that differ from Slim's default.
        """
        heads = [s for name, s in shapes.items() if name.startswith("Logits/") and name.endswith("/biases") and s]
        settings: dict[str, Any] = {"num_classes": int(heads[0][0]) if heads else None}
        if "batch_norm_scale" in cls.variations and any(name.endswith("/BatchNorm/gamma") for name in shapes):
            settings["batch_norm_scale"] = True
        stages, _ = cls.create_layers(num_classes=None)
        present = [stage.name in {name.split("/")[0] for name in shapes} for stage in stages]
        names = cls.end_points(stages)
        for end in cls.facts.published_ends:
            count = end_points_of_networks.stages_until(end, names)
            if not heads and present[count - 1] and not any(present[count:]):
                settings["final_endpoint"] = end
        return settings

    @property
    def input(self) -> Tensor:
        """Symbolic images of the network's first symbolic call, which is made here where there was none."""
        if not self._inbound_nodes:
            self(keras.Input((None, None, 3), dtype=self.compute_dtype))
        return keras.Operation.input.fget(self)

    @property
    def output(self) -> Any:
        """What the network returns for `input`: `keras.Model(network.input, head(network.output))` is a model."""
        _ = self.input
        return keras.Operation.output.fget(self)

    def stages(self) -> list[SlimLayer]:
        """The layers before the global pooling, in order."""
        return [getattr(self, name) for name in self.stage_names]

    def all_layers(self) -> Iterator[SlimLayer]:
        """Every layer of the network and below, in Slim's order of creation."""
        for stage in [*self.stages(), *([] if self.head is None else [self.head])]:
            yield from (layer for _, layer in stage.walk(self.scope))

    def stride_endpoints(self) -> list[str]:
        """Names of the feature maps of each stride, for the argument `endpoints`: `["stride_4", ..., "stride_32"]`."""
        return list(self._strides)

    def build(self, input_shape: Shape) -> None:
        if self.built:
            return
        for layer in self.stages():
            layer.build(input_shape)
            input_shape = (None, None, None, layer.output_channels)
        self.num_features = input_shape[-1]
        if self.head is not None:
            self.head.build(input_shape)
        self.built = True

    def slim_variables(self) -> dict[str, keras.Variable]:
        """All variables by their names in a Slim checkpoint, `{"InceptionV2/Conv2d_2b_1x1/weights": variable, ...}`."""
        layers = self.stages() + ([] if self.head is None else [self.head])
        return {
            f"{scope}/{variable.name}": variable
            for layer in layers
            for scope, inner in layer.walk(self.scope)
            for variable in inner.own_variables()
        }

    def outputs(
        self,
        images: Tensor,
        training: bool = False,
        batch_norm_momentum: Any = None,
        fold: bool | None = None,
        include_head: bool = True,
        statistics: str = "average",
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """All that the network computes.

        Args:
            images: float `[batch, height, width, 3]`, RGB in [0, 1]. An empty batch gives empty outputs, and changes no
                moving average.
            training, statistics: see `CallOptions`.
            batch_norm_momentum: float or scalar tensor; the constructor's by default.
            fold: whether inference folds batch norm into the convolutions, `folds_for_inference` by default; `False`
                computes in Slim's own order, operation by operation.
            include_head: whether to apply the head, where there is one.

        Returns:
            Pooled features `[batch, num_features]`, and a dict: `default`, which is logits `[batch, num_classes]` or
            without a head the features, and Slim's end points, `<Scope>/<end point>`.
        """
        arguments.check_shape(images, self.name, self.minimum_image_size)
        images, count = operations.without_empty_batch(operations.of_images(images), bool(training))
        momentum = self.batch_norm_momentum if batch_norm_momentum is None else batch_norm_momentum
        arguments.check_batch_norm(momentum)
        options = CallOptions(
            training=bool(training),
            batch_norm_momentum=operations.momentum_for(count, momentum),
            statistics=statistics,
            fold=self.folds_for_inference if fold is None else fold,
        )
        # the networks' own range is [-1, 1]; the first convolution doubles this
        net = ops.cast(images, self.compute_dtype) - 0.5
        end_points = {}
        for stage in self.stages():
            net, named = self.name_end_points(stage, stage(net, options=options))
            end_points.update(named)
        end_points["global_pool"] = ops.mean(net, axis=(1, 2), keepdims=True)
        default = features = ops.squeeze(end_points["global_pool"], (1, 2))
        if include_head and self.head is not None:
            default, named = self.classify(end_points, options)
            end_points.update(named, Logits=default, Predictions=ops.softmax(default))
        outputs = {"default": default, **{f"{self.scope}/{name}": x for name, x in end_points.items()}}
        if count is not None:
            features, outputs = features[:count], {name: x[:count] for name, x in outputs.items()}
        return features, outputs

    def feature_maps(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of what `outputs` returns, the feature maps that the network was built for, by the names of `endpoints`."""
        return {name: outputs[f"{self.scope}/{inner}"] for name, inner in self._chosen.items()}

    def name_end_points(self, stage: SlimLayer, results: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The tensor for the next stage, and the stage's end points by their names below the root scope."""
        return results, dict.fromkeys(self._end_points[stage.name], results)

    def classify(self, end_points: Mapping[str, Tensor], options: CallOptions) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits `[batch, num_classes]` from the end points so far, and the end points of the head."""
        raise NotImplementedError

    def call(
        self,
        inputs: Tensor,
        training: bool = False,
        batch_norm_momentum: Any = None,
        return_endpoints: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        self._range_unseen = self._range_unseen and not warn_of_range(inputs)
        # end points are for looking inside: in Slim's order of operations they agree with Slim's most closely
        _, outputs = self.outputs(inputs, training, batch_norm_momentum, fold=False if return_endpoints else None)
        if return_endpoints:
            return outputs
        return outputs["default"] if self.endpoints is None else self.feature_maps(outputs)

    compute_output_spec = keras.Operation.compute_output_spec  # by a call, since shapes do not tell `return_endpoints`

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Shapes of what a call returns for images of `input_shape`, `[batch, height, width, 3]`."""
        spec = self.compute_output_spec(keras.KerasTensor(input_shape, self.compute_dtype))
        return keras.tree.map_structure(lambda x: tuple(x.shape), spec)

    def copy(self, dtype: Any = None, **changes: Any) -> SlimNetwork:
        """A network of the same settings, weights and regularizers but for `changes`, all of it trainable.

        Args:
            dtype: that it computes in; this network's by default.
            changes: settings that need no other variables than this network has: `endpoints`, `output_stride`, ...

        Raises:
            ValueError: the network has no such setting, or it is out of range.
        """
        unknown = changes.keys() - self.setting_names
        if unknown:
            raise ValueError(f"{self.title} has no setting {', '.join(sorted(unknown))}.")
        settings = {**self.settings(), **changes}
        options = {"dtype": dtype or self.dtype_policy, "batch_norm_momentum": self.batch_norm_momentum}
        copy = type(self)(**settings, **options, initialize=False)
        variables = self.slim_variables()
        for name, variable in copy.slim_variables().items():
            variable.assign(variables[name])
            variable.regularizer = variables[name].regularizer
        return copy

    def frozen(self) -> FrozenNetwork:
        """This network with constants in place of variables, and batch norm folded into the convolutions."""
        return FrozenNetwork(self)

    def settings(self) -> dict[str, Any]:
        """The arguments that give another network of the same variables and outputs: `{"num_classes": 1001, ...}`.

        Those of `variations` are left out where they are Slim's defaults.
        """
        values = {name: getattr(self, name) for name in self.setting_names}
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        missing = object()
        return {name: value for name, value in values.items() if value != self.variations.get(name, missing)}

    def get_config(self) -> dict[str, Any]:
        changed = states.changed(states.regularizers(self.slim_variables()), self._initial_regularizers)
        set_later = {"trainable_scopes": states.trainable_scopes(self), "regularizers": changed}
        return {
            **{name: getattr(self, name) for name in ("name", "trainable", "batch_norm_momentum")},
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            **self.settings(),
            **{name: value for name, value in set_later.items() if value},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> SlimNetwork:
        config = dict(config)
        scopes, regularizers = config.pop("trainable_scopes", {}), config.pop("regularizers", {})
        network = super().from_config(config, custom_objects)
        states.set_regularizers(network.slim_variables(), regularizers, custom_objects)
        states.set_trainable(network, scopes)
        return network


class FrozenNetwork:
    """The computation of a network without its variables, for inference alone: it is no `SlimNetwork`.

    Args:
        network: it is not changed, and later changes of it do not matter.
    """

    def __init__(self, network: SlimNetwork) -> None:
        self._network = network.copy("float32")
        for layer in [*self._network.stages(), *([] if self._network.head is None else [self._network.head])]:
            layer.freeze()

    def outputs(self, images: Tensor, include_head: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
        """As `SlimNetwork.outputs`, in inference."""
        return self._network.outputs(images, include_head=include_head)

    def feature_maps(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As `SlimNetwork.feature_maps`."""
        return self._network.feature_maps(outputs)

    def __call__(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        """As the network's own call, in inference."""
        return self._network(images)
