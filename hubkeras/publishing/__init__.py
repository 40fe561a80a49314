"""The catalogue of Google's modules, and what it takes to publish in their place: pages, cards, handles in the cache."""

__all__ = ["catalog", "documentation", "installing"]
