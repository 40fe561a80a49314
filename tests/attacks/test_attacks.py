"""Every attack is refused by every command that reads such a file: in one line, soon, and with nothing written."""

import contextlib
import json
import os
import re
import shutil

import pytest

import hubkeras
from hubkeras.bulk.sources import Files
from hubkeras.common.guards import model_files
from hubkeras.consuming.images import decode
from hubkeras.converters.sources.hdf5 import open_hdf5
from hubkeras.exporting.calibration import calibration_images
from tests.support.attacks import containers, hdf5, strangers
from tests.support.attacks.watching import MOST_SEEN, refusal, within_bounds
from tests.support.files import ROOT

# how each command reads a source of weights; `model` is a folder that says of itself that it is a SavedModel of ours
OF_SOURCES = {
    "inspect": ["inspect", "{file}"],
    "export": ["export", "{file}", "out"],
    "convert": ["convert", "{file}", "out.weights.h5"],
    "verify": ["verify", "model", "--source", "{file}"],
}
_RUNS = {
    "embed": ["embed", "{file}", "photos", "rows"],
    "evaluate": ["evaluate", "{file}", "photos"],
}
_MODELS = {
    "verify": ["verify", "{file}", "--source", "model"],
    "benchmark": ["benchmark", "{file}"],
    **_RUNS,
    "inspect": OF_SOURCES["inspect"],
}
COMMANDS = {
    "source": OF_SOURCES,
    "archive": {**OF_SOURCES, **_RUNS, "install": ["install", "{file}", "--handle", "me/x/1", "--cache-dir", "cache"]},
    "saved model": _RUNS,
    "model": _MODELS,
}
METADATA = {
    "architecture": "mobilenet_v2",
    "task": "feature_vector",
    "depth_multiplier": 0.35,
    "default_image_size": 96,
    "minimum_image_size": 32,
    "fixed_image_size": False,
    "num_features": 1280,
    "num_classes": None,
    "settings": {},
    "versions": {},
}


PAGE = ROOT / "docs" / "threat-model.md"
REWRITE = "HUBKERAS_REWRITE"  # of the environment: the table of the page is written anew
TABLE = "| file | attack | what hubkeras says |\n|---|---|---|\n"
IN_OTHER_WORDS = ("safetensors", "OpenVINO")  # whose reasons are those of a library
SAID = {}  # {(kind of file, attack): what hubkeras says}, as far as the tests have run


def keep(kind, what, said):
    """Keeps a refusal for the page, without what depends on versions of libraries, and what was expected instead."""
    sentence = re.sub(r"attack/model/|attack/", "", said).split("; ")[0].rstrip(".")
    if kind in IN_OTHER_WORDS:
        sentence = re.sub(r" \(.*\)", "", sentence)
    SAID[kind, what] = sentence.replace("|", "\\|").replace("*", "\\*")


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Function from the arguments of a command, `{file}` among them, and the file's path to what the command says."""
    (tmp_path / "model" / "assets").mkdir(parents=True)
    (tmp_path / "model" / "assets" / "metadata.json").write_text(json.dumps(METADATA))
    (tmp_path / "photos" / "a").mkdir(parents=True)
    (tmp_path / "photos" / "a" / "1.png").write_bytes(b"not looked at")

    def run(arguments, file):
        file = file.relative_to(tmp_path)
        return refusal([part.format(file=file) for part in arguments], tmp_path, monkeypatch, capsys)

    return run


@pytest.mark.parametrize("form", hdf5.FORMS)
@pytest.mark.parametrize("what", hdf5.ATTACKS)
def test_hdf5(what, form, tmp_path, refused):
    file = hdf5.write(what, form, tmp_path)
    names = OF_SOURCES if form == hdf5.FORMS[0] else ["inspect"]  # all readers open it by the same function
    for arguments in map(OF_SOURCES.get, names):
        said = refused(arguments, file)
        assert said.startswith(f"{form}: ")
        assert said.endswith("expected plain arrays within the file, as Keras saves weights.")
    if form == hdf5.FORMS[0]:
        keep("HDF5", what, said)


@pytest.mark.parametrize("what", strangers.CONTENTS)
def test_not_a_model_as_a_source(what, tmp_path, refused):
    content, words = strangers.CONTENTS[what]
    for name in strangers.SOURCES:
        file = tmp_path / name
        file.write_bytes(content)
        commands = OF_SOURCES if name == strangers.SOURCES[0] else {"inspect": OF_SOURCES["inspect"]}
        for arguments in commands.values():
            said = refused(arguments, file)
            assert name in said
            assert words in said, said
        file.unlink()
        if name == "weights":
            keep("no model", what, said)


@pytest.mark.parametrize("what", strangers.CONTENTS)
def test_not_a_model_in_a_folder(what, tmp_path, refused):
    content, words = strangers.CONTENTS[what]
    for place, others in strangers.IN_FOLDERS.items():
        file = tmp_path / place
        folder = tmp_path / place.split("/")[0]
        for other in others:
            (folder / other).parent.mkdir(parents=True, exist_ok=True)
            (folder / other).write_bytes(b"{}" if other.endswith(".json") else bytes(100))
        file.parent.mkdir(exist_ok=True)
        if file.name == "saved_model.pb":
            containers.index(folder / "variables", "variables")
        file.write_bytes(content)
        said = refused(OF_SOURCES["export"], folder)
        assert file.name in said
        assert words in said, said
        shutil.rmtree(folder)


@pytest.mark.parametrize("what", strangers.CONTENTS)
def test_not_a_model_as_a_model(what, tmp_path, refused):
    content, words = strangers.CONTENTS[what]
    for name in strangers.RUNTIMES:
        file = tmp_path / name
        file.write_bytes(content)
        for arguments in COMMANDS["model"].values():
            assert words in refused(arguments, file)
    for name in ("model.tgz", "weights"):  # and what is no file of a runtime
        file = tmp_path / name
        file.write_bytes(content)
        for arguments in (*_RUNS.values(), COMMANDS["archive"]["install"]):
            assert words in refused(arguments, file)
        file.unlink()


def test_data_that_are_a_pointer(tmp_path, refused):
    """The data file of a checkpoint whose index is whole, and one that is alone."""
    index = containers.index(tmp_path, "model")
    data = tmp_path / "model.data-00000-of-00001"
    data.write_bytes(strangers.POINTER)
    assert "model.data-00000-of-00001 is a Git LFS pointer" in refused(OF_SOURCES["inspect"], index)
    index.unlink()
    assert "model.data-00000-of-00001 is a Git LFS pointer" in refused(OF_SOURCES["inspect"], data)


@pytest.mark.parametrize("what", containers.ATTACKS)
def test_containers(what, tmp_path, refused):
    kind, _ = containers.ATTACKS[what]
    file = containers.write(what, tmp_path / "attack")
    if kind == "images":
        with pytest.raises(hubkeras.Error, match="npz") as error, within_bounds():
            calibration_images(file, 96)
        keep(*what.split(": "), str(error.value).replace(f"{file.parent}/", ""))
        return
    commands = COMMANDS[kind]
    if what in containers.HEAVY:  # a second each; all of them open the file by the same function
        commands = dict([next(iter(commands.items()))])
    said = {name: refused(arguments, file) for name, arguments in commands.items()}
    assert not (tmp_path / "ran").exists()
    keep(*what.split(": "), next(iter(said.values())))


LISTED = ("/dev/zero", "/proc/self/environ", "../other/pipe", "../other/secret")


@pytest.mark.parametrize("name", LISTED)
def test_lists_of_images_name_images_alone(name, tmp_path):
    """What a list names is read where it is an ordinary file, and comes to nothing where it is no image."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret").write_bytes(b"secret")
    os.mkfifo(tmp_path / "other" / "pipe")
    path = os.path.join(tmp_path / "photos", name)
    with within_bounds(), contextlib.suppress(hubkeras.Error):
        data = Files([path]).read(0)
        with pytest.raises(Exception, match="image") as error:
            decode(data, (32, 32))
        assert "secret" not in str(error.value)


@pytest.mark.parametrize("layout", ["beside", "cache of links"])
def test_weights_in_the_models_own_folder_are_read(layout, tmp_path):
    """As PyTorch exports large models, and as the Hugging Face Hub keeps files: links into one folder."""
    model = containers.onnx(tmp_path, "model.onnx.data")
    data = tmp_path / "model.onnx.data"
    data.write_bytes(bytes(16))
    if layout == "cache of links":
        (tmp_path / "snapshot").mkdir()
        for file in (model, data):
            (tmp_path / "snapshot" / file.name).symlink_to(file)
        model = tmp_path / "snapshot" / model.name
    model_files.check(model)


def test_plain_files_are_read(tmp_path):
    """What h5py and Keras write passes: compressed or not, in chunks, attributes, booleans and bfloat16."""
    import h5py
    import ml_dtypes
    import numpy as np

    values = np.random.RandomState(0).normal(size=(64, 64)).astype("f4")
    options = (
        {},
        {"chunks": (7, 9)},
        {"compression": 9, "shuffle": True, "fletcher32": True},
        {"maxshape": (None, 64)},
    )
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        for number, option in enumerate(options):
            file.create_dataset(f"a/b/{number}", data=values, **option)
        file["a/half"] = values.astype(ml_dtypes.bfloat16)
        file["a/bool"] = values > 0
        file["a/scalar"] = np.int64(3)
        file["a/empty"] = np.zeros((0, 3), "f4")
        file["a/zeros"] = np.zeros((100_000,), "f4")
        file.attrs["names"] = [b"a", b"bc"]
        file.attrs["model_config"] = "{}" * 1000
        file.attrs["version"] = 3
    with open_hdf5(tmp_path / "plain.h5") as file:
        for number in range(len(options)):
            np.testing.assert_array_equal(file[f"a/b/{number}"][()], values)


def test_the_page_tells_what_becomes_of_each():
    """The table of the page *Threat model* is made of what the tests above have seen."""
    print(MOST_SEEN)
    rows = {key: f"| {key[0]} | {key[1]} | {said} |" for key, said in SAID.items()}
    text = PAGE.read_text("utf-8")
    head, begin, rest = text.partition(TABLE)
    table, end, tail = rest.partition("\n\n")
    if os.environ.get(REWRITE):
        PAGE.write_text(head + begin + "\n".join(rows.values()) + end + tail, "utf-8")
        return
    missing = [row for row in rows.values() if row not in table.splitlines()]
    assert not missing, (
        f"run the tests of this file with {REWRITE}=1, which writes the table of the page anew: {missing}"
    )
    attacks = len(hdf5.ATTACKS) + len(containers.ATTACKS) + len(strangers.CONTENTS)
    assert len(table.splitlines()) == attacks
