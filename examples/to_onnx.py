"""Converts the SavedModel of the README's first command to ONNX, and compares the two in ONNX Runtime.

    pip install 'hubkeras[runtimes]'
    python examples/to_onnx.py [build/digits]

Writes build/digits.onnx. Needs tf2onnx, onnx and onnxruntime beside TensorFlow; to run the file afterwards,
onnxruntime alone. Batch, height and width stay free.
"""

import subprocess
import sys

import numpy as np
import onnxruntime
import tensorflow as tf
from classify_digits import held_out_digits

OPSET = 18  # of ONNX


def convert(saved_model, path):
    """Writes `serving_default` of a SavedModel as an ONNX file, by tf2onnx in a process of its own."""
    # tf2onnx has a function for Keras models and one for tf.functions, but none for SavedModels
    options = {"--saved-model": saved_model, "--signature_def": "serving_default", "--output": path, "--opset": OPSET}
    arguments = [str(word) for option in options.items() for word in option]
    subprocess.run([sys.executable, "-m", "tf2onnx.convert", *arguments], check=True, capture_output=True)


def run(path, images):
    """The first output of an ONNX file."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def main(path="build/digits"):
    images, _ = held_out_digits()
    expected = tf.saved_model.load(path)(images).numpy()
    convert(path, f"{path}.onnx")
    logits = run(f"{path}.onnx", images)
    error = np.abs(logits - expected).max() / np.abs(expected).max()
    agreement = (logits.argmax(-1) == expected.argmax(-1)).mean()
    print(f"{path}.onnx: relative error {error:.1e}, top-1 agreement {agreement:.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
