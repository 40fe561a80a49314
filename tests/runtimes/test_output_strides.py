"""Dilated networks as files for runtimes: their own graphs have no form in ONNX for how TensorFlow dilates."""

import pytest

import hubkeras


@pytest.mark.parametrize("ending", [".onnx", *(pytest.param(e, marks=pytest.mark.slow) for e in (".tflite", ".xml"))])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_networks_are_written(output_stride, ending, tmp_path):
    network = hubkeras.MobileNetV2(0.35, num_classes=5, output_stride=output_stride)
    parity = hubkeras.convert(network, tmp_path / f"model{ending}", image_size=65).parity
    assert parity.error <= parity.bound
