"""A fourth network, of facts and layers alone: small, so that it is written in no time."""

from functools import partial

import keras

from hubkeras.architectures.convolutions import Conv2D
from hubkeras.architectures.heads import Head
from hubkeras.architectures.layers import Dense
from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.networks import NetworkFacts, Paper


@keras.saving.register_keras_serializable("hubkeras")
class Toy(SlimNetwork):
    facts = NetworkFacts(
        "toy",
        "Toy",
        Paper("A. Author", "Toys", 2026, "https://example.org"),
        "Toy",
        ("Conv_1/weights", "Conv_2/weights"),
        32,
        8,
        5e-6,
    )

    @classmethod
    def create_layers(cls, settings):
        conv = partial(Conv2D, batch_norm={"epsilon": settings.batch_norm_epsilon}, activation="relu")
        stages = [conv("Conv_1", 8, 3, strides=2), conv("Conv_2", 16, 3, strides=2)]
        return stages, settings.num_classes and Head("Dropout", Dense("Logits", settings.num_classes))
