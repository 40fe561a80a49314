"""The whole way: a network, or any source of weights, becomes a SavedModel or a file of another format."""

from hubkeras.exporting.writing import Export, convert, export, write_unchecked

__all__ = ["Export", "calibration", "convert", "export", "write_unchecked"]
