#!/usr/bin/env python3
"""Records what TF-Slim's own networks compute with other settings than the published ones, for `test_variations.py`.

Runs in the environment of `slim_reference.py`, which lies beside it and made the other figures of this folder; weights
and images are of its recipe:

    python make_variations.py variations.npz

For each of `CASES`, computed in float64 and stored in float32:
    CASE/endpoint/NAME          64 values of the end point NAME at flat positions linspace(0, n - 1, 64)
    CASE/endpoint_shape/NAME    its whole shape
    CASE/train/NAME             the same of the last end point, in training mode
"""

import sys

import numpy as np
from slim_reference import images, inception_resnet_v2, inception_v2, mobilenet_v2, recipe, sample, slim, tf, tf1

# image size, the network, its scope's arguments and its own, Slim's names on either side
CASES = {
    "mobilenet_v2_stride_8": (513, "mobilenet_v2", {}, {"depth_multiplier": 0.35, "output_stride": 8}),
    "mobilenet_v2_stride_16": (
        129,
        "mobilenet_v2",
        {"batch_norm_epsilon": 0.01},
        {"depth_multiplier": 0.5, "output_stride": 16, "final_endpoint": "layer_18"},
    ),
    "inception_v2": (
        97,
        "inception_v2",
        {"batch_norm_scale": True, "batch_norm_epsilon": 0.01},
        {"depth_multiplier": 0.25, "final_endpoint": "Mixed_4e"},
    ),
    "inception_resnet_v2_stride_8": (
        113,
        "inception_resnet_v2",
        {"batch_norm_scale": True},
        {"output_stride": 8, "align_feature_maps": True, "final_endpoint": "PreAuxLogits"},
    ),
    "inception_resnet_v2_stride_8_valid": (
        107,
        "inception_resnet_v2",
        {},
        {"output_stride": 8, "final_endpoint": "PreAuxLogits"},
    ),
    "inception_resnet_v2_aligned": (
        101,
        "inception_resnet_v2",
        {"batch_norm_epsilon": 0.01},
        {"align_feature_maps": True},
    ),
}
FINAL = {"inception_v2": "Mixed_5c", "inception_resnet_v2": "Conv2d_7b_1x1", "mobilenet_v2": "layer_19"}


def base(architecture, x, training, scope, arguments):
    """The end points of Slim's network before the pooling."""
    if architecture == "mobilenet_v2":
        epsilon = scope.get("batch_norm_epsilon", 0.001)
        fine = {"finegrain_classification_mode": arguments["depth_multiplier"] < 1}
        with (
            slim.arg_scope(mobilenet_v2.training_scope(is_training=training)),
            slim.arg_scope([slim.batch_norm], epsilon=epsilon),
        ):
            return mobilenet_v2.mobilenet_base(x, **fine, **arguments)[1]
    module = {"inception_v2": inception_v2, "inception_resnet_v2": inception_resnet_v2}[architecture]
    arg_scope = getattr(module, f"{architecture}_arg_scope")(**scope)
    # picsellia's copy of Slim hands the scale to `batch_norm` itself
    with slim.arg_scope(arg_scope), slim.arg_scope([slim.batch_norm], is_training=training):
        return getattr(module, f"{architecture}_base")(x, **arguments)[1]


def compute(case, training):
    """`{end point: value}` of one of `CASES` in float64."""
    size, architecture, scope, arguments = CASES[case]
    # TensorFlow's fused batch norm has no float64 kernel
    with tf.Graph().as_default(), slim.arg_scope([slim.batch_norm], fused=False), tf1.Session() as session:
        x = tf1.placeholder(tf.float64, [None, size, size, 3])
        ends = base(architecture, x * 2.0 - 1.0, training, scope, arguments)
        variables = tf1.global_variables()
        values = {v.initializer.inputs[1]: recipe(v.op.name, v.shape.as_list()) for v in variables}
        session.run([v.initializer for v in variables], values)
        ends = {name: tensor for name, tensor in ends.items() if isinstance(tensor, tf.Tensor)}
        return session.run(ends, {x: images(1, size).astype(np.float64)})


def main(out):
    figures = {}
    for case, (_, architecture, _, arguments) in CASES.items():
        for name, value in compute(case, training=False).items():
            figures[f"{case}/endpoint/{name}"] = sample(value).astype(np.float32)
            figures[f"{case}/endpoint_shape/{name}"] = np.array(value.shape)
        last = arguments.get("final_endpoint", FINAL[architecture])
        figures[f"{case}/train/{last}"] = sample(compute(case, training=True)[last]).astype(np.float32)
        print(case, sum(key.startswith(f"{case}/endpoint/") for key in figures), "end points")
    np.savez_compressed(out, **figures)


if __name__ == "__main__":
    main(*sys.argv[1:])
