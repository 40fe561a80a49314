"""Checkpoints that training with PyTorch left: averages are what was meant, and the report says which were taken."""

import numpy as np
import pytest

import hubkeras
from hubkeras.converters import read_network
from hubkeras.converters.naming import pytorch_training
from tests.support import foreign
from tests.support.foreign import Global
from tests.support.reading import assert_reads

RAW, AVERAGED = 0.0, 1.0


@pytest.fixture(scope="module")
def state(tensors):
    """Function from a number that is added to each weight to a state dict of Hugging Face's MobileNet V2."""

    def of(added=0.0, head=True):
        return foreign.hugging_face({name: value + np.float32(added) for name, value in tensors.items()}, head)

    return of


def below(prefix, names):
    return {f"{prefix}{name}": value for name, value in names.items()}


OPTIMIZER = {"state": {"0": {"exp_avg": np.zeros(3, np.float32), "step": 7}}, "param_groups": 0.1}
SCRIPT = {
    "epoch": 12,
    "arch": "mobilenet_v2",
    "args": Global("argparse", "Namespace", state={"lr": 0.1}),
    "best": Global("numpy.core.multiarray", "scalar", Global("numpy", "dtype", "f8"), "bytes"),
    "optimizer": OPTIMIZER,
}
LAYOUTS = {
    "timm": lambda raw, ema: {**SCRIPT, "state_dict": raw, "state_dict_ema": ema},
    "torchvision": lambda raw, ema: {
        **SCRIPT,
        "model": below("module.", raw),
        "model_ema": {"n_averaged": np.array(9, np.int64), **below("module.module.", ema)},
    },
    "ema first": lambda raw, ema: {"ema": ema, "model": below("_orig_mod.", raw), **SCRIPT},
    "ema_state_dict": lambda raw, ema: {
        "net": below("module._orig_mod.", raw),
        "ema_state_dict": below("module.", ema),
    },
    "lightning": lambda raw, ema: {
        "state_dict": below("model.", ema),
        "current_model_state": below("model.", raw),
        "averaging_state": {"n_averaged": np.array(9, np.int64)},
        "optimizer_states": {"0": OPTIMIZER},
        "hyper_parameters": Global("lightning.fabric.utilities.data", "AttributeDict", state={"lr": 0.1}),
    },
    "lightning callback": lambda raw, ema: {
        "state_dict": below("model.", raw),
        "callbacks": {"EMACallback": {"ema_state_dict": below("model.", ema)}},
    },
    "ema_pytorch": lambda raw, ema: {**below("online_model.", raw), **below("ema_model.", ema), "initted": raw_flag()},
    "one state dict": lambda raw, ema: {"state_dict": {**below("model.", raw), **below("model_ema.module.", ema)}},
}

COMMON = ("timm", "torchvision", "one state dict")


def raw_flag():
    return np.array(1, np.int64)


def assert_has(path, tensors, added, weights, asked="ema"):
    network, _, report = read_network(path, weights=asked)
    for name, variable in network.slim_variables().items():
        np.testing.assert_array_equal(variable.numpy(), tensors[name] + np.float32(added), err_msg=name)
    assert report.weights == weights
    return report


@pytest.mark.parametrize(
    "layout", [pytest.param(layout, marks=[pytest.mark.slow] * (layout not in COMMON)) for layout in LAYOUTS]
)
def test_averages_are_taken_unless_asked_otherwise(layout, state, tensors, tmp_path):
    path = foreign.save_torch(LAYOUTS[layout](state(RAW), state(AVERAGED)), tmp_path / "checkpoint.pth")
    report = assert_has(path, tensors, AVERAGED, "ema")
    assert report.shadows == report.used == len(tensors)
    assert any("moving averages of the weights in" in note for note in report.notes)
    if "optimizer" in LAYOUTS[layout]({}, {}):
        assert report.ignored["optimizer"] == 1
    if layout == "timm":
        assert assert_has(path, tensors, RAW, "raw", asked="raw").shadows == 0


def test_averages_alone(state, tensors, tmp_path):
    averages = {"n_averaged": np.array(9, np.int64), **below("module.", state(AVERAGED))}
    path = foreign.save_torch(averages, tmp_path / "averaged.pt")
    report = assert_has(path, tensors, AVERAGED, "ema")
    assert any("moving averages of the weights only" in note for note in report.notes)
    with pytest.raises(hubkeras.Error, match="holds moving averages of the weights only"):
        read_network(path, weights="raw")


@pytest.mark.parametrize(
    "prefix",
    [
        "net.encoder.",
        *(pytest.param(p, marks=pytest.mark.slow) for p in ("module.", "_orig_mod.", "model.", "module._orig_mod.")),
    ],
)
def test_prefixes(prefix, state, tensors, tmp_path):
    assert_has(foreign.save_torch(below(prefix, state()), tmp_path / "model.bin"), tensors, RAW, "raw")


def test_what_lies_beside_the_network_is_named(state, tmp_path):
    names = {**below("backbone.", state(head=False)), "head.weight": np.zeros((5, 3), np.float32)}
    report = read_network(foreign.save_torch({"state_dict": names}, tmp_path / "m.ckpt"))[2]
    assert any("1 other tensors, which are left out: head.weight" in note for note in report.notes)
    assert report.ignored["beside the network: state_dict"] == 1


def test_several_networks_are_named(state, tmp_path):
    path = foreign.save_torch({**below("student.", state()), **below("teacher.", state())}, tmp_path / "m.pth")
    with pytest.raises(hubkeras.Error, match=r"holds 2 networks \('student', 'teacher'\)"):
        read_network(path)


def test_what_lies_beside_is_never_run(state, tmp_path):
    for module, name in (
        ("os", "system"),
        ("builtins", "eval"),
        ("torch.nn.modules.conv", "Conv2d"),
        ("numpy", "load"),
    ):
        path = foreign.save_torch({"state_dict": state(), "x": Global(module, name, "1")}, tmp_path / "m.pth")
        with pytest.raises(hubkeras.Error, match=rf"asks for {module}.{name}, which hubkeras does not run"):
            read_network(path)


def test_names_of_averages():
    names = ("model_ema", "EMA", "ModelEma", "ema_state_dict", "swa_model", "schema", "semantic", "model", "Emanuel")
    assert [name for name in names if pytorch_training._AVERAGED.search(name)] == list(names[:5])


@pytest.mark.parametrize("name", ["last.pth.tar", "model_best.pth.tar"])
def test_checkpoints_that_timm_calls_archives(name, tmp_path, tensors):
    """`CheckpointSaver` calls its files so, which are no archives of tar."""
    path = foreign.save_torch({"state_dict": foreign.hugging_face(tensors)}, tmp_path / name)
    assert_reads(path, tensors)
    assert_reads(tmp_path, tensors)
