"""A network becomes a file for the runtimes that people serve with: ONNX, LiteRT, OpenVINO."""

__all__ = ["activations", "files", "inference", "measuring", "saved_model"]
