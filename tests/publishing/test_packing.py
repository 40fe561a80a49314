"""`hubkeras pack --layout`: folders for servers and for the Hugging Face Hub, read by their schemas and libraries."""

import ast
import dataclasses
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from PIL import Image

import hubkeras
from hubkeras.bulk.evaluating import ClassAccuracy, Evaluation, Share
from hubkeras.commands import main
from hubkeras.common.files import sha256
from hubkeras.common.metadata import read_metadata
from hubkeras.publishing.hugging_face import CardOptions, base_model
from hubkeras.publishing.repositories import WARMUP
from tests.support.files import DIGITS, ROOT
from tests.support.hub import hub
from tests.support.servers import HUB_CLIENT
from tests.support.slim import relative_error

REPOSITORY = ["--layout", "hugging-face", "--repository", "me/digits"]


@pytest.fixture(scope="module")
def onnx_model(made):
    """The digits for ONNX Runtime."""
    return made("digits_to_pack.onnx", lambda path: hubkeras.convert(DIGITS, path))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What `hubkeras evaluate --report` writes of the digits, in short."""
    classes = [ClassAccuracy(str(n), 10, 9, 10, None) for n in range(1, 11)]
    evaluation = Evaluation("m", "d", "l", "p", Share.of(90, 100), Share.of(99, 100), {}, {}, [], classes, [], "logits")
    folder = tmp_path_factory.mktemp("report")
    (folder / "report.json").write_text(json.dumps({"evaluation": dataclasses.asdict(evaluation)}))
    return folder


@pytest.fixture
def photo(tmp_path):
    """An image file."""
    pixels = np.random.default_rng(0).integers(0, 256, (120, 100, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def pack(model, out, *options):
    assert main(["pack", str(model), str(out), *map(str, options)]) == 0
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def test_tensorflow_serving_gets_a_version_and_requests(digits_model, tmp_path):
    own = {path.relative_to(digits_model).as_posix() for path in digits_model.rglob("*") if path.is_file()}
    own -= {"README.md", "documentation.md"}
    out = tmp_path / "digits"
    names = pack(digits_model, out, "--layout", "tensorflow-serving")
    assert names == {"hubkeras.json", f"1/{WARMUP}", *(f"1/{name}" for name in own)}
    assert main(["inspect", str(out), "--quiet"]) == 0  # whole by its checksums


@pytest.mark.slow  # `.ci/run` installs the schemas before the slow tests
def test_the_requests_are_those_of_tensorflow_servings_schema(digits_model, tmp_path):
    import tensorflow as tf

    apis = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    out = tmp_path / "digits"
    pack(digits_model, out, "--layout", "tensorflow-serving")
    (record,) = tf.compat.v1.io.tf_record_iterator(str(out / "1" / WARMUP))  # checks the sums
    request = apis.PredictionLog.FromString(record).predict_log.request
    assert (request.model_spec.name, request.model_spec.signature_name) == ("digits", "serving_default")
    images = tf.io.parse_tensor(request.inputs["inputs"].SerializeToString(), tf.float32)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:  # as the server itself loads and runs it
        loaded = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], str(out / "1"))
        signature = loaded.signature_def[request.model_spec.signature_name]
        feed = {signature.inputs["inputs"].name: images.numpy()}
        logits = session.run(signature.outputs["logits"].name, feed)
    expected = tf.saved_model.load(out / "1").signatures["serving_default"](inputs=images)["logits"]
    assert relative_error(logits, expected) < 1e-5


def test_the_requests_of_tensorflow_serving_without_its_package():
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    from hubkeras.common.guards.messages import fields_of
    from hubkeras.publishing.repositories import warmup_requests

    data = warmup_requests("digits", 224)
    record = data[12:-4]

    def only(message, field):
        (value,) = (
            message[start:end] for number, _, start, end in fields_of(message, 0, len(message)) if number == field
        )
        return value

    request = only(only(record, 6), 1)  # PredictionLog.predict_log, PredictLog.request
    assert only(only(request, 1), 3) == b"serving_default"
    tensor = tensor_pb2.TensorProto.FromString(only(only(request, 2), 2))
    assert np.array_equal(tf.make_ndarray(tensor), np.zeros([1, 224, 224, 3], np.float32))
    assert len(data) < 200


def test_triton_gets_its_configuration_and_labels(onnx_model, tmp_path, capsys):
    out = tmp_path / "digits"
    names = pack(onnx_model, out, "--layout", "triton")
    capsys.readouterr()
    assert main(["inspect", str(out), "--json"]) == 0
    assert (seen := json.loads(capsys.readouterr().out))["kind"] == "onnx"
    assert [file["name"] for file in seen["files"]] == ["model.onnx"]
    assert main(["benchmark", str(out)]) == 1
    assert f"; give {out / '1/model.onnx'}." in capsys.readouterr().err
    assert names == {"1/model.onnx", "config.pbtxt", "hubkeras.json", "labels.txt"}
    assert (out / "labels.txt").read_text().split() == [str(n) for n in range(11)]
    text = (out / "config.pbtxt").read_text()
    for words in ('name: "digits"', 'backend: "onnxruntime"', "TYPE_FP32", "dims: [ -1, -1, 3 ]", "dims: [ 11 ]"):
        assert words in text


@pytest.mark.slow
def test_the_configuration_is_of_tritons_schema_and_as_the_file_is(onnx_model, tmp_path):
    out = tmp_path / "digits"
    pack(onnx_model, out, "--layout", "triton")
    spec = importlib.util.find_spec("tritonclient")
    if spec is None:
        pytest.skip("tritonclient is not installed")
    # the generated module alone: its package wants more
    file = pathlib.Path(spec.submodule_search_locations[0], "grpc", "model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    protos = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(protos)
    config = text_format.Parse((out / "config.pbtxt").read_text(), protos.ModelConfig())
    session = onnxruntime.InferenceSession(out / "1" / "model.onnx")
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (config.name, config.backend, config.max_batch_size) == ("digits", "onnxruntime", 32)
    assert (config.input[0].name, config.output[0].name) == (images.name, logits.name)
    assert [size if isinstance(size, int) else -1 for size in images.shape[1:]] == list(config.input[0].dims)
    assert list(config.output[0].dims) == logits.shape[1:]
    assert protos.DataType.Name(config.input[0].data_type) == "TYPE_FP32"
    assert list(config.model_warmup[0].inputs["inputs"].dims) == [96, 96, 3]


@pytest.mark.slow
def test_openvino_model_server_gets_a_version_that_openvino_reads(tmp_path):
    openvino = pytest.importorskip("openvino")
    hubkeras.convert(DIGITS, tmp_path / "d.xml", uint8=True, fixed_size=True, probabilities=True)
    out = tmp_path / "digits"
    names = pack(tmp_path / "d.xml", out, "--layout", "openvino-model-server")
    assert names == {"1/model.bin", "1/model.xml", "hubkeras.json", "labels.txt"}
    assert openvino.Core().read_model(out / "1" / "model.xml").inputs[0].any_name == "inputs"
    pack(tmp_path / "d.xml", tmp_path / "t", "--layout", "triton")
    text = (tmp_path / "t" / "config.pbtxt").read_text()
    for words in ('backend: "openvino"', "TYPE_UINT8", "dims: [ 96, 96, 3 ]", 'name: "probabilities"', "KIND_CPU"):
        assert words in text


def test_a_folder_is_replaced_where_it_is_as_hubkeras_wrote_it(onnx_model, tmp_path, capsys):
    out = tmp_path / "digits"
    again = ["pack", str(onnx_model), str(out), "--layout", "triton"]
    pack(onnx_model, out, "--layout", "triton")
    record = json.loads((out / "hubkeras.json").read_text())
    assert record["files"]["1/model.onnx"] == sha256(onnx_model)
    assert main(again) == 1
    assert "pass --overwrite" in capsys.readouterr().err
    assert main([*again, "--overwrite"]) == 0
    (out / "labels.txt").write_text("mine\n")
    assert main([*again, "--overwrite"]) == 1
    assert "was changed since hubkeras wrote it (labels.txt)" in capsys.readouterr().err
    (out / "notes.txt").write_text("mine")
    assert main([*again, "--overwrite"]) == 1
    assert "notes.txt, which hubkeras did not write" in capsys.readouterr().err
    (out / "hubkeras.json").write_text(json.dumps({"written_by": "hubkeras 1", "files": {"../../x": "0"}}))
    assert main([*again, "--overwrite"]) == 1


def test_a_model_is_not_replaced_by_the_folder_that_is_packed_of_it(onnx_model, digits_model, tmp_path, capsys):
    model = shutil.copytree(digits_model, tmp_path / "digits")
    assert main(["pack", str(onnx_model), str(model), "--layout", "triton", "--overwrite"]) == 1
    assert "is none that `hubkeras pack` wrote" in capsys.readouterr().err
    assert (model / "saved_model.pb").is_file()
    (tmp_path / "empty").mkdir()
    pack(onnx_model, tmp_path / "empty", "--layout", "triton", "--overwrite")


def test_class_names_in_the_code_of_a_card_are_cut_at_line_feeds_alone():
    card = (ROOT / "hubkeras" / "publishing" / "hub.md").read_text()
    (line,) = (line for line in card.splitlines() if line.startswith("labels = "))
    assert line.endswith('["labels"].removesuffix("\\n").split("\\n")')  # "\x85" and others are none of ours


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["{model}", "{out}", "--layout", "triton"],
            "is a SavedModel, which Triton does not take; make what it takes by `hubkeras convert {model} model.onnx`.",
        ),
        (["{onnx}", "{out}", "--layout", "tensorflow-serving"], "is an .onnx file, which TensorFlow Serving does not"),
        (["{model}", "{out}.tar.gz", "--layout", "triton"], "OUT is a folder named as the model"),
        (["{model}", "{out}", "--layout", "hugging-face"], "--layout hugging-face needs --repository OWNER/NAME"),
        (["{model}", "{out}", *REPOSITORY[:3], "digits"], "is OWNER/NAME, as on the Hub; got 'digits'"),
        (["{model}", "{out}", *REPOSITORY, "--license", "My own"], "identifier, such as apache-2.0"),
        (["{model}", "{out}", *REPOSITORY, "--example", "{model}"], "is an image of at most 16 MiB"),
        (["{model}", "{out}", *REPOSITORY, "--evaluation", "{onnx}"], "is a report of `hubkeras evaluate"),
        (["{model}", "{out}.tar.gz", "--license", "mit"], "add --layout hugging-face"),
        (
            ["{onnx}", "{out}.tar.gz"],
            "an archive is of a SavedModel, which `hubkeras export SOURCE OUT_DIR` writes",
        ),
        (["{model}", "{out}", "--layout", "triton", "--license", "mit"], "is of the card"),
        (["{out}/nothing", "{out}", "--layout", "triton"], "nothing does not exist"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(options, message, digits_model, onnx_model, tmp_path, capsys):
    places = {"model": digits_model, "onnx": onnx_model, "out": tmp_path / "out"}
    assert main(["pack", *(option.format(**places) for option in options)]) == 1
    error = capsys.readouterr().err
    assert message.format(**places) in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_card_says_what_the_hub_reads(onnx_model, report, photo, tmp_path):
    library = pytest.importorskip("huggingface_hub")
    out = tmp_path / "digits"
    options = ("--license", "mit", "--evaluation", report, "--example", photo)
    names = pack(onnx_model, out, *REPOSITORY, *options)
    assert names == {"README.md", "config.json", "example.png", "hubkeras.json", "onnx/model.onnx"}
    data = library.ModelCard.load(out / "README.md").data
    assert (data.library_name, data.pipeline_tag, data.license) == ("onnx", "image-classification", "mit")
    assert data.widget == [{"src": "example.png", "example_title": "Example"}]
    measured = {(result.metric_name, result.metric_value) for result in data.eval_results}
    assert measured == {("Top-1 accuracy", 0.9), ("Top-5 accuracy", 0.99)}
    assert "On 100 images" in (out / "README.md").read_text()
    assert json.loads((out / "config.json").read_text())["id2label"]["10"] == "10"


def test_a_report_of_another_model_is_refused(onnx_model, report, tmp_path, capsys):
    facts = json.loads((report / "report.json").read_text())
    facts["evaluation"]["classes"][0]["name"] = "cat"
    (tmp_path / "other.json").write_text(json.dumps(facts))
    arguments = ["pack", str(onnx_model), str(tmp_path / "out"), *REPOSITORY, "--evaluation"]
    assert main([*arguments, str(tmp_path / "other.json")]) == 1
    assert "has no class 'cat'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"checkpoint": "mobilenet_v2_0.35_96.tgz", "sha256": {}}, "google/mobilenet_v2_0.35_96"),
        ({"checkpoint": "x", "sha256": {"mobilenet_v2_1.0_224.ckpt.index": "0"}}, "google/mobilenet_v2_1.0_224"),
        ({"checkpoint": "mobilenet_v2_0.35_96_digits.tgz", "sha256": {}}, None),
        (None, None),
    ],
)
def test_the_base_model_is_named_where_the_hub_has_it(source, expected, digits_model):
    assert base_model(dataclasses.replace(read_metadata(digits_model), source=source)) == expected


def test_an_example_that_is_no_image_is_refused(onnx_model, tmp_path, capsys):
    (tmp_path / "photo.jpg").write_text("no image")
    arguments = ["pack", str(onnx_model), str(tmp_path / "out"), *REPOSITORY, "--example", str(tmp_path / "photo.jpg")]
    assert main(arguments) == 1
    assert "photo.jpg" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_names_that_the_hub_does_not_take():
    for name in ("a", "a/b/c", "../x", "a/b c", "a/"):
        with pytest.raises(hubkeras.Error, match="OWNER/NAME"):
            CardOptions(name)


def run_code(blocks, folders, tmp_path):
    """What Python prints where each block runs as a user's, with a Hub that has these folders."""
    code = "import json, sys\nfor block in json.load(sys.stdin): exec(compile(block, block, 'exec'), {})"
    environment = {**os.environ, **HUB_CLIENT, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    with hub(folders) as address:
        environment["HF_ENDPOINT"] = address
        done = subprocess.run(
            [sys.executable, "-c", code], input=json.dumps(blocks), env=environment, cwd=tmp_path,
            capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def python_of(card):
    return re.findall(r"^```python\n(.*?)^```$", card.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_each_snippet_runs_as_the_hub_gives_it(digits_model, onnx_model, tiny, photo, tmp_path):
    """All Python of the cards, in one process that has downloaded the folders from a Hub."""
    pytest.importorskip("huggingface_hub")
    hubkeras.convert(tiny, tmp_path / "raw.onnx", uint8=True, image_size=64)
    hubkeras.export(tiny, tmp_path / "raw", image_size=64, verify=False)
    models = {
        "me/tf": digits_model,
        "me/onnx": onnx_model,
        "me/raw": tmp_path / "raw.onnx",
        "me/raw-tf": tmp_path / "raw",
    }
    folders, blocks = {}, []
    for repository, model in models.items():
        folders[repository] = tmp_path / "packed" / repository
        options = ("--layout", "hugging-face", "--repository", repository, "--example", photo)
        pack(model, folders[repository], *options)
        blocks += python_of(folders[repository] / "README.md")
    assert len(blocks) == 9  # by folder: 3, 2, 1, 3
    best = next(iter(hubkeras.classify(onnx_model, photo))).classes[0][0]
    assert f"\n{best}\n" in run_code(blocks, folders, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("library", ["transformers", "keras"])
def test_the_snippet_of_a_library_runs_and_gives_our_numbers(library, onnx_model, photo, tmp_path):
    pytest.importorskip("huggingface_hub")
    model, to = {"transformers": ("m", "hugging-face"), "keras": ("m.keras", "keras-applications")}[library]
    if library == "transformers":
        pytest.importorskip("torch")
        pytest.importorskip("transformers")
    hubkeras.convert(DIGITS, tmp_path / model, to=to)
    folder = tmp_path / "packed"
    options = ("--layout", "hugging-face", "--repository", "me/model", "--example", photo)
    names = pack(tmp_path / model, folder, *options)
    assert {"README.md", "config.json", "example.png"} < names
    assert f'library_name: "{library}"' in (folder / "README.md").read_text()
    (block,) = python_of(folder / "README.md")
    printed = run_code([block], {"me/model": folder}, tmp_path)
    best, probability = next(iter(hubkeras.classify(onnx_model, photo))).classes[0]
    if library == "transformers":
        first = ast.literal_eval(printed)[0]
        assert first["score"] == pytest.approx(probability, abs=0.05)  # of pixels that another library resized
    else:
        row = np.array(re.findall(r"\d+\.[\de+-]+", printed.partition("[[")[2].partition("]]")[0]), float)
        assert row[int(best)] == pytest.approx(probability, abs=0.05)


def test_what_another_wrote_is_refused(tmp_path, capsys):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.safetensors").write_bytes(b"x" * 100)
    assert main(["pack", str(tmp_path / "m"), str(tmp_path / "out"), *REPOSITORY]) == 1
    assert "was not written by hubkeras" in capsys.readouterr().err
