"""Images become a classifier: a plan of the data, a head on features, fine-tuning, and what was written measured."""

__all__ = ["training", "wording", "working_folder"]
