"""NumPy's archives as a source and as a format: arrays under Slim's names."""

import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import hubkeras
from hubkeras.commands import main
from hubkeras.converters import open_checkpoint, read_network
from hubkeras.converters.inspecting import inspect
from tests.support.reading import SCOPE, assert_reads, fails

KERNEL = f"{SCOPE}/Conv/weights"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mobilenet_v2_0.35_96.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_as_numpy_writes_them(save, tensors, path):
    save(path, **tensors)
    assert assert_reads(path, tensors).read == len(tensors)
    assert inspect(path).image_size == 96


def test_averages_and_what_training_leaves(golden, path):
    """The checkpoint of a training run, tensor by tensor: the averages are taken, the rest is counted."""
    run = golden("mobilenet_v2_0.35_96_ema")
    np.savez(path, **run.tensors())
    network, _, report = read_network(path)
    weights = run.weights()
    for name, variable in network.slim_variables().items():
        np.testing.assert_array_equal(np.asarray(variable), weights[name], err_msg=name)
    assert (report.weights, report.read) == ("ema", len(run.tensors()))
    assert report.used + sum(report.ignored.values()) == report.read


def test_other_orders_of_bytes_and_axes(tensors, path):
    np.savez(path, **{name: np.asfortranarray(value.astype(">f4")) for name, value in tensors.items()})
    assert_reads(path, tensors)


def test_inspect_needs_no_tensorflow(tensors, path):
    np.savez(path, **tensors)
    code = "import sys; sys.modules['tensorflow'] = None; from hubkeras.commands import main; sys.exit(main())"
    run = subprocess.run([sys.executable, "-c", code, "inspect", path], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_others_in_a_folder_come_first(tensors, files, tmp_path):
    """Archives of arrays lie beside checkpoints for many reasons: they count where there is nothing else."""
    np.savez(tmp_path / "images.npz", np.zeros(3))
    shutil.copytree(files / "v2", tmp_path / "run")
    assert_reads(tmp_path, tensors)
    shutil.rmtree(tmp_path / "run")
    fails(tmp_path, "not of a network that hubkeras knows")
    np.savez(tmp_path / "images.npz", **tensors)
    assert_reads(tmp_path, tensors)
    (tmp_path / "model.tgz").touch()
    fails(tmp_path, "holds an archive, model.tgz")


def test_bad_archives(tensors, path):
    def saved_as(*words, **changes):
        np.savez(path, **{**tensors, **changes})
        fails(path, *words)

    saved_as("pickles, not numbers", **{KERNEL: np.array([{}])})
    saved_as("<U1, not numbers", **{KERNEL: np.array(["a"])})
    saved_as("dtype float16, expected float32", **{KERNEL: tensors[KERNEL].astype("f2")})
    saved_as("has shape [3, 3, 3]", **{f"{SCOPE}/Conv/BatchNorm/gamma": np.zeros((3, 3, 3), "f4")})
    saved_as("not of TF-Slim's MobileNetV2", f"{SCOPE}/Conv/kernel", **{f"{SCOPE}/Conv/kernel": np.zeros(3, "f4")})
    np.savez(path, **{name.replace("/", "."): value for name, value in tensors.items()})
    fails(path, "expected variables below one of")
    np.savez(path, *tensors.values())
    fails(path, "expected variables below one of", "arr_0")
    np.savez(path, **{name: value for name, value in tensors.items() if name != KERNEL})
    fails(path, "missing of MobileNetV2", KERNEL)


def test_damaged_archives(tensors, path):
    np.savez(path, **tensors)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    fails(path, "is not a whole .npz file")
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    path.write_bytes(changed)
    fails(path, "truncated or damaged")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    fails(path, "zip archive with 'readme.txt', which is no array")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{KERNEL}.npy", "hello")
    fails(path, KERNEL, "is no array of numbers")


def test_what_the_caller_raises_is_the_callers(tensors, path):
    np.savez(path, **tensors)
    with pytest.raises(KeyError, match="mine"), open_checkpoint(path):
        raise KeyError("mine")


def test_a_checkpoint_comes_back_bit_by_bit(checkpoint, golden, path, capsys):
    """Slim's weights, to an archive, and to a Slim checkpoint again."""
    source, weights = checkpoint("mobilenet_v2_0.35_96_ema"), golden("mobilenet_v2_0.35_96_ema").weights()
    assert main(["convert", str(source), str(path)]) == 0
    assert "262 of 262 bit-identical" in capsys.readouterr().out
    with np.load(path) as file:
        assert file.files == sorted(weights)
        for name, value in weights.items():
            assert (file[name].dtype, file[name].tobytes()) == (value.dtype, value.tobytes())
    hubkeras.convert(path, path.with_name("again.ckpt"), to="slim")
    with open_checkpoint(path.with_name("again.ckpt")) as again:
        for name, value in weights.items():
            assert again.read(name).tobytes() == value.tobytes()


def test_equal_weights_are_equal_bytes(tiny, tmp_path):
    for name in ("a.npz", "b.npz"):
        hubkeras.convert(tiny, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_what_an_archive_does_not_hold_is_said(tmp_path):
    network = hubkeras.MobileNetV2(0.35, 3, batch_norm_epsilon=0.01, initialize=False)
    written = hubkeras.convert(network, tmp_path / "m.npz", labels=["x", "y", "z"], image_size=64)
    assert written.notes[0].startswith("An .npz file does not hold the class names;")
    assert "does not hold batch_norm_epsilon=0.01" in written.notes[1]


def test_the_size_of_the_images_is_in_the_comment(checkpoint, path, tmp_path):
    """Also beside a name that says another; what shapes tell is still told by them."""
    hubkeras.convert(checkpoint("mobilenet_v2_0.35_96_ema"), tmp_path / "weights.npz", image_size=64)
    shutil.copy(tmp_path / "weights.npz", path)
    for file in (tmp_path / "weights.npz", path):
        seen = inspect(file)
        assert (seen.image_size, seen.settings["depth_multiplier"]) == (64, 0.35)


def test_a_full_disk_leaves_the_old_archive(tiny, tmp_path, monkeypatch):
    path = tmp_path / "m.npz"
    hubkeras.convert(tiny, path)
    before = path.read_bytes()
    write, calls = np.lib.format.write_array, []

    def fails_later(*arguments, **options):
        calls.append(write(*arguments, **options))
        if len(calls) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", fails_later)
    with pytest.raises(hubkeras.Error, match=r"Cannot write .*m\.npz.*No space left"):
        hubkeras.convert(tiny, path, overwrite=True)
    assert (path.read_bytes(), [file.name for file in tmp_path.iterdir()]) == (before, ["m.npz"])


def test_archives_of_others_are_never_replaced(tiny, tmp_path):
    np.savez(tmp_path / "m.npz", np.zeros(3))
    with pytest.raises(hubkeras.Error, match="was not written by hubkeras"):
        hubkeras.convert(tiny, tmp_path / "m.npz", overwrite=True)


def test_settings_that_arrays_do_not_tell_are_in_the_comment(tmp_path):
    network = hubkeras.MobileNetV2(0.35, 3, batch_norm_epsilon=0.01, output_stride=16, initialize=False)
    hubkeras.convert(network, tmp_path / "m.npz")
    again, *_ = read_network(tmp_path / "m.npz")
    assert again.settings() == network.settings()
    assert inspect(tmp_path / "m.npz").image_size == 224
    with np.load(tmp_path / "m.npz") as file:
        assert file.files == sorted(network.slim_variables())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"settings": 3}',
        '{"image_size": true}',
        '{"image_size": 1000000}',
        '{"settings": {"num_classes": 1e99}}',
        '{"a": 1}',
    ],
)
def test_a_made_up_comment(tensors, path, text):
    np.savez(path, **tensors)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = f"hubkeras 9\n{text}".encode()
    if text:
        fails(path)
    else:
        assert_reads(path, tensors)
