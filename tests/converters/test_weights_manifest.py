"""The weights of TensorFlow.js: shards, quantization, and manifests that claim what is not there."""

import os

import numpy as np
import pytest

from hubkeras.converters.naming.renaming import NamingError
from hubkeras.converters.sources.weights_manifest import read_manifest

VALUES = np.array([[-1.5, 0.25, 3.0], [0.0, 7.0, -2.0]], np.float32)
WEIGHT = {"name": "a/kernel", "shape": [2, 3], "dtype": "float32"}


def read(folder, *groups):
    """The weights of groups, each (paths, weights)."""
    manifest = [{"paths": paths, "weights": weights} for paths, weights in groups]
    return read_manifest(manifest, folder / "model.json")


def refused(folder, manifest):
    with pytest.raises(NamingError) as caught:
        read_manifest(manifest, folder / "model.json")
    return str(caught.value)


def test_a_weight_may_lie_in_several_files_and_groups_follow_one_another(tmp_path):
    first, second = VALUES.tobytes(), np.arange(4, dtype="<i4").tobytes()
    for name, data in {"1": first[:5], "2": first[5:6], "3": first[6:], "sub/4": second}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    step = {"name": "iterations", "shape": [4], "dtype": "int32", "group": "optimizer"}
    weights = read(tmp_path, (["1", "2", "3"], [WEIGHT]), (["sub/4"], [step]))
    np.testing.assert_array_equal(weights.tensors["a/kernel"].read(), VALUES)
    np.testing.assert_array_equal(weights.tensors["optimizer/iterations"].read(), np.arange(4))
    assert [file.name for file in weights.files] == ["1", "2", "3", "4"]
    assert weights.quantized == ()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_whole_numbers_become_what_javascript_makes_of_them(dtype, tmp_path):
    stored = np.array([[0, 1, 2], [100, 200, np.iinfo(dtype).max]], dtype)
    (tmp_path / "w.bin").write_bytes(stored.tobytes())
    quantization = {"dtype": dtype, "scale": 0.1, "min": -1.3}
    weights = read(tmp_path, (["w.bin"], [{**WEIGHT, "quantization": quantization}]))
    expected = np.array([float(number) * 0.1 + -1.3 for number in stored.ravel()]).astype(np.float32)  # in double
    values = weights.tensors["a/kernel"].read()
    np.testing.assert_array_equal(values.ravel(), expected)
    assert (values.dtype, weights.tensors["a/kernel"].dtype, weights.quantized) == (np.float32, "float32", (dtype,))


def test_float16_is_widened(tmp_path):
    (tmp_path / "w.bin").write_bytes(VALUES.astype("<f2").tobytes())
    weights = read(tmp_path, (["w.bin"], [{**WEIGHT, "quantization": {"dtype": "float16"}}]))
    np.testing.assert_array_equal(weights.tensors["a/kernel"].read(), VALUES)
    assert weights.quantized == ("float16",)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("../other/secret", "names the file ../other/secret, which lies outside of the folder"),
        ("/etc/hostname", "which lies outside of the folder"),
        ("a/../../x", "which lies outside of the folder"),
        ("..\\other", "which lies outside of the folder"),
        ("C:/x", "which lies outside of the folder"),
        ("https://example.com/w.bin", "which lies outside of the folder"),
        ("link.bin", "which is a link out of the folder"),
        ("missing.bin", "its file of weights missing.bin is missing; put it beside the model.json"),
        (".", "its file of weights . is missing"),
        (7, "names files by other things than text"),
        ("", "names files by other things than text"),
        ("w\n.bin", "names files by other things than text"),
    ],
)
def test_names_of_files(path, words, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret").write_bytes(VALUES.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    os.symlink("../other/secret", folder / "link.bin")
    assert words in refused(folder, [{"paths": [path], "weights": [WEIGHT]}])


def test_a_cache_that_has_all_files_elsewhere(tmp_path):
    """As huggingface_hub keeps them: the folder has links to blobs."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    for name, data in {"model.json": b"{}", "w.bin": VALUES.tobytes()}.items():
        (tmp_path / "blobs" / f"1f{name}").write_bytes(data)
        os.symlink(f"../blobs/1f{name}", tmp_path / "snapshot" / name)
    weights = read(tmp_path / "snapshot", (["w.bin"], [WEIGHT]))
    np.testing.assert_array_equal(weights.tensors["a/kernel"].read(), VALUES)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": [2, 4]}, "has 24 bytes, too few for the weight a/kernel"),
        ({"shape": [2, 2]}, "has 24 bytes, where its weightsManifest has weights of 16"),
        ({"shape": [2, -3]}, "the shape [2, -3]"),
        ({"shape": [2, True]}, "the shape [2, True]"),
        ({"shape": [2.0, 3]}, "the shape [2.0, 3]"),
        ({"shape": None}, "the shape None"),
        ({"shape": [1] * 9}, "the shape [1, 1"),
        ({"shape": [1 << 20, 1 << 20]}, "no variable of these networks is so large"),
        ({"shape": [0, 10**4000]}, "the shape [0, 1000"),
        ({"dtype": "string"}, "the dtype string; expected float32, int32, bool"),
        ({"dtype": ["float32"]}, "the dtype ['float32']"),
        ({"name": ""}, "a weight of the name ''"),
        ({"name": "a\nb"}, "a weight of the name"),
        ({"name": "x" * 2000}, "a weight of the name"),
        ({"name": None}, "a weight without a name"),
        ({"quantization": {"dtype": "int4"}}, "quantizes a/kernel, of float32, to int4"),
        ({"quantization": "uint8"}, "quantizes a/kernel, of float32, to None"),
        ({"quantization": {"dtype": "uint8", "scale": 1}}, "with scale 1 and min None"),
        ({"quantization": {"dtype": "uint8", "scale": float("nan"), "min": 0}}, "with scale nan"),
        ({"quantization": {"dtype": "uint8", "scale": 10**400, "min": 0}}, "with scale 1000"),
        ({"quantization": {"dtype": "uint8", "scale": 1, "min": 0}, "dtype": "int32"}, "of int32, to uint8"),
    ],
)
def test_entries_of_weights(change, words, tmp_path):
    (tmp_path / "w.bin").write_bytes(VALUES.tobytes())
    said = refused(tmp_path, [{"paths": ["w.bin"], "weights": [{**WEIGHT, **change}]}])
    assert words in said
    assert len(said) < 400


def test_the_rest_of_a_manifest(tmp_path):
    (tmp_path / "w.bin").write_bytes(VALUES.tobytes())
    (tmp_path / "twice.bin").write_bytes(2 * VALUES.tobytes())
    (tmp_path / "page.bin").write_bytes(b"<!DOCTYPE html><html></html>")
    group = {"paths": ["w.bin"], "weights": [WEIGHT]}
    for manifest in (None, {}, ["w.bin"], [None]):
        assert "is no list of groups" in refused(tmp_path, manifest)
    assert "a group without a list of paths" in refused(tmp_path, [{"weights": []}])
    assert "a group without a list of weights" in refused(tmp_path, [{"paths": [], "weights": "x"}])
    assert "names more than 10,000 files" in refused(tmp_path, [{"paths": ["w.bin"] * 10_001, "weights": []}])
    assert "names more than 30,000 weights" in refused(tmp_path, [{"paths": [], "weights": [WEIGHT] * 30_001}])
    assert "two weights of the name a/kernel" in refused(tmp_path, [{"paths": ["twice.bin"], "weights": [WEIGHT] * 2}])
    other = {"paths": ["./w.bin"], "weights": [{**WEIGHT, "name": "b"}]}
    assert "names a file twice" in refused(tmp_path, [group, other])
    assert "its 0 files of weights have 0 bytes, too few" in refused(tmp_path, [{"paths": [], "weights": [WEIGHT]}])
