"""What users of a SavedModel need: a layer, handles and the cache behind them, images in, named classes out."""

__all__ = ["cache", "downloads", "handles", "images", "keras_layer", "loading", "predictions", "safety", "signing"]
