"""The catalogue of Google's modules, and what publishing takes: pages, cards, installing, folders for servers."""

__all__ = ["catalog", "documentation", "hugging_face", "installing", "packing", "repositories"]
