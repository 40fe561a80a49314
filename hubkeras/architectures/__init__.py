"""The three networks of TF-Slim, natively in Keras 3."""

from hubkeras.architectures import backend, computing, convolutions, folding, layers, mobilenet_v2, network, options
from hubkeras.architectures.inception_resnet_v2 import InceptionResNetV2
from hubkeras.architectures.inception_v2 import InceptionV2
from hubkeras.architectures.mobilenet_v2 import MobileNetV2

NETWORKS = (InceptionV2, InceptionResNetV2, MobileNetV2)

__all__ = [
    "NETWORKS",
    "InceptionResNetV2",
    "InceptionV2",
    "MobileNetV2",
    "backend",
    "classifier_layers",
    "computing",
    "convolutions",
    "folding",
    "layers",
    "mobilenet_v2",
    "network",
    "operations",
    "options",
]
