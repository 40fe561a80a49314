"""What Google published, and what is needed to publish in its place: pages, and models in tensorflow_hub's cache."""

__all__ = ["catalog", "documentation", "installing"]
