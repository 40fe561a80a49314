"""What files say of themselves to other people's libraries; `.ci/consumers` opens files in these libraries."""

import dataclasses

import numpy as np
import pytest

import hubkeras
from hubkeras.common import marks
from hubkeras.common.interface import Interface
from hubkeras.common.preprocessing import Preprocessing
from hubkeras.exporting.planning import Source, describe
from hubkeras.runtimes import files, openvino_metadata
from hubkeras.runtimes.sessions import Description

LABELS = ["tench", "gold  fish, 2", "K\u00f6nig"]


@pytest.fixture(scope="module")
def metadata():
    network = hubkeras.MobileNetV2(0.35, num_classes=3)
    return network, describe(Source(network, "the network"), "classification")


def info(metadata, labels=LABELS, **changes):
    interface = Interface("classification", **changes.pop("interface", {"image_size": 96}))
    return openvino_metadata.model_info(
        Description(dataclasses.replace(metadata[1], interface=interface, **changes), labels)
    )


def test_model_info(metadata):
    assert info(metadata) == {
        "model_type": "Classification",
        "resize_type": "standard",
        "reverse_input_channels": "YES",
        "output_raw_scores": "YES",
        "multilabel": "NO",
        "scale_values": "255 255 255",
        "labels": "tench gold_fish,_2 K\u00f6nig",
    }


@pytest.mark.parametrize(
    ("changes", "entries"),
    [
        ({"interface": {"image_size": 96, "uint8": True}}, {"scale_values": None}),
        ({"preprocessing": Preprocessing("crop")}, {"resize_type": "crop"}),
        ({"activation": "sigmoid"}, {"multilabel": "YES", "model_type": "Classification"}),
        ({"labels": None}, {"labels": None}),
    ],
)
def test_model_info_follows_the_model(metadata, changes, entries):
    found = info(metadata, **changes)
    assert {name: found.get(name) for name in entries} == entries


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"interface": {}}, "--fixed-size"),
        ({"interface": {"image_size": 96, "probabilities": True}, "activation": "sigmoid"}, "without --probabilities"),
    ],
)
def test_model_info_names_no_model_where_numbers_would_be_others(metadata, changes, words):
    kind = info(metadata, **changes)["model_type"]
    assert kind != "Classification"
    assert words in kind


def test_features_have_no_model_info(tiny):
    description = describe(Source(tiny, "the network"), "feature_vector")
    interface = Interface("feature_vector", 96)
    assert not openvino_metadata.model_info(Description(dataclasses.replace(description, interface=interface)))


@pytest.mark.slow
def test_an_openvino_model_has_its_info_and_is_ours(metadata, tmp_path):
    openvino = pytest.importorskip("openvino", reason="needs hubkeras[openvino]")
    network, description = metadata
    path = tmp_path / "model.xml"
    labels = [f"{number} {'long ' * 99}" for number in range(3)]  # longer than names of files
    for overwrite in (False, True):
        hubkeras.convert(
            network, path, labels=labels, fixed_size=True, image_size=96, overwrite=overwrite, verify=False
        )
    model = openvino.Core().read_model(path)
    assert model.get_rt_info(["model_info", "model_type"]).value == "Classification"
    assert model.get_rt_info(["model_info", "labels"]).value.split() == ["_".join(each.split()) for each in labels]
    assert files.load(path).description.labels == labels
    assert description.activation == "softmax"


def test_an_openvino_model_of_many_classes_is_ours(tmp_path):
    path = tmp_path / "model.xml"
    names = "".join(f"class_{number} " for number in range(200_000))
    info = f'<hubkeras>\n<metadata value="{{}}" />\n</hubkeras>\n<model_info><labels value="{names}" /></model_info>'
    path.write_text(f'<?xml version="1.0"?><net><rt_info>{info}</rt_info>\n</net>')
    assert marks.foreign(path) is None
    path.write_text(path.read_text().replace("<hubkeras>", "<others>"))
    assert marks.foreign(path) == marks.NOT_OURS


@pytest.mark.parametrize("size", [None, 65])
def test_a_litert_file_has_the_size_of_its_images_before_it_is_told_one(metadata, size, tmp_path):
    interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="needs hubkeras[litert]")
    network, description = metadata
    interface = Interface("classification", size, ("MobilenetV2/layer_2",))
    path = tmp_path / "model.tflite"
    files.write(network, path, dataclasses.replace(description, interface=interface, default_image_size=96), LABELS)
    interpreter = interpreters.Interpreter(str(path))
    (images,) = interpreter.get_input_details()
    side = size or 96
    assert images["shape"].tolist() == [1, side, side, 3]
    assert images["shape_signature"].tolist() == [-1, size or -1, size or -1, 3]
    shapes = {each["name"]: each["shape"].tolist() for each in interpreter.get_output_details()}
    assert shapes == {"logits": [1, 3], "MobilenetV2/layer_2": [1, -(-side // 2), -(-side // 2), 8]}
    interpreter.allocate_tensors()
    values = np.random.RandomState(0).uniform(0, 1, (1, side, side, 3)).astype(np.float32)
    interpreter.set_tensor(images["index"], values)
    interpreter.invoke()
    (logits,) = (each["index"] for each in interpreter.get_output_details() if each["name"] == "logits")
    assert np.abs(interpreter.get_tensor(logits) - np.asarray(network(values))).max() < 1e-4
