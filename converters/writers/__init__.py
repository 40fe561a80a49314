"""Networks as files of weights, one module a format: each writes to a path that it is given, and does nothing else."""

__all__ = ["hubkeras_weights", "keras_applications", "numpy_archives", "pytorch", "slim"]
