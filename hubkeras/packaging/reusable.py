"""A network as a Reusable SavedModel: plain TensorFlow variables and functions, ready for `tf.saved_model.save`.

The interface is that of https://www.tensorflow.org/hub/reusable_saved_models, with the extra arguments and signatures
of Google's image modules.
"""

import functools

import keras
import tensorflow as tf

from hubkeras.architectures.options import BATCH_NORM_MOMENTUM
from hubkeras.common.errors import Error

# the functions hold no Python control flow over tensors, which autograph would look for
function = functools.partial(tf.function, autograph=False)

TASKS = ("classification", "feature_vector")


def is_statistic(name):
    """Whether a variable of this Slim name is a moving average of batch norm, which has no gradient."""
    return name.rsplit("/", 1)[-1] in ("moving_mean", "moving_variance")


def _plain(network):
    """`network`, or where its layers are frozen or of reduced precision, one that is not, of the same weights."""
    layers = network._flatten_layers()
    if all(layer.trainable and layer.compute_dtype == "float32" for layer in layers):
        return network
    return network.copy("float32")


def check_task(network, task):
    """Raises hubkeras.Error unless a SavedModel for `task` can be made of `network` here."""
    if keras.backend.backend() != "tensorflow":
        raise Error(
            f"Exporting needs Keras on TensorFlow, not on {keras.backend.backend()}; set KERAS_BACKEND=tensorflow."
        )
    if task not in TASKS:
        raise Error(f"task must be one of {', '.join(TASKS)}; got {task!r}.")
    if task == "classification" and network.num_classes is None:
        raise Error("The network has no classification head (num_classes is None); export it as a feature_vector.")


def checked(images, minimum):
    """`images`, or an error where they are smaller than `minimum`, without control flow."""
    size = tf.shape(images)[1:3]
    message = f"This network expects images of at least {minimum} x {minimum} pixels; got height and width:"
    check = tf.raw_ops.Assert(condition=tf.reduce_min(size) >= minimum, data=[message, size])
    with tf.control_dependencies([check]):
        return tf.identity(images)


def large_enough(images, network):
    """`images`, or the error of `checked`, for callers whose size is known when the graph is made.

    TensorFlow infers shapes before anything runs. Where `network` has layers without padding this would fail on small
    images, before the check could say why; so these are filled up with zeros, of which nothing is computed.
    """
    if all(getattr(layer, "padding", "same") == "same" for layer in network._flatten_layers()):
        return images  # `checked` in the network's own graph is enough
    images = checked(images, network.minimum_image_size)
    batch, height, width, _ = tf.unstack(tf.shape(images))
    larger = [tf.maximum(size, network.minimum_image_size) for size in (height, width)]
    images = tf.pad(images, [[0, 0], [0, larger[0] - height], [0, larger[1] - width], [0, 0]])
    # shape inference does not know the channels after that, and converters to other runtimes need them
    return tf.reshape(images, [batch, *larger, 3])


class ReusableModule(tf.__internal__.tracking.AutoTrackable):
    """The root object of a SavedModel; `reusable_module` gives it its attributes.

    Args:
        call: the `tf.function` that becomes the SavedModel's `__call__`.
        trace: traces it for everything that the SavedModel offers. TensorFlow traces again what was traced before
            saving began, and keeps both, so this is called while it saves.
    """

    def __init__(self, call, trace):
        super().__init__()
        self.__call__ = call  # SavedModel looks for functions among the attributes of the instance
        self._trace = trace

    def __call__(self, *args, **kwargs):
        return self.__dict__["__call__"](*args, **kwargs)

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        if save_type == "savedmodel":
            self._trace()
        return super()._trackable_children(save_type, **kwargs)


def reusable_module(network, task, image_size=None, assets=None):
    """Builds the root object and the signatures of a SavedModel.

    Args:
        network: a `SlimNetwork`; it is not changed, and later changes of it do not matter.
        task: `classification` (logits) or `feature_vector` (pooled features).
        image_size: height and width in pixels that inputs are fixed to; None leaves them free.
        assets: files to travel with the SavedModel, `{"labels": path}`; each becomes an attribute, a
            `tf.saved_model.Asset`.

    Returns:
        A trackable object with `__call__(inputs, training=False, batch_norm_momentum=0.99, return_endpoints=False)`,
        `variables`, `trainable_variables`, `regularization_losses` and the assets; and the signatures by name. After
        saving, `saved_inference(images)` runs the graph that was saved: `features` and `default`.

    Raises:
        hubkeras.Error: the task is unknown or the network has no head for it, or Keras runs on another backend.
    """
    check_task(network, task)
    network = _plain(network)
    include_head = task == "classification"
    head = f"{network.scope}/Logits/"
    sources = {n: v for n, v in network.slim_variables().items() if include_head or not n.startswith(head)}
    variables = {}
    for name, source in sources.items():
        # as tf_keras has its moving averages: each replica keeps its own, reading gives their mean
        options = {
            "trainable": False,
            "synchronization": tf.VariableSynchronization.ON_READ,
            "aggregation": tf.VariableAggregation.MEAN,
        }
        # both have one buffer until either is changed
        variables[name] = tf.Variable(source.value, name=name, **(options if is_statistic(name) else {}))

    def network_outputs(images, **options):
        """What the network returns with the SavedModel's variables in place of its own, and the batch's statistics."""
        images = checked(images, network.minimum_image_size) if image_size is None else images
        with keras.StatelessScope([(sources[name], variables[name]) for name in variables]) as scope:
            features, outputs = network.outputs(images, include_head=include_head, **options)
        batch_statistics = {name: scope.get_current_value(sources[name]) for name in filter(is_statistic, variables)}
        return {"features": features, **outputs}, batch_statistics

    def update_statistics(batch_statistics, momentum):
        """Updates the moving averages, all in a few large operations, which cost less than many small ones."""
        moving = [variables[name] for name in batch_statistics]
        batch = tf.concat(list(batch_statistics.values()), 0)
        values = tf.concat(moving, 0) * momentum + batch * (1 - momentum)
        for variable, value in zip(moving, tf.split(values, [v.shape[0] for v in moving]), strict=True):
            variable.assign(value)

    def plain(outputs):
        return {name: outputs[name] for name in ("features", "default")}

    def inference_endpoints(images):
        # in Slim's order of operations, so that end points agree most closely with Slim's
        return network_outputs(images, fold=False)[0]

    def inference_folded(images):
        return plain(network_outputs(images, fold=True)[0])

    def train_endpoints(images, batch_norm_momentum):
        outputs, batch_statistics = network_outputs(images, training=True, statistics="store")
        update_statistics(batch_statistics, batch_norm_momentum)
        return outputs

    def train_plain(images, batch_norm_momentum):
        return plain(train_endpoints(images, batch_norm_momentum))

    # Two to four graphs hold the network. Those with several callers are functions, and TensorFlow drops what a call
    # does not use; those of end points that have no other caller are traced in its place.
    if network.folds_for_inference:
        inference = function(inference_folded)
    else:
        inference = inference_endpoints = function(inference_endpoints)
    # TensorFlow computes with a gradient of zeros for each end point that is not used
    if network.every_layer_is_end_point:
        train = function(train_plain)
    else:
        train = train_endpoints = function(train_endpoints)

    def outputs(images, training, batch_norm_momentum, return_endpoints):
        if training:
            run = train_endpoints if return_endpoints else train
            return run(images, tf.convert_to_tensor(batch_norm_momentum))
        return inference_endpoints(images) if return_endpoints else inference(images)

    @function
    def call(inputs, training=False, batch_norm_momentum=BATCH_NORM_MOMENTUM, return_endpoints=False):
        images = large_enough(inputs, network) if image_size is None else inputs
        result = outputs(images, training, batch_norm_momentum, return_endpoints)
        if not return_endpoints:
            return result["default"]
        return {name: value for name, value in result.items() if name != "features"}

    @function(input_signature=[])
    def regularization_loss():
        halves = {}  # l2_loss halves the sum of squares
        for name, variable in variables.items():
            if sources[name].regularizer is not None:
                halves.setdefault(float(sources[name].regularizer.l2), []).append(tf.nn.l2_loss(variable))
        return tf.add_n([2 * l2 * tf.add_n(terms) for l2, terms in halves.items()])

    images = tf.TensorSpec([None, image_size, image_size, 3], tf.float32, name="inputs")
    momentum = tf.TensorSpec([], tf.float32, name="batch_norm_momentum")
    traced = {}

    def trace():
        for training in (False, True):
            for return_endpoints in (False, True):
                call.get_concrete_function(images, training, momentum, return_endpoints)
        traced["inference"] = inference.get_concrete_function(tf.TensorSpec(images.shape, images.dtype))

    root = ReusableModule(call, trace)
    root.saved_inference = lambda images: traced["inference"](images)
    root.variables = list(variables.values())
    root.trainable_variables = [v for n, v in variables.items() if not is_statistic(n)]
    root.regularization_losses = [regularization_loss]
    for name, path in (assets or {}).items():
        setattr(root, name, tf.saved_model.Asset(str(path)))
    return root, signatures_of(outputs, task, images)


def signatures_of(outputs, task, spec, trains=True):
    """`serving_default`, `image_feature_vector`, with a head `image_classification`, and for training their likes.

    Args:
        outputs: function of images, training, momentum, return_endpoints; returns `features` and `default`.
        task: `classification` or `feature_vector`.
        spec: of the images.
        trains: whether to make the signatures for training.
    """
    images = tf.TensorSpec(spec.shape, spec.dtype, name="images")
    momentum = tf.TensorSpec([], tf.float32, name="batch_norm_momentum")
    serving_output = "logits" if task == "classification" else "features"

    @function(input_signature=[spec])
    def serving(inputs):
        return {serving_output: outputs(inputs, False, None, False)["default"]}

    signatures = {"serving_default": serving}
    names = {"image_feature_vector": "features"}
    if task == "classification":
        names["image_classification"] = "default"
    for name, output in names.items():

        @function(input_signature=[images])
        def inference(images, output=output):
            return {"default": outputs(images, False, None, False)[output]}

        @function(input_signature=[images, momentum])
        def training(images, batch_norm_momentum, output=output):
            return {"default": outputs(images, True, batch_norm_momentum, False)[output]}

        signatures[name] = inference
        if trains:
            signatures[f"{name}_with_bn_hparams"] = training
    return signatures
