"""A SavedModel of ours whose variables are another model's is refused by all that reads it, wherever it lies."""

import shutil
import tarfile

import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.commands import main
from hubkeras.runtimes import files

DATA = "variables/variables.data-00000-of-00001"


@pytest.fixture(scope="module")
def places(exported, tmp_path_factory):
    """Where the model lies: `{name: path}`."""
    folder = tmp_path_factory.mktemp("exchanged")
    model = folder / "above" / "1" / "model"
    shutil.copytree(exported("mobilenet_v2", "classification"), model)
    values = np.fromfile(model / DATA, np.uint8)
    values[-4:] ^= 1  # of the last variable
    (model / DATA).write_bytes(values.tobytes())
    for name, root in (("flat.tgz", "."), ("nested.tgz", "x/model")):
        with tarfile.open(folder / name, "w:gz") as archive:
            archive.add(model, root)
    key = folder / "key.pem"
    key.write_text("never read")
    (folder / "images" / "0").mkdir(parents=True)
    tf.io.write_file(str(folder / "images" / "0" / "a.png"), tf.io.encode_png(np.zeros([8, 8, 3], np.uint8)))
    return {"model": model, "above": folder / "above", **{n: folder / n for n in ("flat.tgz", "nested.tgz", "images")}}


COMMANDS = {
    "export": "export {model} {out}",
    "convert": "convert {model} {out}.weights.h5",
    "inspect": "inspect {model}",
    "install": "install {model} --handle me/model/1 --cache-dir {out}",
    "embed": "embed {model} {images} {out}",
    "evaluate": "evaluate {model} {images}",
}
FOLDERS_ONLY = {
    "pack": "pack {model} {out}.tgz",
    "sign": "sign {model} --private-key {images}/0/a.png",
    "document": "document {model}",
    "verify": "verify {model} --source {model}",
}
CASES = [(name, place) for name in COMMANDS for place in ("model", "above", "flat.tgz", "nested.tgz")]
CASES += [(name, place) for name in FOLDERS_ONLY for place in ("model", "above")]


@pytest.mark.parametrize(("name", "place"), CASES)
def test_refused(name, place, places, tmp_path, capsys):
    words = {"model": places[place], "images": places["images"], "out": tmp_path / "out"}
    line = {**COMMANDS, **FOLDERS_ONLY}[name]
    assert main([word.format(**words) for word in line.split()]) == 1
    assert f"{DATA} is not what was written" in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_refused_by_what_runs_it(places):
    for run in (hubkeras.KerasLayer, files.load):
        with pytest.raises(hubkeras.Error, match="is not what was written"):
            run(places["above"])
