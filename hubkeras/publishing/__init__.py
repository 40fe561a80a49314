"""The catalogue of Google's modules, and what publishing in their place takes: pages, model cards, installing."""

__all__ = ["catalog", "documentation", "installing"]
