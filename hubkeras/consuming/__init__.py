"""The users' side of a SavedModel: a layer, handles and the cache behind them, images in, named classes out."""

__all__ = [
    "cache",
    "decoding",
    "downloads",
    "handles",
    "hub_lock",
    "images",
    "keras_layer",
    "light",
    "listing",
    "loading",
    "predictions",
    "signing",
]
