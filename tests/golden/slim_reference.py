#!/usr/bin/env python3
"""Reference figures from TF-Slim's own networks: checkpoints, activations, batch-norm updates, gradients.

This is the oracle that hubkeras is measured against: it builds the *original* TF-Slim graph, gives it
weights by a documented recipe, writes a Slim checkpoint and records what that graph computes.

Needs, beside TensorFlow:
    pip install tf-slim==1.1.0 tf_keras
    pip install --no-deps picsellia-tf1==0.6     # a published wheel that carries TF-Slim's `nets` package
The same wheel carries `object_detection`: after `_import_slim()`, with its folder on sys.path, matplotlib, pillow and
six installed and PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python,
`object_detection.models.{ssd_mobilenet_v2,ssd_inception_v2,faster_rcnn_inception_v2,faster_rcnn_inception_resnet_v2}`
`_feature_extractor` import on TensorFlow 2.21.

Examples
    slim_reference.py --arch mobilenet_v2 --depth-multiplier 0.35 --image-size 96 \
        --checkpoint build/m/model.ckpt --golden build/m/golden.npz
    slim_reference.py --arch inception_v2 --format v1 --checkpoint build/i/inception_v2.ckpt
    slim_reference.py --arch inception_resnet_v2 --extras --checkpoint build/r/model.ckpt --frozen build/r/frozen.pb

Weight recipe (so that nobody has to store weights): for the variable called NAME,
`r = numpy.random.RandomState(zlib.crc32((salt + NAME).encode()))`, then, cast to float32:
    .../moving_variance, .../gamma        r.uniform(0.5, 1.5, shape)
    .../moving_mean, .../beta, .../biases r.normal(0.0, 0.1, shape)
    .../depthwise_weights                 r.normal(0.0, sqrt(2 / (kh * kw)), shape)
    every other kernel                    r.normal(0.0, sqrt(2 / (kh * kw * cin)), shape)
The images are `numpy.random.RandomState(7).uniform(0, 1, (batch, size, size, 3))`, float32, in [0, 1]; the graph
maps them to [-1, 1] (x * 2 - 1) before the network, as the published hub modules do.

What --golden holds (numpy .npz)
    config                    the settings, as a JSON string
    names, shapes             every model variable of the Slim graph, in creation order
    logits, features          inference mode: [batch, num_classes] logits; [batch, num_features] pooled features
    logits64, features64      the same graph computed in float64: the truth that float32 results are measured against
                              (Slim's own float32 is off by about 1e-5 of the largest value in MobileNet V2 with these
                              weights, by 1e-6 in the Inceptions)
    probabilities             softmax of the logits
    endpoint/NAME             inference mode: 64 values of the activation NAME at flat positions linspace(0, n - 1, 64)
    endpoint_shape/NAME       its whole shape
    train_features            training mode (batch statistics), same images
    train_moving_mean/NAME, train_moving_variance/NAME   the moving averages after ONE training call
                              with momentum --momentum (only a few layers are kept: first, middle, last)
    grad_norm                 L2 norm of d(mean(train_features ** 2)) / d(variable), per trainable variable of the
                              feature extractor, in `grad_names` order
    train_features64, grad_norm64   the same two in float64, and for Inception-ResNet V2 without dropout: the truth for
                              gradients. float32 on either side is off by up to 2e-2 of a norm on some processors
                              (a ReLU6 that switches by rounding), so compare float64 with float64
    reg_names, reg_values     Slim's regularization losses: variable and value, one by one
"""

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import sys
import zlib

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def _import_slim():
    """tf-slim 1.1.0 predates tf_keras' move of the TF1 layers; point its import at where they are now."""
    package = importlib.import_module("tf_keras.src.legacy_tf_layers")
    sys.modules["tf_keras.legacy_tf_layers"] = package
    for part in ("base", "convolutional", "core", "normalization", "pooling"):
        sys.modules[f"tf_keras.legacy_tf_layers.{part}"] = importlib.import_module(
            f"tf_keras.src.legacy_tf_layers.{part}"
        )
    spec = importlib.util.find_spec("picsellia_tf1")
    if spec is None and "SLIM_DIR" not in os.environ:
        sys.exit("TF-Slim's nets are missing: pip install --no-deps picsellia-tf1==0.6, or set SLIM_DIR")
    sys.path.insert(0, os.environ.get("SLIM_DIR") or str(pathlib.Path(spec.submodule_search_locations[0]) / "slim"))


_import_slim()
import tensorflow as tf  # noqa: E402
import tf_slim as slim  # noqa: E402
from nets import inception_resnet_v2, inception_v2  # noqa: E402
from nets.mobilenet import mobilenet_v2  # noqa: E402

tf1 = tf.compat.v1
DEFAULT_SIZE = {"inception_v2": 224, "inception_resnet_v2": 299, "mobilenet_v2": 224}
FEATURES = {"inception_v2": "global_pool", "inception_resnet_v2": "PreLogitsFlatten", "mobilenet_v2": "global_pool"}


def recipe(name, shape, salt=""):
    r = np.random.RandomState(zlib.crc32((salt + name).encode()))
    leaf = name.rsplit("/", 1)[-1]
    if leaf in ("moving_variance", "gamma"):
        value = r.uniform(0.5, 1.5, shape)
    elif leaf in ("moving_mean", "beta", "biases"):
        value = r.normal(0.0, 0.1, shape)
    elif leaf == "depthwise_weights":
        value = r.normal(0.0, np.sqrt(2 / (shape[0] * shape[1])), shape)
    else:
        value = r.normal(0.0, np.sqrt(2 / np.prod(shape[:-1])), shape)
    return value.astype(np.float32)


def images(batch, size, seed=7):
    return np.random.RandomState(seed).uniform(0, 1, (batch, size, size, 3)).astype(np.float32)


def build(args, x, training, dropout_keep_prob=0.8):
    """Returns (logits, pooled features [batch, num_features], end points)."""
    if args.arch == "inception_v2":
        with slim.arg_scope(inception_v2.inception_v2_arg_scope(batch_norm_decay=args.momentum)):
            logits, ends = inception_v2.inception_v2(
                x,
                num_classes=args.num_classes,
                is_training=training,
                global_pool=True,
                depth_multiplier=args.depth_multiplier,
            )
    elif args.arch == "inception_resnet_v2":
        with slim.arg_scope(inception_resnet_v2.inception_resnet_v2_arg_scope(batch_norm_decay=args.momentum)):
            logits, ends = inception_resnet_v2.inception_resnet_v2(
                x,
                num_classes=args.num_classes,
                is_training=training,
                create_aux_logits=not args.no_aux,
                dropout_keep_prob=dropout_keep_prob,
            )
    else:
        with slim.arg_scope(mobilenet_v2.training_scope(is_training=training, bn_decay=args.momentum)):
            logits, ends = mobilenet_v2.mobilenet(
                x,
                num_classes=args.num_classes,
                depth_multiplier=args.depth_multiplier,
                finegrain_classification_mode=args.depth_multiplier < 1.0,
            )
    features = tf.reshape(ends[FEATURES[args.arch]], [-1, ends[FEATURES[args.arch]].shape[-1]])
    return logits, features, ends


def make_graph(args, training, dtype=tf.float32):
    graph = tf.Graph()
    # TensorFlow's fused batch norm has no float64 kernel
    unfused = slim.arg_scope([slim.batch_norm], fused=False) if dtype == tf.float64 else contextlib.nullcontext()
    with graph.as_default(), unfused:
        tf1.set_random_seed(1)
        size = args.image_size
        x = tf1.placeholder(dtype, [None, size, size, 3], name="images")
        keep = {"dropout_keep_prob": 1.0} if dtype == tf.float64 else {}
        logits, features, ends = build(args, x * 2.0 - 1.0, training, **keep)
        tf.identity(logits, name="logits")
    return graph, x, logits, features, ends


def assign_recipe(session, variables, args):
    trainable = {v.op.name for v in tf1.trainable_variables()}
    salts = {n: args.salt + "ema/" * (args.ema and n in trainable) for n in (v.op.name for v in variables)}
    session.run(
        [v.initializer for v in variables],
        {v.initializer.inputs[1]: recipe(v.op.name, v.shape.as_list(), salts[v.op.name]) for v in variables},
    )


def sample(a):
    flat = np.asarray(a).reshape(-1)
    return flat[np.linspace(0, flat.size - 1, 64).astype(np.int64)]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--arch", required=True, choices=sorted(DEFAULT_SIZE))
    p.add_argument("--depth-multiplier", type=float, default=1.0)
    p.add_argument("--image-size", type=int)
    p.add_argument("--num-classes", type=int, default=1001)
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--momentum", type=float, default=0.99)
    p.add_argument("--salt", default="", help="another salt gives another set of weights")
    p.add_argument("--no-aux", action="store_true", help="inception_resnet_v2 without its auxiliary head")
    p.add_argument("--checkpoint", help="write a Slim checkpoint here")
    p.add_argument("--format", choices=["v1", "v2"], default="v2", help="V1: one file, as in 2016; V2: .index + .data")
    p.add_argument(
        "--extras",
        action="store_true",
        help="also what a training run leaves: global_step, and for every trainable variable RMSProp slots and "
        "an ExponentialMovingAverage shadow (recipe with salt 'ema/'), as the published MobileNet V2 "
        "checkpoints have; batch-norm statistics have no shadow there",
    )
    p.add_argument("--ema", action="store_true", help="figures of the graph with the shadow weights of --extras")
    p.add_argument("--frozen", help="write the frozen inference graph here (.pb, input 'images', output 'logits')")
    p.add_argument("--golden", help="write the figures here (.npz)")
    args = p.parse_args()
    if args.ema and args.checkpoint:
        p.error("--ema is for figures; the checkpoint that they belong to is written without it, with --extras")
    args.image_size = args.image_size or DEFAULT_SIZE[args.arch]
    out = {"config": json.dumps({k: v for k, v in vars(args).items() if k not in ("checkpoint", "golden", "frozen")})}

    graph, x, logits, features, ends = make_graph(args, training=False)
    batch = images(args.batch, args.image_size)
    with graph.as_default(), tf1.Session() as session:
        variables = tf1.global_variables()
        assign_recipe(session, variables, args)
        out["names"] = np.array([v.op.name for v in variables])
        out["shapes"] = np.array([json.dumps(v.shape.as_list()) for v in variables])
        ends = {k: v for k, v in ends.items() if isinstance(v, tf.Tensor)}
        got = session.run(
            {"logits": logits, "features": features, "ends": ends, "p": tf.nn.softmax(logits)}, {x: batch}
        )
        out.update(logits=got["logits"], features=got["features"], probabilities=got["p"])
        for k, v in got["ends"].items():
            out[f"endpoint/{k}"], out[f"endpoint_shape/{k}"] = sample(v), np.array(v.shape)
        losses = tf1.get_collection(tf1.GraphKeys.REGULARIZATION_LOSSES)
        out["reg_names"] = np.array([t.op.name for t in losses])
        out["reg_values"] = np.array(session.run(losses), np.float32)
        for path in filter(None, (args.frozen, args.checkpoint, args.golden)):
            pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        if args.frozen:
            frozen = tf1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["logits"])
            pathlib.Path(args.frozen).write_bytes(frozen.SerializeToString())
        if args.checkpoint:
            saved = {v.op.name: v for v in variables}
            if args.extras:
                for v in tf1.trainable_variables():
                    n, s = v.op.name, v.shape.as_list()
                    for suffix, value in (
                        ("ExponentialMovingAverage", recipe(n, s, args.salt + "ema/")),
                        ("RMSProp", np.ones(s, np.float32)),
                        ("RMSProp_1", np.zeros(s, np.float32)),
                    ):
                        saved[f"{n}/{suffix}"] = tf1.Variable(value, name=f"extra/{n}/{suffix}")
                saved["global_step"] = tf1.Variable(np.int64(123456), name="extra/global_step")
                session.run([v.initializer for k, v in saved.items() if v.op.name.startswith("extra/")])
            version = {"v1": tf1.train.SaverDef.V1, "v2": tf1.train.SaverDef.V2}[args.format]
            tf1.train.Saver(saved, write_version=version).save(session, args.checkpoint, write_meta_graph=False)

    if args.golden:
        graph, x, logits, features, _ = make_graph(args, training=False, dtype=tf.float64)
        with graph.as_default(), tf1.Session() as session:
            assign_recipe(session, tf1.global_variables(), args)
            out["logits64"], out["features64"] = session.run([logits, features], {x: batch.astype(np.float64)})

        graph, x, logits, features, _ = make_graph(args, training=True)
        with graph.as_default(), tf1.Session() as session:
            variables = tf1.global_variables()
            assign_recipe(session, variables, args)
            trained = list(tf1.trainable_variables())
            grads = tf.gradients(tf.reduce_mean(features**2), trained)
            kept = [(v, g) for v, g in zip(trained, grads, strict=True) if g is not None]
            out["grad_names"] = np.array([v.op.name for v, _ in kept])
            f, norms = session.run([features, [tf.norm(g) for _, g in kept]], {x: batch})
            out["train_features"], out["grad_norm"] = f, np.array(norms, np.float32)
            session.run(tf1.get_collection(tf1.GraphKeys.UPDATE_OPS), {x: batch})
            means = [v for v in variables if v.op.name.endswith("/moving_mean") and "AuxLogits" not in v.op.name]
            for m in (means[0], means[len(means) // 2], means[-1]):
                stem = m.op.name[: -len("/moving_mean")]
                var = next(v for v in variables if v.op.name == stem + "/moving_variance")
                out[f"train_moving_mean/{stem}"], out[f"train_moving_variance/{stem}"] = session.run([m, var])

        graph, x, logits, features, _ = make_graph(args, training=True, dtype=tf.float64)
        with graph.as_default(), tf1.Session() as session:
            assign_recipe(session, tf1.global_variables(), args)
            trained = {v.op.name: v for v in tf1.trainable_variables()}
            grads = tf.gradients(tf.reduce_mean(features**2), [trained[str(n)] for n in out["grad_names"]])
            f, norms = session.run([features, [tf.norm(g) for g in grads]], {x: batch.astype(np.float64)})
            out["train_features64"], out["grad_norm64"] = f, np.array(norms)
        np.savez_compressed(args.golden, **out)
    print(
        f"{args.arch}: {len(out['names'])} variables, logits std {out['logits'].std():.4f}, "
        f"features mean {out['features'].mean():.4f} std {out['features'].std():.4f}"
    )


if __name__ == "__main__":
    main()
