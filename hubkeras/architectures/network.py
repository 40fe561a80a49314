"""What the three networks share: input checks, the loop over stages, the head, configuration."""

import keras
from keras import ops


class SlimNetwork(keras.Model):
    """An image network of TF-Slim: stages, global average pooling, and an optional classification head.

    Subclasses give the class attributes below, `create_layers` and `classify`.

    Attributes:
        architecture: Slim's name of the network, that of its source file.
        scope: Slim's root scope, the first part of every variable's name.
        default_image_size: height and width that the published checkpoints were trained with, in pixels.
        minimum_image_size: smallest height and width that the network accepts, in pixels.
        num_features: channels of the pooled features.
        num_classes: number of logits, or None where there is no head.
        folds_for_inference: whether folding batch norm into the convolutions at each call makes inference faster. Only
            in MobileNet V2, which does little else; the Inceptions have many weights for that.
        every_layer_is_end_point: whether the outputs of nearly all layers are end points.
    """

    architecture = None
    scope = None
    default_image_size = None
    minimum_image_size = None
    folds_for_inference = False
    every_layer_is_end_point = False

    def __init__(self, *, batch_norm_momentum, weights, dtype, name=None, **kwargs):
        """Builds the network; see the subclasses for the public arguments.

        Args:
            kwargs: the subclass' settings, which go to `create_layers`, `trainable`, and `initialize`: False spares the
                time of random weights where others follow, and leaves zeros.
        """
        initialize = kwargs.pop("initialize", weights is None)
        super().__init__(name=name or self.scope, autocast=False, dtype=dtype, trainable=kwargs.pop("trainable", True))
        for setting, value in kwargs.items():
            setattr(self, setting, value)
        self.setting_names = list(kwargs)
        self.batch_norm_momentum = batch_norm_momentum
        stages, head = self.create_layers(dtype=self.dtype_policy, **kwargs)
        for layer in stages:
            setattr(self, layer.name, layer)
        self.stage_names = [layer.name for layer in stages]
        self.head = head
        if not initialize:
            for layer in self._flatten_layers(include_self=False):
                if hasattr(layer, "kernel_initializer"):
                    layer.kernel_initializer = "zeros"
        self.build((None, None, None, 3))
        if weights is not None:
            from hubkeras.converters import load_weights

            load_weights(self, weights)

    @classmethod
    def create_layers(cls, *, dtype=None, **settings):
        """The layers of a network of these settings, not built yet.

        Returns:
            The stages, applied one after the other, of which the first takes images in [-0.5, 0.5]; and the head, a
            `Scope` of the layers that `classify` applies, or None. Each is named by its Slim scope.
        """
        raise NotImplementedError

    @classmethod
    def filters(cls, **settings):
        """Filters of each convolution before the head by its scope, `{"Conv2d_2c_3x3": 192, ...}`."""
        stages, _ = cls.create_layers(num_classes=None, **settings)
        layers = (pair for stage in stages for pair in stage.walk(""))
        return {scope[1:]: layer.filters for scope, layer in layers if hasattr(layer, "filters")}

    def stages(self):
        """The layers before the global pooling, in order."""
        return [getattr(self, name) for name in self.stage_names]

    def build(self, input_shape):
        for layer in self.stages():
            layer.build(input_shape)
            input_shape = (None, None, None, layer.output_channels)
        self.num_features = input_shape[-1]
        if self.head is not None:
            self.head.build(input_shape)
        self.built = True

    def slim_variables(self):
        """All variables by their names in a Slim checkpoint, `{"InceptionV2/Conv2d_2b_1x1/weights": variable, ...}`."""
        layers = self.stages() + ([] if self.head is None else [self.head])
        return {
            f"{scope}/{variable.name}": variable
            for layer in layers
            for scope, inner in layer.walk(self.scope)
            for variable in inner.own_variables()
        }

    def check_images(self, images):
        """Raises ValueError unless images are `[batch, height, width, 3]` and, where known, large enough."""
        shape, minimum = tuple(images.shape), self.minimum_image_size
        if len(shape) != 4 or shape[3] != 3:
            raise ValueError(f"{self.name} expects images of shape [batch, height, width, 3], RGB; got {list(shape)}.")
        if any(size is not None and size < minimum for size in shape[1:3]):
            raise ValueError(
                f"{self.name} expects images of at least {minimum} x {minimum} pixels; got {shape[1]} x {shape[2]}."
            )

    def outputs(self, images, training=False, batch_norm_momentum=None, fold=None, include_head=True):
        """All that the network computes.

        Args:
            images: float `[batch, height, width, 3]`, RGB in [0, 1].
            training: whether batch norm uses the batch's statistics and updates its moving averages.
            batch_norm_momentum: float or scalar tensor; the constructor's by default.
            fold: whether inference folds batch norm into the convolutions, `folds_for_inference` by default; `False`
                computes in Slim's own order, operation by operation.
            include_head: whether to apply the head, where there is one.

        Returns:
            Pooled features `[batch, num_features]`, and a dict: `default`, which is logits `[batch, num_classes]` or
            without a head the features, and Slim's end points, `<Scope>/<end point>`.
        """
        self.check_images(images)
        if fold is None:
            fold = self.folds_for_inference
        if batch_norm_momentum is None:
            batch_norm_momentum = self.batch_norm_momentum
        # the networks' own range is [-1, 1]; the first convolution doubles this
        net = ops.cast(images, self.compute_dtype) - 0.5
        end_points = {}
        for stage in self.stages():
            results = stage(net, training=training, batch_norm_momentum=batch_norm_momentum, fold=fold)
            net, named = self.name_end_points(stage, results)
            end_points.update(named)
        end_points["global_pool"] = ops.mean(net, axis=(1, 2), keepdims=True)
        default = features = ops.squeeze(end_points["global_pool"], (1, 2))
        if include_head and self.head is not None:
            default, named = self.classify(end_points, training)
            end_points.update(named, Logits=default, Predictions=ops.softmax(default))
        return features, {"default": default, **{f"{self.scope}/{name}": x for name, x in end_points.items()}}

    def name_end_points(self, stage, results):
        """The tensor for the next stage, and the stage's end points; by default one, under the stage's name."""
        return results, {stage.name: results}

    def classify(self, end_points, training=False):
        """Logits `[batch, num_classes]` from the end points so far, and the end points of the head."""
        raise NotImplementedError

    def call(self, inputs, training=False, batch_norm_momentum=None, return_endpoints=False):
        # end points are for looking inside: in Slim's order of operations they agree with Slim's most closely
        _, outputs = self.outputs(inputs, training, batch_norm_momentum, fold=False if return_endpoints else None)
        return outputs if return_endpoints else outputs["default"]

    def copy(self, dtype):
        """A network of the same settings and weights, all of it trainable, that computes in `dtype`."""
        copy = type(self)(**self.settings(), dtype=dtype, initialize=False)
        variables = self.slim_variables()
        for name, variable in copy.slim_variables().items():
            variable.assign(variables[name])
        return copy

    def frozen(self):
        """A copy for inference alone: constants in place of variables, batch norm folded into the convolutions."""
        copy = self.copy("float32")
        for layer in [*copy.stages(), *([] if copy.head is None else [copy.head])]:
            layer.freeze()
        return copy

    def settings(self):
        """The arguments that give another network of the same variables: `{"num_classes": 1001, ...}`."""
        return {name: getattr(self, name) for name in self.setting_names}

    def get_config(self):
        config = {"name": self.name, "trainable": self.trainable, "batch_norm_momentum": self.batch_norm_momentum}
        return {**config, "dtype": keras.dtype_policies.serialize(self.dtype_policy), **self.settings()}


def validate_settings(depth_multiplier=1.0, num_classes=None):
    """Raises ValueError unless the multiplier is positive and the classes None or a positive integer."""
    if not depth_multiplier > 0:
        raise ValueError(f"depth_multiplier must be above 0; got {depth_multiplier!r}.")
    if num_classes is not None and (not isinstance(num_classes, int) or num_classes < 1):
        raise ValueError(f"num_classes must be a positive integer, or None for pooled features; got {num_classes!r}.")
