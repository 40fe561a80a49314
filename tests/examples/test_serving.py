"""The example that serves an ONNX file."""

import json
import threading
import urllib.error

import numpy as np
import pytest

import hubkeras
from hubkeras.converters import read_network
from tests.support.files import DIGITS


@pytest.fixture(scope="module")
def serve_onnx(examples):
    pytest.importorskip("onnxruntime", reason="needs hubkeras[onnx]")
    return examples("serve_onnx")


def test_the_server_answers_as_the_network(serve_onnx, tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    network = read_network(DIGITS)[0]
    hubkeras.convert(network, tmp_path / "digits.onnx", image_size=96, uint8=True, probabilities=True)
    pixels = np.random.RandomState(0).randint(0, 256, (96, 96, 3)).astype(np.uint8)
    image_module.fromarray(pixels).save(tmp_path / "image.png")
    (tmp_path / "text.png").write_text("no image")
    with serve_onnx.server(str(tmp_path / "digits.onnx"), 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        answer = serve_onnx.ask(url, tmp_path / "image.png")
        with pytest.raises(urllib.error.HTTPError) as refused:
            serve_onnx.ask(url, tmp_path / "text.png")
        assert "cannot identify image file" in json.load(refused.value)["error"]
        server.shutdown()
    expected = network.outputs((pixels / 255).astype(np.float32)[np.newaxis])[1]["MobilenetV2/Predictions"][0]
    order = np.argsort(expected)[::-1][:5]
    # the checkpoint has 11 classes, which get their numbers as names
    assert [int(row["label"]) for row in answer] == order.tolist()
    np.testing.assert_allclose([row["probability"] for row in answer], np.asarray(expected)[order], atol=1e-4)
