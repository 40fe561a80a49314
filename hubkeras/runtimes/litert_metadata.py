"""LiteRT's metadata: what a file's input and output mean, for Android's tools and MediaPipe.

The schema is `metadata_schema.fbs` of https://github.com/tensorflow/tflite-support. A table is written here as a dict
from the number of a field in it, from 0, to the value; a union takes two fields, the kind and the value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hubkeras.common.version import __version__
from hubkeras.runtimes.inference import INPUT, LARGEST_PIXEL, Interface

if TYPE_CHECKING:
    from hubkeras.architectures.network import SlimNetwork

METADATA_BUFFER = "TFLITE_METADATA"
FILES = {"labels": "labels.txt", "metadata": "metadata.json"}  # in the archive at the end of the file
IDENTIFIER = b"M001"

# kinds of the schema's unions and enumerations
IMAGE_PROPERTIES = 2
RGB = 1
NORMALIZATION = 1
AXIS_LABELS = 2


class Byte(int):
    """A field of one byte."""


class Size(int):
    """A field of four bytes without a sign."""


def metadata_of(network: SlimNetwork, interface: Interface, outputs: list[str], labels: bool) -> bytes:
    """The metadata of a file, serialized.

    Args:
        network: that the file is of.
        interface: its inputs and outputs.
        outputs: names of its outputs, in their order.
        labels: whether a file with class names travels along.
    """
    size = Size(interface.image_size or network.default_image_size)
    scale = 1 if interface.uint8 else LARGEST_PIXEL  # from pixels in [0, 255]
    content = {0: Byte(IMAGE_PROPERTIES), 1: {0: Byte(RGB), 1: {0: size, 1: size}}}
    normalization = {0: Byte(NORMALIZATION), 1: {0: [0.0], 1: [float(scale)]}}
    images = {0: INPUT, 1: "RGB images", 3: content, 4: [normalization], 5: {0: [LARGEST_PIXEL / scale], 1: [0.0]}}
    label_file = {0: FILES["labels"], 1: "Names of the classes", 2: Byte(AXIS_LABELS)}
    results = [{0: name, **({6: [label_file]} if labels and name == interface.output else {})} for name in outputs]
    graph = {2: [images], 3: results}
    facts = {0: FILES["metadata"], 1: "What hubkeras knows of the model"}
    model = {0: network.architecture, 2: f"hubkeras {__version__}", 3: [graph], 6: [facts], 7: "1.0.0"}
    return serialized(model)


def serialized(root: dict[int, Any]) -> bytes:
    """A table and what it holds as a flatbuffer."""
    import flatbuffers  # TensorFlow needs it too

    builder = flatbuffers.Builder()
    builder.Finish(add(builder, root), IDENTIFIER)
    return bytes(builder.Output())


def add(builder: Any, value: Any) -> int:
    """Adds a text, a list or a table to a flatbuffer; returns its offset."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, list):
        floats = isinstance(value[0], float)
        items = value if floats else [add(builder, item) for item in value]
        builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            (builder.PrependFloat32 if floats else builder.PrependUOffsetTRelative)(item)
        return builder.EndVector()
    inside = {field: x if isinstance(x, int) else add(builder, x) for field, x in value.items()}
    builder.StartObject(max(value) + 1)
    for field, x in inside.items():
        if isinstance(x, Byte):
            builder.PrependInt8Slot(field, x, 0)
        elif isinstance(x, Size):
            builder.PrependUint32Slot(field, x, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(field, x, 0)
    return builder.EndObject()
