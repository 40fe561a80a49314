"""The example that classifies images in the browser, in a headless Chromium."""

import io
import shutil
import subprocess
import threading

import numpy as np
import pytest

import hubkeras
from hubkeras.runtimes import files
from tests.support.chromium import page
from tests.support.files import DIGITS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
STATUS = "(document.getElementById('status')?.textContent ?? '')"
ROWS = (
    "[...document.querySelectorAll('#classes tr')].map((row) => [row.cells[0].textContent, row.cells[2].textContent])"
)


@pytest.fixture(scope="module")
def serve(examples):
    pytest.importorskip("onnxruntime", reason="needs hubkeras[onnx]")
    if CHROMIUM is None or shutil.which("npm") is None:
        pytest.skip("needs Chromium and npm")
    return examples("browser.serve")


@pytest.fixture(scope="module")
def folder(serve, tmp_path_factory):
    """The site without a model."""
    folder = tmp_path_factory.mktemp("site") / "browser"
    folder.mkdir()
    try:
        serve.gather(folder)
    except subprocess.CalledProcessError:
        pytest.skip("npm cannot install onnxruntime-web")
    return folder


@pytest.fixture(scope="module")
def pictures(examples, tmp_path_factory):
    """PNG files of two held-out digits, of the size that the network takes."""
    pytest.importorskip("sklearn", reason="needs hubkeras[examples]")
    image_module = pytest.importorskip("PIL.Image")
    images, labels = examples("classify_digits").held_out_digits()
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{labels[number] - 1}.png" for number in range(2)]
    assert paths[0] != paths[1]
    for path, image in zip(paths, images, strict=False):
        image_module.fromarray(np.round(image * 255).astype(np.uint8)).save(path)
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_a_dropped_digit_is_named(kind, serve, folder, pictures, tmp_path):
    from PIL import Image

    if kind == "uint8":
        serve.convert(DIGITS, folder, serve.DIGIT_LABELS)
    else:  # logits, of a file that is there already
        hubkeras.convert(DIGITS, tmp_path / "model.onnx", labels=serve.DIGIT_LABELS)
        serve.convert(tmp_path / "model.onnx", folder)
    with serve.server(folder, 0) as server, page(CHROMIUM, tmp_path / "profile") as chromium:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chromium.ask("Page.navigate", url=f"http://127.0.0.1:{server.server_port}/")
        chromium.wait(f"{STATUS}.startsWith('Ready')", STATUS)
        chromium.drop(pictures[0], "#drop")
        chromium.wait(f"{STATUS}.endsWith(' ms')", STATUS)
        dropped, picture = chromium.value(ROWS), chromium.screenshot()
        chromium.choose(pictures[1], "#file")
        chromium.wait(f"!{STATUS}.startsWith('Classifying') && {ROWS}[0][0] !== {dropped[0][0]!r}", STATUS)
        chosen = chromium.value(ROWS)
        (tmp_path / "text.png").write_text("no image")
        chromium.drop(tmp_path / "text.png", "#drop")
        chromium.wait(f"{STATUS}.startsWith('text.png cannot be classified')", STATUS)
        assert chromium.value("crossOriginIsolated"), "the runtime may use threads"
        server.shutdown()
    (tmp_path / "screenshot.png").write_bytes(picture)
    assert len(np.unique(np.asarray(Image.open(io.BytesIO(picture)).convert("L")))) > 16, "something is drawn"

    loaded = files.load(folder / "model.onnx")
    labels = loaded.description.labels
    for path, rows in zip(pictures, (dropped, chosen), strict=True):
        pixels = np.asarray(Image.open(path))[np.newaxis]
        (output,) = loaded.run(pixels if kind == "uint8" else np.float32(pixels / 255)).values()
        powers = np.exp(output[0].astype(np.float64) - output.max())
        expected = output[0] if kind == "uint8" else powers / powers.sum()
        assert rows[0][0] == path.stem
        assert len(rows) == 5
        for label, percent in rows:
            assert abs(float(percent.removesuffix(" %")) - 100 * expected[labels.index(label)]) <= 0.1


@pytest.mark.slow
def test_a_file_without_labels_is_refused(serve, folder, tmp_path):
    hubkeras.convert(DIGITS, tmp_path / "features.onnx", "feature_vector")
    with pytest.raises(SystemExit, match="is no classifier that hubkeras convert wrote"):
        serve.convert(tmp_path / "features.onnx", folder)
