"""Many images through one model on Apache Beam; `pip install 'hubkeras[beam]'`."""

from hubkeras.bulk.beam import EmbedImages, ModelHandler

__all__ = ["EmbedImages", "ModelHandler"]
