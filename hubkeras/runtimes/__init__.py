"""Models of any format, opened to run (`opening.open_model`); networks written for ONNX, LiteRT and OpenVINO."""

__all__ = [
    "activations",
    "files",
    "image_scale",
    "inference",
    "measuring",
    "opening",
    "reading",
    "saved_model",
    "scores",
    "sessions",
]
