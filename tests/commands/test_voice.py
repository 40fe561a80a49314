"""One voice: what was meant, defaults told in one way, sentences about what was given, before any library's import."""

import argparse
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

import hubkeras
from hubkeras import verifying
from hubkeras.commands import main, parser
from hubkeras.common import mistaken
from hubkeras.common.endings import format_of
from hubkeras.common.errors import Error
from hubkeras.common.parity import COSINES, MEAN
from hubkeras.common.staging import is_rehearsal
from hubkeras.common.version import __version__
from hubkeras.consuming import cache
from hubkeras.runtimes.opening import open_model
from tests.support.files import DIGITS, ROOT
from tests.support.keys import write_key


def subparsers():
    (commands,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return commands.choices


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A folder with what people have beside models: photos, a text, a table."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos/cat/a.jpg", "photos/dog/b.png", "cat.jpg"):
        pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (8, 8), (9, 9, 9)).save(name)
    for name in ("cats.keras", "cats.zip"):
        pathlib.Path(name).write_bytes(b"PK\x03\x04")
    pathlib.Path("notes.txt").write_text("hello\n")
    pathlib.Path("photos/labels.csv").write_text("file,label\n")
    pathlib.Path("rows").mkdir()
    pathlib.Path("rows/part-00000-of-00001.parquet").write_bytes(b"PAR1hubkeras.model\x0e\0\0\0PAR1")
    pathlib.Path("report").mkdir()
    pathlib.Path("report/classes.csv").write_text("class,images,top_1\n")
    pathlib.Path("report/confusions.csv").write_text("class,predicted,images\n")
    pathlib.Path("report/accuracy.png").write_bytes(b"\x89PNG")
    return tmp_path


@pytest.mark.parametrize("name", sorted(subparsers()))
def test_defaults_are_told_in_one_way(name):
    for action in subparsers()[name]._actions:
        text = action.help or ""
        assert text, f"{name} {action.dest} has no help"
        assert "by default" not in text
        assert text.count("(default: ") <= 1
        has_default = action.default not in (None, [], argparse.SUPPRESS) and not isinstance(action.default, bool)
        if action.option_strings and has_default:
            assert "(default: " in text


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("train a b --from c --epoch 3", "unrecognized arguments: --epoch 3; did you mean --epochs?"),
        ("--json catalog", "--json comes after the command: hubkeras catalog --json"),
        ("verify m", "nothing to verify MODEL by; give what it was made of: --source"),
        ("convert a b --to-slim c", "unrecognized arguments: --to-slim c"),
    ],
)
def test_wrong_usage_is_short(typed, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(shlex.split(typed))
    usage, error, advice = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: hubkeras ")
    assert words in error
    assert advice.endswith("--help` tells more.")


def test_python_runs_the_package():
    done = subprocess.run([sys.executable, "-m", "hubkeras", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[:2], done.stderr) == (0, ["hubkeras", __version__], "")
    done = subprocess.run([sys.executable, "-m", "hubkeras", "inspect", "nowhere"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("hubkeras: nowhere does not exist")


def test_the_version_names_what_computes(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    text = capsys.readouterr().out
    assert re.fullmatch(rf"hubkeras {re.escape(__version__)} \(Python [\d.]+, Keras [\d.]+, NumPy .*\)\n", text)


SENTENCES = [
    ("export cat.jpg out", "cat.jpg is an image (JPEG), and holds no weights"),
    ("export photos out", "photos is a folder of images (2, such as cat/a.jpg), and holds no weights"),
    ("convert notes.txt a.onnx", "notes.txt is plain text, not a model"),
    ("train photos out --from photos", "`hubkeras train photos OUT --from SOURCE` makes a classifier"),
    ("classify cat.jpg photos", "cat.jpg is an image (JPEG), not a model"),
    ("classify cats.keras photos", "`hubkeras export cats.keras OUT_DIR` makes one of it"),
    ("evaluate cats.zip photos", "cats.zip is a source of weights, not a model that runs"),
    ("embed photos model out", "the model comes first, then the images"),
    ("evaluate phots photos", "phots does not exist; did you mean photos?"),
    ("pack photos photos.tar.gz", "photos is a folder of images (2, such as cat/a.jpg), not a model"),
    ("document photos", "photos is a folder of images"),
    ("document cats.zip", "cats.zip is a file; expected the folder of a SavedModel. Unpack an archive of one first."),
    ("sign cats.zip --private-key key.pem", "cats.zip is a file; expected the folder of a SavedModel."),
    ("document none", "none does not exist; expected the folder of a SavedModel."),
    ("sign cat.jpg --private-key key.pem", "cat.jpg is an image (JPEG), not a model"),
    ("install photos --handle a/b/1 --cache-dir cache", "photos is a folder of images"),
    ("export rows out", "rows holds rows of images that `hubkeras embed` wrote, and no model"),
    ("classify report cat.jpg", "report holds a report of `hubkeras evaluate` or `hubkeras train`, and no model"),
    ("classify hf://me/model cat.jpg", "`hubkeras export hf://me/model OUT_DIR` makes one of it"),
    ("verify photos --source cat.jpg", "photos is a folder of images"),
    ("export none.ckpt out", "none.ckpt does not exist; expected a checkpoint or a model"),
    ("export model notes.txt", "And there is nothing at model: what is read comes first"),
    ("convert cat.jpg m.keras", "here give --to keras-applications."),
    ("convert cat.jpg m.onxx", "; did you mean .onnx?"),
    ("catalog resnet50", "No module has 'resnet50' in its handle; hubkeras knows those of inception_v2"),
    ("train photos photos --from cats.keras", "photos is an input"),
    ("train photos notes.txt/out --from cats.keras", "notes.txt: it is no folder"),
    ("evaluate google/x/1 photos --report photos", "photos is an input"),
    ("classify google/x/1 cat.jpg --picture cat.jpg", "cat.jpg is an input"),
    ("embed google/x/1 photos cat.jpg", "cat.jpg: it is no folder"),
    ("uninstall a/b/1 --dry-run --cache-dir cache", "is not installed in"),
]


@pytest.mark.parametrize(("typed", "words"), SENTENCES)
def test_sentences_about_what_was_given(typed, words, given, capsys, monkeypatch):
    before = sorted(given.rglob("*"))
    monkeypatch.setattr("hubkeras.commands.program._import_tensorflow", lambda: pytest.fail("it waits for TensorFlow"))
    assert main(shlex.split(typed)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert sorted(given.rglob("*")) == before


def test_what_is_given_is_judged_without_libraries(given):
    """In a process of its own: nothing of TensorFlow, Keras or the runtimes is imported for such a sentence."""
    code = "import sys; from hubkeras.commands import main; main(sys.argv[1:]); print(*sys.modules)"
    for typed in (["export", "photos", "out"], ["classify", "cat.jpg", "photos"], ["convert", "cat.jpg", "m.keras"]):
        done = subprocess.run([sys.executable, "-c", code, *typed], capture_output=True, text=True)
        assert done.stderr.startswith("hubkeras: ")
        assert not {"tensorflow", "keras", "onnxruntime", "openvino"} & set(done.stdout.split())


def test_folders_that_could_be_sources(given):
    for name in ("model.json", "config.json", "weights.bin"):
        pathlib.Path("photos", name).write_text("{}")
        mistaken.refuse_source("photos")
        pathlib.Path("photos", name).unlink()
    pathlib.Path("model.ckpt-5.index").touch()
    for name in ("model.ckpt-5", "hf://owner/name", "https://host/m.tgz", "google/imagenet/mobilenet_v2/1"):
        mistaken.refuse_source(name)
    with pytest.raises(Error, match="photos is a folder of images"):
        mistaken.refuse_source("photos")


def test_endings_and_the_options_that_repair_them():
    for name, repair in (("m.keras", "--to keras-applications"), ("a/m.H5", "--to keras-applications")):
        with pytest.raises(Error) as caught:
            format_of(name)
        assert caught.value.repair == repair
    with pytest.raises(Error, match="hubkeras export") as caught:
        format_of("folder")
    assert caught.value.repair is None


def test_an_empty_cache_says_so(tmp_path, capsys):
    assert main(["installed", "--cache-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"Nothing is installed in {tmp_path}.\n"


def test_catalogue_in_any_case(capsys):
    assert main(["catalog", "MobileNet_V2_035_96", "--quiet"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["catalog", "resnet50", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"modules": []}


def test_uninstall_tells_first(tmp_path, capsys):
    folder = cache.folder_of("me/digits/1", tmp_path)
    folder.mkdir()
    pathlib.Path(f"{folder}.descriptor.txt").write_text(f"Module: {cache.normalized('me/digits/1')}\n")
    assert main(["uninstall", "me/digits/1", "--dry-run", "--cache-dir", str(tmp_path)]) == 0
    assert "would be removed" in capsys.readouterr().out
    assert folder.is_dir()
    assert main(["uninstall", "me/digits/1", "--cache-dir", str(tmp_path)]) == 0
    assert not folder.exists()


@pytest.mark.parametrize("typed", ["export {} out", "convert {} m.onnx", "convert {} m.weights.h5"])
def test_a_dry_run_writes_nothing(typed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    target = pathlib.Path(typed.split()[-1])
    arguments = [*shlex.split(typed.format(DIGITS)), "--dry-run"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert re.search(rf"would be written\W+{re.escape(str(target))}", out)
    assert "would be replaced" not in out
    assert list(tmp_path.iterdir()) == []
    target.touch()  # an empty file may be replaced
    if not typed.startswith("export"):
        assert main([*arguments, "--overwrite", "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["dry_run"], facts["path"], facts["parity"]) == (True, str(target), None)
        assert target.stat().st_size == 0


REHEARSED = [
    ("sign digits --private-key key.pem", "digits/model.sig"),
    ("pack digits new/digits.tar.gz", "new/digits.tar.gz"),
    ("pack digits new/digits --layout tensorflow-serving", "new/digits"),
    ("install digits --handle me/digits/1 --cache-dir cache", "cache"),
    ("classify digits photos/3/a.png --picture new/a.png", "new/a.png"),
    ("evaluate digits photos --report new/report", "new/report"),
]


@pytest.mark.parametrize(("typed", "target"), REHEARSED)
def test_a_rehearsal_writes_nothing(typed, target, digits_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(digits_model, "digits")
    shutil.rmtree("digits/assets.extra")  # without checksums, which signing adds
    for name in ("photos/3/a.png", "photos/7/b.png"):
        pathlib.Path(name).parent.mkdir(parents=True)
        shutil.copy(ROOT / "examples/data/seven.png", name)
    write_key(tmp_path, "key")
    before = sorted(tmp_path.rglob("*"))
    assert main([*shlex.split(typed), "--dry-run"]) == 0
    assert re.search(rf"would be written.*{re.escape(target)}", capsys.readouterr().out)
    assert sorted(tmp_path.rglob("*")) == before
    assert main(shlex.split(typed)) == 0
    assert pathlib.Path(target).exists()
    assert not is_rehearsal()
    if typed.startswith("install"):  # again, which writes nothing
        assert main([*shlex.split(typed), "--dry-run"]) == 0
        assert "is there already" in (text := capsys.readouterr().out)
        assert "would be" not in text


def test_a_rehearsal_refuses_what_the_command_would(digits_model, tmp_path, capsys):
    (tmp_path / "mine.tar.gz").write_text("mine")
    assert main(["pack", str(digits_model), str(tmp_path / "mine.tar.gz"), "--overwrite", "--dry-run"]) == 1
    assert main(["pack", str(digits_model), str(tmp_path / "mine.tar.gz" / "a.tar.gz"), "--dry-run"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "mine.tar.gz" in first
    assert "Cannot write to" in second
    assert (tmp_path / "mine.tar.gz").read_text() == "mine"


def test_small_images_are_refused_before_the_network(digits_model):
    with pytest.raises(Error, match=r"image_size \(--image-size\) must be at least 32 for .*; got 5"):
        open_model(digits_model, image_size=5)


def test_settings_that_contradict_are_errors_of_ours():
    with pytest.raises(Error, match="num_classes"):
        hubkeras.load(DIGITS, num_classes=-3)
    with pytest.raises(Error, match="depth_multiplier"):
        hubkeras.load(DIGITS, depth_multiplier="wide")


@pytest.mark.parametrize(
    ("task", "relative_to"), [("classification", MEAN), pytest.param("feature_vector", COSINES, marks=pytest.mark.slow)]
)
def test_eight_bits_are_judged_as_such(task, relative_to, tmp_path):
    """Against the float model: differences are above the bound of float32, and are those of 8 bits."""
    images = np.random.default_rng(0).random((24, 32, 32, 3), np.float32)
    original = hubkeras.load(DIGITS, **({} if task == "classification" else {"num_classes": None}))
    path = tmp_path / "m.onnx"
    hubkeras.convert(original, path, image_size=32, int8=images)
    parity = verifying.verify(path, against=lambda batch: original(batch), images=images[:8])
    assert (parity.relative_to, parity.bound, parity.passed) == (relative_to, 0.1, True)
    assert 2e-5 < parity.error < 0.1


def test_the_reference_has_every_command_and_option():
    sys.path.insert(0, str(ROOT / "docs"))
    from hooks import command_help

    text = command_help()
    for name, sub in subparsers().items():
        assert f"## hubkeras {name}\n" in text
        for action in sub._actions:
            for option in action.option_strings:
                assert option in text


def test_commands_in_the_docs_have_options_that_exist():
    """Every `hubkeras COMMAND ... --option` on the pages, in blocks and in the text."""
    known = {name: set(sub._option_string_actions) for name, sub in subparsers().items()}
    seen = 0
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text("utf-8").replace("\\\n", " ")
        for command, rest in re.findall(r"\bhubkeras ([a-z]+)((?: [^`|\n]*)?)", text):
            if command not in known:
                continue
            for option in re.findall(
                r"(?<=\s)--[a-z0-9][a-z0-9-]*", rest.split(" -- ")[0].split("#")[0].split(" && ")[0]
            ):
                seen += 1
                assert option in known[command], f"{page.name}: hubkeras {command} has no {option}"
    assert seen > 20
