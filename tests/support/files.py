"""Where files of the repository lie, and which golden files stand for the networks."""

import pathlib

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "data" / "mobilenet_v2_0.35_96_digits.tgz"
# a small golden file of each network, for exports
SMALL = {
    "mobilenet_v2": "mobilenet_v2_0.35_96_ema",
    "inception_v2": "inception_v2_171_5classes",
    "inception_resnet_v2": "inception_resnet_v2_160_7classes_noaux",
}
TASKS = ("classification", "feature_vector")
