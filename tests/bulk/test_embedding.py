"""Rows equal those of direct calls; runs that are killed go on; what does not fit is one line."""

import json
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from pyarrow import parquet

import hubkeras
from hubkeras.bulk import embedding
from hubkeras.bulk.pipeline import Preparation, read_batches
from hubkeras.bulk.rows import RowLayout, check_any_read, write
from hubkeras.bulk.sources import open_images
from hubkeras.commands import main
from hubkeras.common.choices import Task
from hubkeras.common.extras import installation
from tests.support import image_files
from tests.support.killing import check_kills, rows_of, run

COUNT, DAMAGED = 80, 7


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """80 image files in folders, 7 of them damaged."""
    images = image_files.damaged(image_files.photo_jpegs(COUNT - 30, 128) + image_files.digit_pngs(30), DAMAGED)
    return image_files.write_folder(tmp_path_factory.mktemp("photos"), images)


def loaded(photos, resize="squash"):
    """`{path: image}` of those that can be read, as `hubkeras.load_image` reads them."""
    paths = sorted(str(path) for path in photos.rglob("*") if path.is_file() and not path.name.startswith("damaged"))
    return {path: hubkeras.load_image(path, 96, resize=resize) for path in paths}


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_the_pipeline_gives_what_load_image_gives(photos, resize):
    images, expected = open_images(photos), loaded(photos, resize)
    numbers, found = [], {}
    for batch, pixels in read_batches(images, range(len(images)), Preparation((96, 96), resize), 32):
        numbers += list(batch)
        found.update((images.path(number), image) for number, image in zip(batch, pixels, strict=True))
    assert numbers == sorted(numbers)
    assert found.keys() == expected.keys()
    for path, image in found.items():
        np.testing.assert_array_equal(image, expected[path])


@pytest.mark.slow
def test_rows_may_lie_in_the_folder_of_images(model, tmp_path):
    folder = image_files.write_folder(tmp_path, image_files.digit_pngs(4))
    for images in (folder, f"{folder}/**"):
        result = hubkeras.embed(model, images, folder / "rows", rows_per_file=3)
        assert (result.rows, result.left_out) == (4, {})
    assert result.already_there == 4


@pytest.mark.parametrize("task", ["classification", pytest.param("feature_vector", marks=pytest.mark.slow)])
def test_rows_equal_direct_calls(model, photos, tmp_path, task):
    result = hubkeras.embed(model, photos, tmp_path / "out", task=task, rows_per_file=32, batch_size=12)
    rows = rows_of(tmp_path / "out")
    expected = loaded(photos)
    key = {"classification": "image_classification", "feature_vector": "image_feature_vector"}[task]
    output = tf.saved_model.load(model).signatures[key](tf.stack(list(expected.values())))
    output = dict(zip(expected, next(iter(output.values())).numpy(), strict=True))

    assert (result.rows, result.errors, result.already_there) == (COUNT, DAMAGED, 0)
    assert [row["path"] for row in rows] == sorted(str(path) for path in photos.rglob("*") if path.is_file())
    for row in rows:
        if "damaged" in row["path"]:
            assert any(
                text in row["error"] for text in ("is a damaged", "is empty", "is not an image that can be read")
            )
            assert all(row[name] is None for name in row if name not in ("path", "error"))
            continue
        assert row["error"] is None
        if task == "feature_vector":
            np.testing.assert_allclose(row["features"], output[row["path"]], rtol=1e-5, atol=1e-5)
        else:
            (best,) = hubkeras.decode_predictions(output[row["path"]][np.newaxis], 5, model / "assets" / "labels.txt")
            assert row["labels"] == [name for name, _ in best]
            np.testing.assert_allclose(row["probabilities"], [share for _, share in best], atol=1e-5)


@pytest.mark.slow
def test_files_say_what_they_are(model, photos, tmp_path):
    result = hubkeras.embed(model, photos, tmp_path / "out", task="feature_vector", rows_per_file=60)
    files = sorted((tmp_path / "out").glob("*"))
    assert [path.name for path in files if not path.name.startswith(".")] == [
        "part-00000.parquet",
        "part-00001.parquet",
    ]
    schema = parquet.read_schema(tmp_path / "out" / "part-00001.parquet")
    assert str(schema.field("features").type) == "fixed_size_list<element: float>[1280]"
    metadata = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    assert metadata["hubkeras.model"] == result.content_hash
    assert json.loads(metadata["hubkeras.options"])["image_size"] == [96, 96]
    assert json.loads(metadata["hubkeras.versions"])["tensorflow"] == tf.__version__


@pytest.mark.parametrize("form", ["tar", pytest.param("records", marks=pytest.mark.slow)])
def test_shards_give_the_same_rows_as_files(model, tmp_path, form):
    images = image_files.damaged(image_files.digit_pngs(20), 2)
    for name, data in images:
        (tmp_path / "files" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "files" / name).write_bytes(data)
    images.sort()
    write = {"tar": image_files.write_tar, "records": image_files.write_records}[form]
    shard = write(tmp_path / f"shard.{'tfrecord' if form == 'records' else 'tar'}", images)
    hubkeras.embed(model, tmp_path / "files", tmp_path / "a")
    hubkeras.embed(model, shard, tmp_path / "b")
    files, shards = rows_of(tmp_path / "a"), rows_of(tmp_path / "b")
    assert [row["labels"] for row in files] == [row["labels"] for row in shards]
    assert sum(row["error"] is not None for row in shards) == 2
    assert all(row["path"].startswith(f"{shard}#") for row in shards)


@pytest.mark.slow
def test_another_model_other_options_and_other_images_are_refused(digits_model, photos, tmp_path):
    model = digits_model  # with variables
    out, few = tmp_path / "out", sorted(photos.rglob("*.jpg"))[:5]
    hubkeras.embed(model, few, out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(hubkeras.Error, match=r"made with other options \(top was 5 and is 3\); name another OUT"):
        hubkeras.embed(model, few, out, top=3)
    with pytest.raises(hubkeras.Error, match=r"other options \(resize was squash and is crop\)"):
        hubkeras.embed(model, few, out, resize="crop")
    with pytest.raises(hubkeras.Error, match="holds rows of other images"):
        hubkeras.embed(model, few[1:], out)
    changed = tf.saved_model.load(model)
    changed.variables[7].assign(changed.variables[7] * 1.001)
    tf.saved_model.save(changed, tmp_path / "changed", changed.signatures)
    with pytest.raises(hubkeras.Error, match="holds rows of another model"):
        hubkeras.embed(tmp_path / "changed", few, out, image_size=96)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(hubkeras.Error, match=r"holds thesis\.txt, which .* did not write"):
        hubkeras.embed(model, few, tmp_path / "mine")
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert hubkeras.embed(model, few, out).already_there == 5


def test_two_runs_into_one_folder(model, photos, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(hubkeras.Error, match="Another run is writing"):
            hubkeras.embed(model, photos, tmp_path / "out")


def test_what_cannot_be_a_model(model, photos, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    with pytest.raises(hubkeras.Error, match=r"broken\.onnx is plain text, not a model"):
        hubkeras.embed(tmp_path / "broken.onnx", photos, tmp_path / "out")
    adder = tf.Module()
    adder.call = tf.function(lambda x: x + 1, input_signature=[tf.TensorSpec([None, 3])])
    tf.saved_model.save(adder, str(tmp_path / "adder"), {"serving_default": adder.call})
    with pytest.raises(hubkeras.Error, match=r"adder takes the shape \[None, 3\]; expected images"):
        hubkeras.embed(tmp_path / "adder", photos, tmp_path / "out")
    for bad in ({"top": 0}, {"batch_size": 0}, {"resize": "fit"}, {"task": "detection"}):
        with pytest.raises(hubkeras.Error, match=next(iter(bad))):
            hubkeras.embed(model, photos, tmp_path / "out", **bad)
    assert not (tmp_path / "out").exists()


def test_an_onnx_file_of_another_network(photos, tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    first = helper.make_tensor_value_info("pixels", kind, [1, 3, 224, 224])
    last = helper.make_tensor_value_info("same", kind, [1, 3, 224, 224])
    graph = helper.make_graph([helper.make_node("Identity", ["pixels"], ["same"])], "other", [first], [last])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(hubkeras.Error, match=r"other\.onnx takes the shape \[1, 3, 224, 224\]; expected images"):
        hubkeras.embed(tmp_path / "other.onnx", photos, tmp_path / "out")


def test_any_savedmodel_with_an_image_signature(photos, tmp_path):
    module = tf.Module()
    spec = tf.TensorSpec([None, 48, 48, 3], name="images")
    module.call = tf.function(lambda images: {"default": tf.reduce_mean(images, [1, 2])}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "mean"), {"serving_default": module.call})
    few = sorted(photos.rglob("*.png"))[:3]
    hubkeras.embed(tmp_path / "mean", few, tmp_path / "out")
    for path, row in zip(few, rows_of(tmp_path / "out"), strict=True):
        np.testing.assert_allclose(row["features"], hubkeras.load_image(path, 48).mean((0, 1)), rtol=1e-5)


@pytest.mark.slow
def test_a_full_disk(model, photos, tmp_path):
    """A limit on the size of files stands in for a full disk; what was finished stays, and the run goes on later."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    arguments = (model, photos, tmp_path / "out", "--task", "feature_vector", "--rows-per-file", 50)
    process = run(arguments, preexec_fn=limit)
    assert process.returncode == 1
    assert process.stderr.startswith("hubkeras: Cannot write ")
    assert "File too large" in process.stderr
    assert process.stderr.count("\n") == 1
    assert list((tmp_path / "out").glob("*.parquet")) == []
    assert run([*arguments, "--json"]).returncode == 0
    assert len(rows_of(tmp_path / "out")) == COUNT


@pytest.mark.slow
def test_the_command(model, photos, tmp_path):
    process = run([model, photos, tmp_path / "out", "--json", "--top", 2])
    facts = json.loads(process.stdout)
    assert (process.returncode, process.stderr) == (0, "")
    assert (facts["rows"], facts["errors"]) == (COUNT, DAMAGED)
    assert {len(row["labels"]) for row in rows_of(tmp_path / "out") if row["labels"]} == {2}
    process = run([model, tmp_path / "no*.jpg", tmp_path / "out"])
    assert (process.returncode, process.stderr.count("\n")) == (1, 1)
    assert "matches nothing" in process.stderr


@pytest.mark.slow
def test_killed_and_run_again(model, photos, tmp_path):
    check_kills(model, photos, tmp_path, kills=2)


def test_a_folder_of_damaged_images_only(model, tmp_path):
    image_files.write_folder(tmp_path / "photos", image_files.damaged(image_files.digit_pngs(5), 5))
    for _ in range(2):  # the second finds all rows there
        with pytest.raises(
            hubkeras.Error, match=r"None of the 5 images can be read \(.*out says why\); of the first: .*0"
        ):
            hubkeras.embed(model, tmp_path / "photos", tmp_path / "out", batch_size=2, rows_per_file=3)
    assert all(row["error"] and row["labels"] is None for row in rows_of(tmp_path / "out"))


def test_one_image_that_can_be_read_is_enough(tmp_path):
    layout = RowLayout(Task.FEATURE_VECTOR, 1, 0, None)
    rows = [layout.row("a", None, "a is damaged."), layout.row("b", {"features": np.ones(1, np.float32)}, None)]
    for name, part in (("bad", rows[:1]), ("good", rows[1:])):
        write(part, layout.schema(), tmp_path / name)
    parquet.write_table(layout.schema().empty_table(), tmp_path / "none")
    check_any_read([tmp_path / "bad", tmp_path / "good"], "out")
    with pytest.raises(hubkeras.Error, match=r"None of the 2 images can be read .* of the first: a is damaged\."):
        check_any_read([tmp_path / name for name in ("none", "bad", "bad")], "out")


@pytest.mark.slow
def test_an_interrupted_run_tells_what_it_keeps(model, photos, tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(embedding, "embed", interrupted)
    arguments = ["embed", str(model), str(photos), str(tmp_path)]
    assert main(arguments) == 130
    assert capsys.readouterr().err == "hubkeras: interrupted; nothing is left half written.\n"
    for number in range(2):
        (tmp_path / f"part-0000{number}.parquet").touch()
    assert main(arguments) == 130
    told = f"{tmp_path} keeps 2 files that are whole, and the same command goes on from there"
    assert capsys.readouterr().err == f"hubkeras: interrupted; {told}.\n"


def test_beam_where_it_is_missing(model, photos, tmp_path):
    code = """if True:
        import sys
        sys.modules["apache_beam"] = None
        from hubkeras.commands import main
        sys.exit(main())"""
    arguments = ["embed", str(model), str(photos), str(tmp_path / "out"), "--beam", "--", "--runner=DirectRunner"]
    process = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    expected = f"hubkeras: apache_beam is not installed; `{installation('hubkeras[beam]')}` installs it.\n"
    assert (process.returncode, process.stderr) == (1, expected)
    code = code.replace("from hubkeras.commands import main", "import hubkeras; hubkeras.beam")
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stderr.endswith("ModuleNotFoundError: " + expected.removeprefix("hubkeras: "))
