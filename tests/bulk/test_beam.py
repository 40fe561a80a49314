"""The same rows on Apache Beam: in one process, in several, through the portable runner, and after a worker failed."""

import contextlib
import doctest
import importlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from pyarrow import dataset, parquet

import hubkeras
from hubkeras.commands import main
from tests.support import image_files

beam = pytest.importorskip("apache_beam", reason="the extra beam is not installed")
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.testing.util import assert_that

from hubkeras.beam import EmbedImages, ModelHandler

COUNT, DAMAGED = 20, 4
IN_PROCESS = ("--runner=FnApiRunner",)
TWO_PROCESSES = ("--runner=FnApiRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of image files with a tar and a TFRecord file, 4 of 20 images damaged."""
    images = image_files.damaged(image_files.photo_jpegs(12, 96) + image_files.digit_pngs(COUNT - 12), DAMAGED)
    folder = image_files.write_folder(tmp_path_factory.mktemp("photos"), images[:12])
    image_files.write_tar(folder / "shard.tar", images[12:16])
    image_files.write_records(folder / "digits.tfrecord", images[16:])
    (folder / "notes.txt").touch()
    return folder


@pytest.fixture(scope="module")
def local(model, photos, tmp_path_factory):
    """The rows of the local run."""
    out = tmp_path_factory.mktemp("local") / "out"
    hubkeras.embed(model, photos, out)
    return rows_of(out)


def rows_of(out):
    rows = dataset.dataset(out, format="parquet").to_table().to_pylist()
    return sorted(rows, key=lambda row: row["path"])


def check_same(rows, expected):
    assert [row["path"] for row in rows] == sorted(row["path"] for row in expected)
    for row, other in zip(rows, sorted(expected, key=lambda row: row["path"]), strict=True):
        assert (row["labels"], row["error"]) == (other["labels"], other["error"])
        if row["error"] is None:
            np.testing.assert_allclose(row["probabilities"], other["probabilities"], atol=1e-6)


def test_the_command_in_two_processes(model, photos, local, tmp_path):
    code = "from hubkeras.commands import main; main(); print('Python ends, and aborts where a thread of Beam lives')"
    arguments = ["embed", str(model), str(photos), str(tmp_path / "out"), "--json", "--beam", "--", *TWO_PROCESSES]
    process = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    rows = rows_of(tmp_path / "out")
    check_same(rows, local)
    assert sum(row["error"] is not None for row in rows) == DAMAGED
    metadata, result = (
        parquet.read_schema(next((tmp_path / "out").glob("*.parquet"))).metadata,
        json.loads(process.stdout),
    )
    assert metadata[b"hubkeras.model"].decode() == result["content_hash"]
    assert result["left_out"] == {".txt": 1}
    assert result["preprocessing"] == "the whole image, resized to 96 x 96 pixels"


def test_a_folder_of_damaged_images_only(model, tmp_path):
    from hubkeras.bulk.beam import embed

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"x")
    with pytest.raises(hubkeras.Error, match=r"The only image cannot be read .*a\.png"):
        embed(model, [tmp_path / "photos"], tmp_path / "out", IN_PROCESS)


def test_the_portable_runner(model, photos, local, tmp_path):
    """A job service of its own, which runs the pipeline by the protocol that Flink and Dataflow have."""
    from apache_beam.runners.portability.local_job_service import LocalJobServicer

    service = LocalJobServicer(str(tmp_path / "staging"))
    port = service.start_grpc_server()
    with contextlib.closing(contextlib.ExitStack()) as stack:
        stack.callback(service.stop)
        from hubkeras.bulk.beam import embed

        options = ("--runner=PortableRunner", f"--job_endpoint=localhost:{port}", "--environment_type=LOOPBACK")
        embed(model, [photos], tmp_path / "out", options)
    check_same(rows_of(tmp_path / "out"), local)


def fails_once(element, marker):
    """Raises in the first call of all workers."""
    with contextlib.suppress(FileExistsError):
        pathlib.Path(marker).touch(exist_ok=False)
        raise RuntimeError("this worker dies")
    return element


def test_a_worker_that_fails_once_is_retried(model, photos, local, tmp_path):
    """With Beam's own runner that retries bundles on one machine, as Dataflow and Flink do on many."""
    marker = tmp_path / "failed"
    options = beam.options.pipeline_options.PipelineOptions(
        ["--runner=BundleBasedDirectRunner", "--direct_runner_bundle_retry"]
    )
    found = []
    with beam.Pipeline(options=options) as pipeline:
        images = pipeline | beam.Create([str(photos)]) | beam.Map(fails_once, str(marker))
        outputs = images | EmbedImages(model)
        everything = (outputs["rows"], outputs["unreadable"]) | beam.Flatten()
        everything | beam.Map(json_ready) | beam.io.WriteToText(str(tmp_path / "rows"))
    assert marker.exists()
    for path in tmp_path.glob("rows-*"):
        found += [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    check_same(sorted(found, key=lambda row: row["path"]), local)


def json_ready(row):
    return json.dumps({key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in row.items()})


def test_bytes_and_dead_letters(model):
    (name, good), *_ = image_files.digit_pngs(1)

    def check_rows(rows):
        (row,) = rows
        assert (row["path"], row["error"], row["labels"][0]) == (name, None, "1")

    def check_unreadable(rows):
        errors = {row["path"]: row["error"] for row in rows}
        assert errors.keys() == {"bad.png", "/nothing/*.jpg"}
        assert "bad.png is not an image that can be read" in errors["bad.png"]
        assert "/nothing/*.jpg matches nothing" in errors["/nothing/*.jpg"]

    with beam.Pipeline(options=beam.options.pipeline_options.PipelineOptions(IN_PROCESS)) as pipeline:
        outputs = pipeline | beam.Create([(name, good), ("bad.png", b"x"), "/nothing/*.jpg"]) | EmbedImages(model)
        assert_that(outputs["rows"], check_rows, "rows")
        assert_that(outputs["unreadable"], check_unreadable, "unreadable")


def test_the_handler_in_run_inference(model):
    images = np.random.default_rng(0).random((5, 96, 96, 3), np.float32)
    expected = tf.saved_model.load(model).signatures["image_feature_vector"](tf.constant(images))["default"].numpy()

    def check(results):
        assert sorted(key for key, _ in results) == list(range(5))
        for key, result in results:
            np.testing.assert_allclose(result.inference, expected[key], atol=1e-5)

    handler = ModelHandler(model, task="feature_vector", max_batch_size=2)
    with beam.Pipeline(options=beam.options.pipeline_options.PipelineOptions(IN_PROCESS)) as pipeline:
        results = pipeline | beam.Create(list(enumerate(images))) | RunInference(KeyedModelHandler(handler))
        assert_that(results, check)


def test_workers_need_no_keras_and_no_tensorflow_hub(model):
    code = f"""if True:
        import sys
        sys.modules["keras"] = sys.modules["tf_keras"] = sys.modules["tensorflow_hub"] = None
        import numpy as np, hubkeras.beam
        handler = hubkeras.beam.ModelHandler({str(model)!r})
        (result,) = handler.run_inference([np.zeros((96, 96, 3), np.float32)], handler.load_model())
        print(result.inference.shape)"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout == "(11,)\n", process.stderr


def test_bad_input_is_one_line(model, photos, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-00000.parquet").write_bytes(b"")
    assert main(["embed", str(model), str(photos), str(tmp_path / "out"), "--beam", "--", *IN_PROCESS]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("holds rows already, and a Beam run always begins anew; name another OUT.")
    with pytest.raises(SystemExit, match="2"):
        main(["embed", str(model), str(photos), str(tmp_path / "new"), "--beam", *IN_PROCESS])
    assert "unrecognized arguments: --runner=FnApiRunner" in capsys.readouterr().err
    with pytest.raises(hubkeras.Error, match="top must be at least 1"):
        EmbedImages(model, top=0)


def test_the_examples_in_docstrings_run(model, photos, tmp_path, monkeypatch):
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "digits").symlink_to(model)
    (tmp_path / "photos").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    names = {"hubkeras": hubkeras, "np": np}
    outcome = doctest.testmod(importlib.import_module("hubkeras.bulk.beam"), extraglobs=names)
    assert outcome.attempted == 4
    assert not outcome.failed
