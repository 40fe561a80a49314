"""A backend of NVIDIA Triton in Python, in the place of its `onnxruntime` and `openvino`, which no package index has.

`check_runtime_files.py` puts it into the server's folder of backends; the server imports it.
"""

import json
import pathlib

import numpy as np
import triton_python_backend_utils as utils


class TritonPythonModel:
    """A model of a repository: the file that `hubkeras pack` named as the backend expects it."""

    @staticmethod
    def auto_complete_config(config):
        return config

    def initialize(self, args):
        config = json.loads(args["model_config"])
        (self.input,) = (each["name"] for each in config["input"])
        self.outputs = [each["name"] for each in config["output"]]
        folder = pathlib.Path(args["model_repository"], args["model_version"])
        self.run = {"onnxruntime": onnxruntime, "openvino": openvino}[config["backend"]](folder, self.outputs)

    def execute(self, requests):
        answers = []
        for request in requests:
            # by DLPack, since the stub in this release takes the arrays of NumPy 1 alone
            images = np.from_dlpack(utils.get_input_tensor_by_name(request, self.input))
            values = self.run({self.input: images})
            tensors = [utils.Tensor.from_dlpack(*each) for each in zip(self.outputs, values, strict=True)]
            answers.append(utils.InferenceResponse(tensors))
        return answers


def onnxruntime(folder, outputs):
    from onnxruntime import InferenceSession

    session = InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return lambda feed: session.run(outputs, feed)


def openvino(folder, outputs):
    from openvino import Core

    model = Core().compile_model(folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda feed: [model(feed)[name] for name in outputs]
