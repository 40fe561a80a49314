#!/usr/bin/env python3
"""Records what the networks compute inside of detectors and a segmenter, for `tests/converters/test_detectors.py`.

Runs in the environment of `slim_reference.py`, which lies beside it and made the other figures of this folder, with
scipy, matplotlib, pillow and six; `picsellia-tf1` carries the Object Detection API too:

    python make_detectors.py FOLDER [FAMILY...]

Each family's own feature extractor builds its graph; weights are of the recipe, images 2 x 161 x 161 (129 x 129 for
Faster R-CNN with Inception-ResNet V2). DeepLab's encoder is `mobilenet_base` with an output stride of 16, as its
`core/feature_extractor.py` calls it; its head, which computes nothing here, has the names of `model.py`. A file holds:
    names, shapes           every variable of the graph
    image_size              height and width in pixels
    map/NAME, shape/NAME    64 values of a feature map, and its whole shape, by Slim's name of the end point; for
                            Faster R-CNN `second/NAME` is that of the second stage applied to the map of the first
"""

import importlib.util
import json
import os
import pathlib
import sys

os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"

import numpy as np
from slim_reference import images, mobilenet_v2, recipe, sample, slim, tf, tf1

sys.path.insert(0, importlib.util.find_spec("picsellia_tf1").submodule_search_locations[0])
from object_detection.models import (
    faster_rcnn_inception_resnet_v2_feature_extractor,
    faster_rcnn_inception_v2_feature_extractor,
    ssd_inception_v2_feature_extractor,
    ssd_mobilenet_v2_feature_extractor,
)


def conv_scope(activation):
    def build():
        batch_norm = {"center": True, "scale": True, "epsilon": 0.001, "decay": 0.9997, "is_training": False}
        convolutions = [slim.conv2d, slim.separable_conv2d]
        with slim.arg_scope(
            convolutions, activation_fn=activation, normalizer_fn=slim.batch_norm, normalizer_params=batch_norm
        ) as scope:
            return scope

    return build


def ssd_mobilenet_v2(x):
    extractor = ssd_mobilenet_v2_feature_extractor.SSDMobileNetV2FeatureExtractor(
        False, 0.35, 8, 1, conv_scope(tf.nn.relu6)
    )
    # as SSDMetaArch.predict calls it
    with slim.arg_scope([slim.batch_norm], is_training=False), tf1.variable_scope("FeatureExtractor"):
        maps = extractor.extract_features(x)
    slim.conv2d(maps[0], 12, 1, scope="BoxPredictor_0/BoxEncodingPredictor")
    return {"layer_15/expansion_output": maps[0], "layer_19": maps[1]}


def ssd_inception_v2(x, activation=tf.nn.relu):
    extractor = ssd_inception_v2_feature_extractor.SSDInceptionV2FeatureExtractor(
        False, 0.35, 16, 1, conv_scope(activation), override_base_feature_extractor_hyperparams=True
    )
    # as SSDMetaArch.predict calls it
    with slim.arg_scope([slim.batch_norm], is_training=False), tf1.variable_scope("FeatureExtractor"):
        maps = extractor.extract_features(x)
    slim.conv2d(maps[0], 12, 1, scope="BoxPredictor_0/BoxEncodingPredictor")
    return {"Mixed_4c": maps[0], "Mixed_5c": maps[1]}


def ssd_inception_v2_relu6(x):
    """As the published configurations have it."""
    return ssd_inception_v2(x, tf.nn.relu6)


def two_stages(extractor, x, first, second):
    proposals, _ = extractor.extract_proposal_features(x, scope="FirstStageFeatureExtractor")
    slim.conv2d(proposals, 8, 3, scope="Conv")
    last = extractor.extract_box_classifier_features(proposals, scope="SecondStageFeatureExtractor")
    slim.fully_connected(tf.reduce_mean(last, (1, 2)), 8, scope="SecondStageBoxPredictor/ClassPredictor")
    return {first: proposals, f"second/{second}": last}


def faster_rcnn_inception_v2(x):
    extractor = faster_rcnn_inception_v2_feature_extractor.FasterRCNNInceptionV2FeatureExtractor(
        False, 16, depth_multiplier=0.35
    )
    return two_stages(extractor, x, "Mixed_4e", "Mixed_5c")


def faster_rcnn_inception_resnet_v2(x):
    extractor = faster_rcnn_inception_resnet_v2_feature_extractor.FasterRCNNInceptionResnetV2FeatureExtractor(False, 16)
    return two_stages(extractor, x, "PreAuxLogits", "Conv2d_7b_1x1")


def deeplab_mobilenet_v2(x):
    with slim.arg_scope(mobilenet_v2.training_scope(is_training=False)):
        net, _ = mobilenet_v2.mobilenet_base(
            x, depth_multiplier=0.5, final_endpoint="layer_18", output_stride=16, finegrain_classification_mode=True
        )
    for scope in ("image_pooling", "aspp0", "concat_projection", "logits/semantic"):
        slim.conv2d(net, 8, 1, scope=scope)
    return {"layer_18": net}


FAMILIES = (
    ssd_mobilenet_v2,
    ssd_inception_v2,
    ssd_inception_v2_relu6,
    faster_rcnn_inception_v2,
    faster_rcnn_inception_resnet_v2,
    deeplab_mobilenet_v2,
)


def main(folder, *names):
    for family in FAMILIES:
        if names and family.__name__ not in names:
            continue
        size = 129 if family is faster_rcnn_inception_resnet_v2 else 161
        with tf.Graph().as_default(), tf1.Session() as session:
            x = tf1.placeholder(tf.float32, [None, size, size, 3])
            maps = family(x * 2.0 - 1.0)
            variables = {v.op.name: v for v in tf1.global_variables()}
            shapes = {name: v.shape.as_list() for name, v in variables.items()}
            values = {v.initializer.inputs[1]: recipe(name, shapes[name]) for name, v in variables.items()}
            session.run([v.initializer for v in variables.values()], values)
            found = session.run(maps, {x: images(2, size)})
        figures = {"names": list(shapes), "shapes": [json.dumps(shape) for shape in shapes.values()]}
        for name, value in found.items():
            figures[f"map/{name}"] = sample(value)
            figures[f"shape/{name}"] = value.shape
        np.savez_compressed(pathlib.Path(folder, f"detector_{family.__name__}.npz"), image_size=size, **figures)


if __name__ == "__main__":
    main(*sys.argv[1:])
