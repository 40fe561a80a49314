"""Random heads on a base, saved by Keras 3 and tf_keras: each comes whole, or is refused by the layer's name."""

import functools

import keras
import numpy as np
import pytest
import tf_keras

import hubkeras
from hubkeras.converters import read_network
from tests.support.generated_heads import SIZE, generated
from tests.support.users_models import PROBABILITY_BOUND, activate, random_images, randomize, two_columns

LIBRARIES = {"keras": keras, "tf_keras": tf_keras}
HEADS = 50
BY_DEFAULT = (7, 23)  # one that is refused and one that comes whole


@functools.cache
def base(library):
    options = {"include_top": False, "weights": None, "input_shape": (SIZE, SIZE, 3)}
    return randomize(LIBRARIES[library].applications.MobileNetV2(alpha=0.35, **options))


def cases():
    for seed in range(HEADS):
        library = "keras" if seed in BY_DEFAULT or seed % 2 else "tf_keras"
        yield pytest.param(library, seed, marks=[] if seed in BY_DEFAULT else pytest.mark.slow, id=f"{library}-{seed}")


@pytest.mark.parametrize(("library", "seed"), [*cases()])
def test_whole_or_refused(library, seed, tmp_path):
    model, bad, probabilities, sigmoid = generated(LIBRARIES[library], base(library), seed)
    path = tmp_path / ("model.h5" if seed % 3 == 0 else "model.keras")
    model.save(path)
    if bad:
        with pytest.raises(hubkeras.Error, match=bad) as caught:
            read_network(path)
        assert "--task feature_vector" in str(caught.value)
        assert read_network(path, num_classes=None)[2].used == 260
        return
    network, match, report = read_network(path)
    assert set(report.ignored) <= {"layers that prepare images"}
    images = random_images(SIZE)
    expected = two_columns(probabilities(images))
    found = activate(network(images), "sigmoid" if sigmoid else "softmax")
    assert match.settings.get("classifier_activation", "softmax") == ("sigmoid" if sigmoid else "softmax")
    assert np.abs(found - expected).max() <= PROBABILITY_BOUND
