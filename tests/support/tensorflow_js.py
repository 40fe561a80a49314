"""Layers models of TensorFlow.js and downloads of Teachable Machine, written from models of tf_keras."""

import json
import pathlib
import zipfile

import numpy as np

QUANTIZED = ("uint8", "uint16", "float16")
LABELS = ("Class 1", "Class 2", "a third one")


def teachable_machine(classes=3, size=96, seed=0, units=100):
    """A model of tf_keras that is built as Teachable Machine builds its own, with random weights in every layer."""
    import tf_keras

    from tests.support.users_models import randomize

    layers = tf_keras.layers
    base = tf_keras.applications.MobileNetV2((size, size, 3), 0.35, include_top=False, weights=None)
    features = tf_keras.Sequential([base, layers.GlobalAveragePooling2D()])
    head = tf_keras.Sequential(
        [
            layers.Dense(units, activation="relu", input_shape=(base.output_shape[-1],), name="dense_Dense1"),
            layers.Dense(classes, activation="softmax", use_bias=False, name="dense_Dense2"),
        ]
    )
    return randomize(tf_keras.Sequential([features, head]), seed)


def probabilities_of(model):
    """Function from images in [0, 1] to what a model of images in [-1, 1] gives."""
    return lambda images: np.asarray(model(2 * images - 1))


def metadata(labels=LABELS, size=96, **more):
    """A `metadata.json` of Teachable Machine, as an object."""
    return {
        "tfjsVersion": "1.3.1",
        "tmVersion": "2.4.7",
        "packageVersion": "0.8.4-alpha2",
        "packageName": "@teachablemachine/image",
        "timeStamp": "2026-11-28T12:00:00.000Z",
        "userMetadata": {},
        "modelName": "tm-my-image-model",
        "labels": list(labels),
        "imageSize": size,
        **more,
    }


def write_layers_model(model, folder, quantized=None, shard_bytes=None, converted=False, beside=None):
    """Writes a model of tf_keras as TensorFlow.js does; gives the path of the `model.json`.

    Args:
        model: its variables are set to what quantized weights stand for.
        folder: where to.
        quantized: one of `QUANTIZED`; None for float32.
        shard_bytes: how many bytes a file of weights has at most; None for one `weights.bin`.
        converted: whether it is as `tensorflowjs_converter` writes it, and not as TensorFlow.js itself.
        beside: object of the `metadata.json`, None for none.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"class_name": type(model).__name__, "config": model.get_config()}
    if converted:
        topology = {"keras_version": "2.15.0", "backend": "tensorflow", "model_config": config}
    else:
        topology = {**_with_lists(config), "keras_version": "tfjs-layers 1.3.1", "backend": "tensor_flow.js"}
    weights, data = zip(*(_weight(variable, quantized) for variable in model.weights), strict=True)
    whole = b"".join(data)
    step = shard_bytes or len(whole)
    parts = [whole[start : start + step] for start in range(0, len(whole), step)]
    names = [f"group1-shard{number}of{len(parts)}.bin" for number in range(1, len(parts) + 1)]
    names = names if shard_bytes else ["weights.bin"]
    for name, part in zip(names, parts, strict=True):
        (folder / name).write_bytes(part)
    manifest = [{"paths": names, "weights": list(weights)}]
    written = {"format": "layers-model", "modelTopology": topology, "weightsManifest": manifest}
    (folder / "model.json").write_text(json.dumps(written, default=str))
    if beside is not None:
        (folder / "metadata.json").write_text(json.dumps(beside))
    return folder / "model.json"


def zipped(folder, path, inner=""):
    """Puts the files of a folder into a zip archive, below a folder `inner`; gives the archive's path."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in sorted(pathlib.Path(folder).rglob("*")):
            archive.write(file, f"{inner}{file.relative_to(folder)}")
    return path


def _with_lists(layer):
    """The config of a layer as TensorFlow.js has it: that of a `Sequential` is the list of its layers."""
    config = layer["config"]
    if "layers" not in config:
        return layer
    layers = [_with_lists(inner) for inner in config["layers"] if _is_written(layer, inner)]
    if layer["class_name"] == "Sequential":
        return {"class_name": "Sequential", "config": layers}
    return {**layer, "class_name": "Model", "config": {**config, "layers": layers}}


def _is_written(model, layer):
    return model["class_name"] != "Sequential" or layer["class_name"] != "InputLayer"


def _weight(variable, quantized):
    """The entry of a variable in the manifest, and its bytes."""
    values = variable.numpy()
    entry = {"name": variable.name.split(":")[0], "shape": list(values.shape), "dtype": "float32"}
    if quantized is None:
        return entry, values.astype("<f4").tobytes()
    if quantized == "float16":
        stored = values.astype("<f2")
        variable.assign(stored.astype(np.float32))
        return {**entry, "quantization": {"dtype": "float16", "original_dtype": "float32"}}, stored.tobytes()
    low, high = float(values.min()), float(values.max())
    scale = (high - low) / np.iinfo(quantized).max or 1.0
    stored = np.round((values.astype(np.float64) - low) / scale).astype(quantized)
    variable.assign((stored.astype(np.float64) * scale + low).astype(np.float32))
    quantization = {"dtype": quantized, "scale": scale, "min": low, "original_dtype": "float32"}
    return {**entry, "quantization": quantization}, stored.astype(stored.dtype.newbyteorder("<")).tobytes()
