"""What the networks share: construction from settings, the forward pass, configuration."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from hubkeras.architectures import computing, folding, operations, states
from hubkeras.architectures.backend import keras, ops
from hubkeras.architectures.convolutions import EPSILON
from hubkeras.architectures.end_points import Structure
from hubkeras.architectures.given_heads import given_head, take_weights
from hubkeras.architectures.heads import Chain, Classifier
from hubkeras.architectures.layers import Shape, SlimLayer, Tensor, set_trainable
from hubkeras.architectures.options import BATCH_NORM_MOMENTUM, CallOptions
from hubkeras.architectures.settings import Settings, check_momentum, check_names, check_shape, complete
from hubkeras.common.head_layers import SOFTMAX, without_head
from hubkeras.common.networks import NetworkFacts
from hubkeras.common.numbers import plain
from hubkeras.common.plain_settings import own_random_state
from hubkeras.common.ranges import warn_of_range
from hubkeras.common.reader import read_weights

Layers = tuple[list[SlimLayer], Classifier | None]


class SlimNetwork(keras.Model):
    """An image network of TF-Slim: stages, global average pooling, and an optional classification head.

    A subclass has the first two class attributes and `create_layers`; and where it has settings of its own, a record
    of them and a constructor like this one.

    Attributes:
        facts: the constants of the architecture; the class has some of them as attributes of its own, see below.
        settings_class: the record of its settings.
        defaults: of the settings, as the constructor states them.
        variations: those among them that most networks leave alone, the constructor's keyword-only arguments.
        folds_for_inference: whether folding batch norm into the convolutions at each call makes inference faster. Only
            in MobileNet V2, which does little else; the Inceptions have many weights for that.
        every_layer_is_end_point: whether the outputs of nearly all layers are end points.
        structure: the layers, where they end and what their end points are called.
        num_features: channels of the pooled features.
        num_classes: number of logits, or None where there is no head.
        endpoints: names of the feature maps that the network returns, or None where it returns logits or features.
    """

    facts: ClassVar[NetworkFacts]
    architecture: ClassVar[str]
    title: ClassVar[str]
    scope: ClassVar[str]
    default_image_size: ClassVar[int]
    minimum_image_size: ClassVar[int]
    num_features: int
    built: bool
    settings_class: ClassVar[type[Settings]] = Settings
    defaults: ClassVar[Mapping[str, Any]]
    variations: ClassVar[Mapping[str, Any]]
    folds_for_inference = False
    every_layer_is_end_point = False
    _range_unseen = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("architecture", "title", "scope", "default_image_size", "minimum_image_size"):
            setattr(cls, name, getattr(cls.facts, name))
        names = {field.name for field in dataclasses.fields(cls.settings_class)}
        settings = [p for p in inspect.signature(cls.__init__).parameters.values() if p.name in names]
        cls.defaults = {p.name: p.default for p in settings}
        cls.variations = {p.name: p.default for p in settings if p.kind is p.KEYWORD_ONLY}

    def __init__(
        self,
        num_classes: int | None = 1001,
        weights: Any = None,
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
        dtype: Any = None,
        *,
        batch_norm_epsilon: float = EPSILON,
        final_endpoint: str | None = None,
        endpoints: Sequence[str] | None = None,
        head: Any = None,
        pooling: str = "avg",
        classifier_activation: str = SOFTMAX,
        input_range: Sequence[float] | None = None,
        input_mean: Sequence[float] | float | None = None,
        input_std: Sequence[float] | float | None = None,
        **kwargs: Any,
    ) -> None:
        """Builds the network; see the subclasses."""
        self._construct(locals())

    def _construct(self, arguments: dict[str, Any]) -> None:
        """Builds the network from what a constructor was called with.

        Args:
            arguments: the local variables of the constructor. Its `kwargs` are `name`, `trainable`, `new_head`, see the
                subclasses, and `initialize`, of which False spares the time of random weights where others follow, and
                leaves zeros.
        """
        kwargs = arguments["kwargs"]
        is_read = arguments["weights"] is not None or kwargs.get("initialize") is False
        # layers draw seeds as they are made, of which nothing is left where weights are read
        with own_random_state() if is_read and not kwargs.get("new_head") else contextlib.nullcontext():
            self._construct_layers(arguments)

    def _construct_layers(self, arguments: dict[str, Any]) -> None:
        given = plain({name: value for name, value in arguments.items() if name not in ("self", "kwargs")})
        others: dict[str, Any] = {
            "name": None,
            "trainable": True,
            "new_head": False,
            "initialize": given["weights"] is None,
        }
        check_names(type(self), arguments["kwargs"], others)
        others.update(arguments["kwargs"])
        super().__init__(name=others["name"] or self.scope, autocast=False, dtype=given["dtype"])
        self.batch_norm_momentum = given["batch_norm_momentum"]
        check_momentum(self.batch_norm_momentum)
        settings = self.settings_for(**{name: given[name] for name in self.defaults})
        stages, head = self.create_layers(settings)
        if head is not None:
            head = head if settings.head is None else Chain(settings.head, self.facts)
            head.classifier_activation = settings.classifier_activation
        self.structure = Structure.of(settings, stages, head, self.end_points(stages), self.scope)
        for setting in self.defaults:
            setattr(self, setting, getattr(self.structure.settings, setting))
        for layer in self.structure.stages:
            setattr(self, layer.name, layer)
        self.head = self.structure.head
        random = [layer for _, layer in self.head.walk("")] if self.head is not None and others["new_head"] else []
        for layer in self.all_layers():
            layer.dtype_policy = self.dtype_policy
            if not others["initialize"] and hasattr(layer, "kernel_initializer") and layer not in random:
                layer.kernel_initializer = "zeros"
        self.build((None, None, None, 3))
        if isinstance(self.head, Chain) and (others["initialize"] or others["new_head"]):
            take_weights(self.head.children(), given_head(given["head"]).keras_layers, self.num_features)
        self._initial_regularizers = states.regularizers(self.slim_variables())
        self.trainable = others["trainable"]
        if given["weights"] is not None:
            read_weights(self, given["weights"], others["new_head"])

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "trainable":
            set_trainable(self, value)
        else:
            super().__setattr__(name, value)

    @classmethod
    def settings_for(cls, **settings: Any) -> Any:
        """The record of these settings, those that are not given at their defaults.

        Raises:
            ValueError: one is out of range.
        """
        return cls.settings_class(**complete({**cls.defaults, **settings}, cls.defaults))

    @classmethod
    def create_layers(cls, settings: Any) -> Layers:
        """Unbuilt layers of the whole network, wherever the settings end it.

        Returns:
            The stages, applied one after the other, of which the first takes images in the range of the settings, and
            Slim's head, or None without classes. Each is named by its Slim scope. A stage returns a tensor, or a list
            of one for each of its end points, its output first.
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
        stages, _ = cls.create_layers(cls.settings_for(**{**settings, "num_classes": None, "head": None}))
        layers = (pair for stage in stages for pair in stage.walk(""))
        return {scope[1:]: layer.filters for scope, layer in layers if hasattr(layer, "filters")}

    @classmethod
    @functools.cache
    def scopes(cls) -> set[str]:
        """Slim's scopes below the root scope, without the head's, of the whole network."""
        return {stage.name for stage in cls.create_layers(cls.settings_for())[0]}

    @classmethod
    def settings_from_shapes(cls, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
        """The network's arguments that the shapes of its variables tell, see `NetworkFacts.settings_from_shapes`."""
        return cls.facts.settings_from_shapes(shapes)

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

    def all_layers(self) -> Iterator[SlimLayer]:
        """Every layer of the network and below, in Slim's order of creation."""
        yield from (layer for _, layer in self.walk(self.scope))

    def walk(self, scope: str) -> Iterator[tuple[str, SlimLayer]]:
        """Yields (Slim scope, layer) for every layer, as `SlimLayer.walk`."""
        for layer in (*self.structure.stages, *([] if self.head is None else [self.head])):
            yield from layer.walk(scope)

    def stride_endpoints(self) -> list[str]:
        """Names of the feature maps of each stride, for the argument `endpoints`: `["stride_4", ..., "stride_32"]`."""
        return list(self.structure.strides)

    def build(self, input_shape: Shape) -> None:
        if self.built:
            return
        for layer in self.structure.stages:
            layer.build(input_shape)
            input_shape = (None, None, None, layer.output_channels)
        self.num_features = input_shape[-1] * len(self.pooling.split("+"))
        if self.head is not None:
            self.head.build((None, None, None, self.num_features))
        self.built = True

    def slim_variables(self) -> dict[str, keras.Variable]:
        """All variables by their names in a Slim checkpoint, `{"InceptionV2/Conv2d_2b_1x1/weights": variable, ...}`."""
        return {
            f"{scope}/{variable.name}": variable
            for scope, layer in self.walk(self.scope)
            for variable in layer.own_variables()
        }

    def outputs(
        self,
        images: Tensor,
        training: bool = False,
        batch_norm_momentum: Any = None,
        fold: bool | None = None,
        include_head: bool = True,
        record: Callable[[Any, Tensor, Tensor], None] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """All that the network computes.

        Args:
            images: float `[batch, height, width, 3]`, RGB in [0, 1]. An empty batch gives empty outputs, and changes no
                moving average.
            training, record: see `CallOptions`.
            batch_norm_momentum: float or scalar tensor; the constructor's by default.
            fold: whether inference folds batch norm into the convolutions, `folds_for_inference` by default; `False`
                computes in Slim's own order, operation by operation.
            include_head: whether to apply the head, where there is one.

        Returns:
            Pooled features `[batch, num_features]`, and a dict: `default`, which is logits `[batch, num_classes]` or
            without a head the features, and Slim's end points, `<Scope>/<end point>`.
        """
        check_shape(images, self.name, self.minimum_image_size)
        images, count = operations.without_empty_batch(operations.of_images(images), bool(training))
        momentum = self.batch_norm_momentum if batch_norm_momentum is None else batch_norm_momentum
        check_momentum(momentum)
        options = CallOptions(bool(training), operations.momentum_for(count, momentum), record, count)
        fold = self.folds_for_inference if fold is None else fold
        out = self.compute_end_points(images, options, fold and not self._normalizes_batches(options), include_head)
        if count is not None:
            out = operations.first_images(out, count)
        features, default = out.pop("features"), out.pop("default")
        return features, {"default": default, **{f"{self.scope}/{name}": x for name, x in out.items()}}

    def _normalizes_batches(self, options: CallOptions) -> bool:
        """Whether any batch norm will take the statistics of the batch; a layer that is frozen does not."""
        norms = (layer for layer in self.all_layers() if isinstance(layer, keras.layers.BatchNormalization))
        return options.training and any(layer.trainable for layer in norms)

    def compute_end_points(
        self, images: Tensor, options: CallOptions, fold: bool, include_head: bool
    ) -> dict[str, Tensor]:
        """The network from top to bottom: Slim's end points below the root scope, `features` and `default`."""
        x, out = ops.cast(images, self.compute_dtype), {}
        if fold:
            out = computing.run(folding.fold_variables(self), x)
        else:
            x = operations.scale_images(x, self.structure.settings.images)
            for stage, names in zip(self.structure.stages, self.structure.end_points, strict=True):
                results = stage(x, options=options)
                x, *_ = results = results if isinstance(results, list) else [results]
                out.update(zip(names, results, strict=False))
            out["global_pool"] = operations.global_pool(x, self.pooling)
        out["default"] = out["features"] = ops.squeeze(out["global_pool"], (1, 2))
        if include_head and self.head is not None:
            out.update(self.head(out["global_pool"], options=options))
            out["default"] = out["Logits"]
        return out

    def feature_maps(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The feature maps named by `endpoints`, from what `outputs` returned."""
        return {name: outputs[f"{self.scope}/{end_point}"] for name, end_point in self.structure.feature_maps.items()}

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
        unknown = changes.keys() - self.defaults
        if unknown:
            raise ValueError(f"{self.title} has no setting {', '.join(sorted(unknown))}.")
        settings = {**self.settings(), **changes}
        settings = without_head(settings) if settings["num_classes"] is None else settings
        options = {"dtype": dtype or self.dtype_policy, "batch_norm_momentum": self.batch_norm_momentum}
        copy = type(self)(**settings, **options, initialize=False)
        variables = self.slim_variables()
        if missing := [name for name in copy.slim_variables() if name not in variables]:
            raise ValueError(f"{self.title} of {changes} has {missing[0]}, which this network has not.")
        for name, variable in copy.slim_variables().items():
            variable.assign(variables[name])
            variable.regularizer = variables[name].regularizer
        return copy

    def settings(self) -> dict[str, Any]:
        """The arguments that give another network of the same variables and outputs: `{"num_classes": 1001, ...}`.

        Those of `variations` are left out where they are Slim's defaults.
        """
        values = {name: getattr(self.structure.settings, name) for name in self.defaults}
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        missing = object()
        values = {name: value for name, value in values.items() if value != self.variations.get(name, missing)}
        if "head" in values:
            values["head"] = [layer.to_json() for layer in values["head"]]
        return values

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
