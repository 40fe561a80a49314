#!/usr/bin/env python3
"""Records what one SGD step does in TF-Slim's own graph, for `tests/consuming/test_one_step.py`.

Runs in the environment of `slim_reference.py`, which lies beside it and made the other figures of this folder; weights
and images are of its recipe:

    python make_sgd_step.py mobilenet_v2_0.35_96_sgd.npz

MobileNet V2 0.35 at 96 x 96 pixels, batch 4, loss mean(features ** 2) in training mode, learning rate 0.1:
    weights/NAME            trainable variable after the step, for `WEIGHTS`; the same for every momentum
    M/NAME                  moving average after the step with momentum M, for each of `MOMENTA` and `STATISTICS`
    loss                    before the step
"""

import sys
from argparse import Namespace

import numpy as np
from slim_reference import assign_recipe, images, make_graph, tf, tf1

LEARNING_RATE = 0.1
MOMENTA = (0.0, 0.9, 0.99, 1.0)
WEIGHTS = (
    "Conv/weights",
    "expanded_conv/depthwise/depthwise_weights",
    "expanded_conv_8/expand/BatchNorm/gamma",
    "expanded_conv_8/project/weights",
    "Conv_1/BatchNorm/beta",
)
STATISTICS = tuple(
    f"{scope}/BatchNorm/moving_{statistic}"
    for scope in ("Conv", "expanded_conv_8/depthwise", "Conv_1")
    for statistic in ("mean", "variance")
)


def main(out):
    figures = {}
    for momentum in MOMENTA:
        args = Namespace(arch="mobilenet_v2", depth_multiplier=0.35, image_size=96, num_classes=1001, momentum=momentum)
        args.salt, args.ema = "", False
        graph, x, _, features, _ = make_graph(args, training=True)
        with graph.as_default(), tf1.Session() as session:
            variables = {v.op.name.removeprefix("MobilenetV2/"): v for v in tf1.global_variables()}
            loss = tf.reduce_mean(features**2)
            updates = tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)
            with tf1.control_dependencies(updates):
                step = tf1.train.GradientDescentOptimizer(LEARNING_RATE).minimize(loss)
            assign_recipe(session, list(variables.values()), args)
            _, figures["loss"] = session.run([step, loss], {x: images(4, 96)})
            figures.update({f"weights/{name}": session.run(variables[name]) for name in WEIGHTS})
            figures.update({f"{momentum:g}/{name}": session.run(variables[name]) for name in STATISTICS})
    np.savez_compressed(out, **figures)


if __name__ == "__main__":
    main(*sys.argv[1:])
