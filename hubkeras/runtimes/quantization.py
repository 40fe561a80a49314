"""Networks in 8-bit integers: the ranges of their tensors come from images of the kind that they will see."""

import logging
import os
from typing import Any

import numpy as np

from hubkeras.common.extras import extra
from hubkeras.common.files import TemporaryFolder
from hubkeras.common.quiet import quietly

_HEAD = ("Logits/", "Predictions")  # of names of steps
_IN_8_BITS = ("Gemm", "Relu", "Clip")


def quantized_onnx(model: Any, images: np.ndarray) -> Any:
    """An ONNX model in 8 bits: QDQ nodes, weights by output channel.

    Weights have 7 bits, since without VNNI the products of 8 bits would overflow in pairs. Of a head only the dense
    layers and what is fused into them are in 8 bits: the rest has few values, whose ranges are wide.

    Args:
        model: an `onnx.ModelProto` of one input.
        images: for calibration, as the model takes them.
    """
    onnx = extra("onnx", "onnx")
    quantization: Any = extra("onnx", "onnxruntime.quantization")
    preprocess = extra("onnx", "onnxruntime.quantization.shape_inference").quant_pre_process
    name = model.graph.input[0].name
    head = [node.name for node in model.graph.node if node.name.startswith(_HEAD) and node.op_type not in _IN_8_BITS]

    class Images(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.rest, None)
            return None if image is None else {name: image[np.newaxis]}

    with TemporaryFolder() as folder, quietly():
        paths = [os.path.join(folder, f"{stage}.onnx") for stage in ("float", "prepared", "quantized")]
        onnx.save(model, paths[0])
        preprocess(paths[0], paths[1], skip_symbolic_shape=True)
        quantization.quantize_static(
            paths[1],
            paths[2],
            Images(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            nodes_to_exclude=head,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return onnx.load(paths[2])


def quantized_litert(content: bytes, images: np.ndarray, uint8: bool) -> bytes:
    """A LiteRT file in integers throughout.

    Args:
        content: of a file in float32, whose signature `serving_default` takes images in [0, 1].
        images: for calibration, float32 `[number, height, width, 3]` in [0, 1].
        uint8: whether the file shall take raw pixels, as integers of the images.
    """
    import tensorflow as tf
    from tensorflow.lite.python import convert
    from tensorflow.lite.python.optimize import calibrator

    images = images.copy()
    images[0, 0, :2] = [[0.0], [1.0]]  # with this range, the integers of the input are pixels in [0, 255]
    with quietly():
        calibrated = calibrator.Calibrator(content).calibrate(lambda: ([image[np.newaxis]] for image in images))
        return convert.mlir_quantize(calibrated, input_data_type=tf.uint8 if uint8 else tf.float32)


def quantized_openvino(model: Any, images: np.ndarray) -> Any:
    """An OpenVINO model in 8 bits, by NNCF; weights have 7 of them, but for the depthwise layers.

    A processor without VNNI adds products of unsigned and signed bytes in pairs and in 16 bits, where they saturate. A
    file that is written on one machine is served on another, so that what is written gives the same bits on both.
    NNCF's own choice is that for the first layer alone. With fewer bits, its fast bias correction and its ranges, means
    over images, cost accuracy; extremes and the slower correction do not, and 7 bits take no time more than 8.

    Args:
        model: an `openvino.Model` of one input.
        images: for calibration, as the model takes them.
    """
    with quietly():
        nncf, extremes = extra("openvino", "nncf"), extra("openvino", "nncf.quantization.range_estimator")
        nncf.set_log_level(logging.ERROR)
        data = nncf.Dataset([image[np.newaxis] for image in images])
        options = nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.ENABLE,
            activations_range_estimator_params=extremes.RangeEstimatorParametersSet.MINMAX,
        )
        return nncf.quantize(
            model,
            data,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
            fast_bias_correction=False,
            advanced_parameters=options,
        )
