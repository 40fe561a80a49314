"""What users of a SavedModel need: a layer, handles and the cache behind them, images in, named classes out."""

__all__ = [
    "cache",
    "decoding",
    "downloads",
    "handles",
    "images",
    "keras_layer",
    "listing",
    "loading",
    "predictions",
    "signing",
]
