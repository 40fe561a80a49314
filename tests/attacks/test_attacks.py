"""Every attack is refused by every command that reads such a file: in one line, soon, and with nothing written."""

import json

import pytest

from hubkeras.converters.sources.hdf5 import open_hdf5
from tests.attacks import hdf5
from tests.attacks.watching import refusal

# how each command reads a source of weights; `model` is a folder that says of itself that it is a SavedModel of ours
OF_SOURCES = {
    "inspect": ["inspect", "{file}"],
    "export": ["export", "{file}", "out"],
    "convert": ["convert", "{file}", "out.weights.h5"],
    "verify": ["verify", "model", "--source", "{file}"],
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


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Function from the arguments of a command, `{file}` among them, and the file's path to what the command says."""
    (tmp_path / "model" / "assets").mkdir(parents=True)
    (tmp_path / "model" / "assets" / "metadata.json").write_text(json.dumps(METADATA))

    def run(arguments, file):
        file = file.relative_to(tmp_path)
        return refusal([part.format(file=file) for part in arguments], tmp_path, monkeypatch, capsys)

    return run


@pytest.mark.parametrize("form", hdf5.FORMS)
@pytest.mark.parametrize("what", hdf5.ATTACKS)
def test_hdf5(what, form, tmp_path, refused):
    file = hdf5.write(what, form, tmp_path)
    for arguments in OF_SOURCES.values():
        said = refused(arguments, file)
        assert said.startswith(f"{form}: ")
        assert said.endswith("expected plain arrays within the file, as Keras saves weights.")


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
