"""The version of hubkeras; `pyproject.toml` reads it from here."""

__version__ = "0.1.0"
