"""Converts the SavedModel of the README's first command to TFLite, in float32 and in 8-bit integers throughout.

    python examples/to_tflite.py [build/digits]

Writes build/digits.float32.tflite and build/digits.int8.tflite, and compares both with the SavedModel on scikit-learn's
held-out digits. Needs TensorFlow (`tf.lite`) and scikit-learn only. The 8-bit model needs representative images to
find the ranges of its tensors: here 100 digits that it was trained on.
"""

import sys

import numpy as np
import tensorflow as tf
from classify_digits import digit_images, held_out_digits
from sklearn.datasets import load_digits


def convert(saved_model, representative=None):
    """The TFLite model of `serving_default`: float32, or 8-bit where there are representative images."""
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=["serving_default"])
    if representative is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in representative)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def run(model, images):
    """Outputs of a TFLite model as float32, whatever numbers it computes with."""
    interpreter = tf.lite.Interpreter(model_content=model)
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.resize_tensor_input(inputs["index"], images.shape)
    interpreter.allocate_tensors()
    if inputs["dtype"] == np.int8:
        scale, zero = inputs["quantization"]
        images = np.clip(np.round(images / scale + zero), -128, 127).astype(np.int8)
    interpreter.set_tensor(inputs["index"], images)
    interpreter.invoke()
    values = interpreter.get_tensor(outputs["index"]).astype(np.float32)
    scale, zero = outputs["quantization"]
    return (values - zero) * scale if outputs["dtype"] == np.int8 else values


def main(path="build/digits"):
    images, _ = held_out_digits()
    expected = tf.saved_model.load(path)(images).numpy()
    for name, representative in {"float32": None, "int8": digit_images(load_digits().data[:100])}.items():
        model = convert(path, representative)
        with open(f"{path}.{name}.tflite", "wb") as file:
            file.write(model)
        logits = run(model, images)
        error = np.abs(logits - expected).max() / np.abs(expected).max()
        agreement = (logits.argmax(-1) == expected.argmax(-1)).mean()
        print(f"{path}.{name}.tflite: relative error {error:.1e}, top-1 agreement {agreement:.1%}, {len(model)} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
