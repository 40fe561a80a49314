"""Many images through one model: features and classes as Parquet, accuracy, Apache Beam."""

__all__ = [
    "beam",
    "choosing",
    "classifying",
    "embedding",
    "evaluating",
    "journal",
    "label_sets",
    "labelled",
    "pipeline",
    "ranking",
    "reports",
    "rows",
    "running",
    "sources",
    "stored",
]
