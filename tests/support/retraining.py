"""What TF1's `retrain.py` of tensorflow/hub left: a graph of a TF1 module, MobileNet V2, with a layer of its own."""

import tensorflow as tf

v1 = tf.compat.v1
SCOPE = "MobilenetV2"
_STRIDES = {1: 2, 3: 2, 6: 2, 13: 2}  # of the blocks by their numbers


def retrained(tensors, head, size=96, scale=(2.0, 1.0)):
    """The graph that `retrain.py` exports, and a session with its variables.

    Args:
        tensors: `{"MobilenetV2/Conv/weights": value}`.
        head: kernel and bias of the new layer.
        size: height and width of the images.
        scale: factor of images, and what is subtracted then.

    Returns:
        The session; the graph has the tensors `Placeholder:0` and `final_result:0`.
    """
    graph, starts = tf.Graph(), {}

    def start(value):
        placeholder = v1.placeholder(tf.float32, value.shape)
        starts[placeholder] = value
        return placeholder

    with graph.as_default():
        images = v1.placeholder(tf.float32, [None, size, size, 3], name="Placeholder")
        with v1.variable_scope("module"):
            variables = {
                name: v1.get_variable(name, initializer=start(value), use_resource=False)
                for name, value in tensors.items()
                if "/Logits/" not in name
            }
        with tf.name_scope("module_apply_default"):
            x = tf.subtract(tf.multiply(images, scale[0], name="hub_input/Mul"), scale[1], name="hub_input/Sub")
            features = _features(variables, x)
        with tf.name_scope("input"):
            bottleneck = v1.placeholder_with_default(features, [None, features.shape[1]], "BottleneckInputPlaceholder")
            v1.placeholder(tf.int64, [None], "GroundTruthInput")
        with tf.name_scope("final_retrain_ops"):
            with tf.name_scope("weights"):
                weights = v1.Variable(start(head[0]), name="final_weights", use_resource=False)
            with tf.name_scope("biases"):
                biases = v1.Variable(start(head[1]), name="final_biases", use_resource=False)
            with tf.name_scope("Wx_plus_b"):
                logits = tf.matmul(bottleneck, weights) + biases
        tf.nn.softmax(logits, name="final_result")
        session = v1.Session(graph=graph)
        for variable, value in [
            (weights, head[0]),
            (biases, head[1]),
            *((v, tensors[n]) for n, v in variables.items()),
        ]:
            variable.load(value, session)
    return session


def _features(variables, x):
    """MobileNet V2 as TF-Slim builds it, in inference."""

    def convolve(x, scope, stride=1, depthwise=False, activate=True):
        name = f"{SCOPE}/{scope}"
        kernel = variables[f"{name}/{'depthwise_weights' if depthwise else 'weights'}"]
        function = tf.nn.depthwise_conv2d if depthwise else tf.nn.conv2d
        x = function(x, kernel, strides=[1, stride, stride, 1], padding="SAME")
        parts = [variables[f"{name}/BatchNorm/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")]
        x, *_ = v1.nn.fused_batch_norm(x, *parts, epsilon=0.001, is_training=False)
        return tf.nn.relu6(x) if activate else x

    x = convolve(x, "Conv", 2)
    for number in range(17):
        block = f"expanded_conv_{number}" if number else "expanded_conv"
        stride, given = _STRIDES.get(number, 1), x
        x = convolve(x, f"{block}/expand") if number else x
        x = convolve(x, f"{block}/depthwise", stride, depthwise=True)
        x = convolve(x, f"{block}/project", activate=False)
        x = x + given if stride == 1 and x.shape[-1] == given.shape[-1] else x
    x = convolve(x, "Conv_1")
    x = tf.nn.avg_pool2d(x, x.shape[1], 1, "VALID")
    return tf.squeeze(x, [1, 2])


def probabilities(session, images):
    """What the graph gives for images."""
    return session.run("final_result:0", {"Placeholder:0": images})


def save_frozen(session, path):
    """`output_graph.pb`."""
    definition = session.graph.as_graph_def()
    frozen = v1.graph_util.convert_variables_to_constants(session, definition, ["final_result"])
    path.write_bytes(frozen.SerializeToString())
    return path


def save_model(session, folder):
    """The SavedModel of `--saved_model_dir`."""
    with session.graph.as_default():
        tensors = [session.graph.get_tensor_by_name(name) for name in ("Placeholder:0", "final_result:0")]
        images, result = map(v1.saved_model.utils.build_tensor_info, tensors)
        signature = v1.saved_model.signature_def_utils.build_signature_def(
            {"image": images}, {"prediction": result}, "tensorflow/serving/predict"
        )
        builder = v1.saved_model.builder.SavedModelBuilder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    return folder
