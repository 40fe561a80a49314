"""Metadata of a SavedModel, as they were written once."""

WRITTEN = """{
  "architecture": "mobilenet_v2",
  "task": "classification",
  "depth_multiplier": 0.35,
  "default_image_size": 96,
  "minimum_image_size": 32,
  "fixed_image_size": false,
  "num_features": 1280,
  "num_classes": 11,
  "activation": "softmax",
  "settings": {
    "depth_multiplier": 0.35,
    "num_classes": 11,
    "finegrain_classification_mode": true
  },
  "source": {
    "checkpoint": "digits.tgz",
    "sha256": {
      "digits.tgz": "00ff"
    }
  },
  "weights": "ema",
  "frozen": false,
  "handle": null,
  "versions": {
    "hubkeras": "0.1.0",
    "keras": "3.5.0",
    "tensorflow": "2.16.1"
  },
  "preprocessing": {
    "resize": "squash",
    "central_fraction": 1.0
  },
  "input_range": [
    -1.0,
    1.0
  ]
}"""
