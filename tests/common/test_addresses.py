"""Addresses where paths are expected: `file://` is its path everywhere, all others are refused as outputs."""

import pathlib

import pytest

import hubkeras
from hubkeras.bulk.embedding import embed
from hubkeras.common import addresses, archives
from hubkeras.consuming import cache, handles
from tests.support.files import DIGITS


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("file:///a/b%20c%25.onnx", "/a/b c%.onnx"),
        ("file://localhost/a", "/a"),
        ("FILE:///a#b?c", "/a#b?c"),
        ("file:/a", "/a"),
        (pathlib.Path("file:///a"), "/a"),
        ("a/b%20c", "a/b%20c"),
        ("https://host/m.tgz", "https://host/m.tgz"),
        ("tfds:digits", "tfds:digits"),
    ],
)
def test_a_file_address_is_its_path(address, path):
    assert addresses.local(address) == path


@pytest.mark.parametrize(
    "address", ["s3://bucket/m", "gs://b/m", "hf://a/b", pathlib.Path("s3://bucket/m"), "x-y+z://a"]
)
def test_other_addresses_are_refused_as_outputs(address):
    with pytest.raises(hubkeras.Error, match=r"is an address \(.*://\).*name a local path"):
        addresses.output(address)


def test_a_file_address_of_another_machine_is_refused():
    with pytest.raises(hubkeras.Error, match="is on the machine host"):
        addresses.local("file://host/share/m")


WRITERS = {
    "export": lambda model, out: hubkeras.export(model, out),
    "convert": lambda model, out: hubkeras.convert(model, f"{out}.onnx"),
    "convert to slim": lambda model, out: hubkeras.convert(model, out, to="slim"),
    "embed": lambda model, out: embed(model, "images", out),
    "pack": lambda model, out: archives.pack(model, f"{out}.tar.gz"),
    "cache": lambda model, out: cache.cache_dir(out),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_no_writer_makes_a_folder_of_a_scheme(writer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(hubkeras.Error, match=r"s3://bucket/rows.* is an address"):
        WRITERS[writer](DIGITS, "s3://bucket/rows")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_inputs_handles_and_outputs_as_file_addresses(exported, tmp_path):
    model = exported("mobilenet_v2", "classification")
    assert handles.resolve(f"file://{model}") == str(model)
    assert hubkeras.get_expected_image_size(f"file://localhost{model}") == hubkeras.get_expected_image_size(model)
    archives.pack(f"file://{model}", f"file://{tmp_path}/a%20b.tar.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["a b.tar.gz"]
    written = hubkeras.convert(f"file://{model}", f"file://{tmp_path}/c%20d.weights.h5")
    assert written.path == tmp_path / "c d.weights.h5"
    assert written.path.is_file()
