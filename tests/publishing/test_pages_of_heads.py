"""Pages, model cards and `inspect` of users' own classifiers: head, meaning of the logits, input range, labels."""

import json

import keras
import pytest

import hubkeras
from hubkeras.commands import main
from hubkeras.common.metadata import read_metadata
from hubkeras.publishing import documentation

LABELS = ["daisy", "red rose", "`odd` $name"]


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    """A SavedModel with hidden layers, whose classes are each for itself, and whose base sees [0, 255]."""
    layers = keras.layers
    head = [
        layers.Dense(8, activation="relu"),
        layers.Dropout(0.3),
        layers.BatchNormalization(),
        layers.Dense(3, activation="sigmoid"),
    ]
    network = hubkeras.MobileNetV2(0.35, head=head, pooling="max", input_range=(0, 255))
    folder = tmp_path_factory.mktemp("models") / "flowers"
    hubkeras.export(network, folder, labels=LABELS, image_size=64, verify=False, frozen=True)
    return folder


@pytest.mark.parametrize("file", [documentation.PAGE_FILE, documentation.CARD_FILE])
def test_pages_tell_what_a_classifier_is(file, flowers):
    text = (flowers / file).read_text("utf-8")
    for words in (
        "* head: pooling max, dense 8, relu, dropout 0.3, batch norm, dense 3\n",
        "* classes: 3, as logits; they mean each class for itself: a sigmoid makes probabilities of them\n",
        "* labels: in `assets/labels.txt`: `daisy`, `red rose`, `'odd' $name`\n",
        "* input range: the base was trained on images in [0, 255]; this is made of [0, 1] inside\n",
        'labels=labels, activation="sigmoid")',
    ):
        assert words in text
    assert "{%" not in text


def test_pages_of_others_have_no_words_on_it(digits_model):
    text = documentation.page(read_metadata(digits_model), labels=[str(number) for number in range(11)])
    assert "one class of all: softmax makes probabilities of them" in text
    assert "`0`, `1`, `2`, `3`, `4`, `5`, ..., `10`\n" in text
    assert not {"* head:", "* input range:", "activation="} & set(text.split("\n"))
    assert "activation=" not in text


def test_inspect_tells_it_too(flowers, capsys):
    assert main(["inspect", str(flowers)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "classification, 3 classes: pooling max, dense 8, relu, dropout 0.3, batch norm, dense 3",
        "daisy, red rose, `odd` $name",
        "the base sees them in [0, 255]",
        "which mean each class for itself (sigmoid)",
        "the whole image, resized",
    ):
        assert words in shown
    assert main(["inspect", str(flowers), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["activation"], facts["input_range"], facts["labels"]) == ("sigmoid", [0, 255], LABELS)
    assert [layer["kind"] for layer in facts["settings"]["head"]] == [
        "dense",
        "activation",
        "noise",
        "batch_norm",
        "dense",
    ]
