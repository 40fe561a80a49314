"""A network becomes a SavedModel: its functions and signatures, the frozen form, the same bytes in every process."""

__all__ = ["frozen", "modules", "reproducible", "reusable", "saving"]
