"""LiteRT's metadata: what a file's input and output mean, for Android's tools and MediaPipe.

The schema is `metadata_schema.fbs` of https://github.com/tensorflow/tflite-support.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hubkeras.common.guards.model_files import Table
from hubkeras.common.head_layers import SIGMOID, SOFTMAX
from hubkeras.common.input_range import InputRange
from hubkeras.common.interface import LARGEST_PIXEL
from hubkeras.common.steps import INPUT
from hubkeras.common.version import __version__
from hubkeras.runtimes.sessions import Description

if TYPE_CHECKING:
    from hubkeras.architectures.network import SlimNetwork

METADATA_BUFFER = "TFLITE_METADATA"
FILES = {"labels": "labels.txt", "metadata": "metadata.json"}  # in the archive at the end of the file
IDENTIFIER = b"M001"

# fields of the schema's tables, in its order, up to the last that is written; a union has two: its kind and its value
_FIELDS = {
    "ModelMetadata": "name description version subgraph_metadata author license associated_files min_parser_version",
    "SubGraphMetadata": "name description input_tensor_metadata output_tensor_metadata",
    "TensorMetadata": "name description dimension_names content process_units stats associated_files",
    "Content": "content_properties_type content_properties",
    "ImageProperties": "color_space default_size",
    "ImageSize": "width height",
    "ProcessUnit": "options_type options",
    "NormalizationOptions": "mean std",
    "Stats": "max min",
    "AssociatedFile": "name description type",
}


class Byte(int):
    """A field of one byte."""


class Size(int):
    """A field of four bytes without a sign."""


_CLASSES = {SOFTMAX: "one of which an image has", SIGMOID: "each for itself"}

# fields of a model, the file's own table
_MODEL_BUFFERS, _MODEL_METADATA = 4, 6
# of the schema's unions and enumerations
_IMAGE_PROPERTIES, _RGB, _NORMALIZATION, _AXIS_LABELS = Byte(2), Byte(1), Byte(1), Byte(2)


def table(kind: str, **values: Any) -> dict[int, Any]:
    """A table of the schema: `{number of a field: value}`."""
    return {_number(kind, name): value for name, value in values.items()}


def _number(kind: str, field: str) -> int:
    return _FIELDS[kind].split().index(field)


def metadata_of(network: SlimNetwork, description: Description, outputs: list[str]) -> bytes:
    """The metadata of a file, serialized.

    Args:
        network: that the file is of.
        description: what the file says of itself.
        outputs: names of its outputs, in their order.
    """
    interface = description.interface
    side = Size(description.image_size)
    scale = 1 if interface.uint8 else LARGEST_PIXEL  # from pixels in [0, 255]
    size = table("ImageSize", width=side, height=side)
    pixels = table("ImageProperties", color_space=_RGB, default_size=size)
    normalization = table("NormalizationOptions", mean=[0.0], std=[float(scale)])
    images = table(
        "TensorMetadata",
        name=INPUT,
        description="RGB images",
        content=table("Content", content_properties_type=_IMAGE_PROPERTIES, content_properties=pixels),
        process_units=[table("ProcessUnit", options_type=_NORMALIZATION, options=normalization)],
        stats=table("Stats", max=[LARGEST_PIXEL / scale], min=[0.0]),
    )
    results = {name: table("TensorMetadata", name=name) for name in outputs}
    results[interface.output] |= _meaning(description)
    if description.labels is not None:
        labels = table("AssociatedFile", name=FILES["labels"], description="Names of the classes", type=_AXIS_LABELS)
        results[interface.output] |= table("TensorMetadata", associated_files=[labels])
    graph = table("SubGraphMetadata", input_tensor_metadata=[images], output_tensor_metadata=[*results.values()])
    facts = table("AssociatedFile", name=FILES["metadata"], description="What hubkeras knows of the model")
    model = table(
        "ModelMetadata",
        name=network.architecture,
        version=f"hubkeras {__version__}",
        subgraph_metadata=[graph],
        associated_files=[facts],
        min_parser_version="1.0.0",
    )
    return serialized(model)


def _meaning(description: Description) -> dict[int, Any]:
    """What the main output is, in words, and the range of probabilities."""
    interface, metadata = description.interface, description.metadata
    assert metadata is not None
    if metadata.activation is None:
        return table("TensorMetadata", description="Features of the images")
    classes = _CLASSES[metadata.activation]
    if not interface.probabilities:
        words = f"Logits of the classes; their {metadata.activation} is the probabilities, {classes}"
        return table("TensorMetadata", description=words)
    stats = table("Stats", max=[1.0], min=[0.0])
    return table("TensorMetadata", description=f"Probabilities of the classes, {classes}", stats=stats)


def input_range_in(model: Table) -> InputRange | None:
    """What a file takes as images, as its metadata tell, whoever wrote them; None where they do not.

    Args:
        model: the file's own table.

    Raises:
        ValueError, struct.error: the metadata are malformed.
    """
    for images in _tensors(model, "input_tensor_metadata"):
        for unit in images.tables(_number("TensorMetadata", "process_units")):
            options = unit.table(_number("ProcessUnit", "options"))
            if options and unit.whole(_number("ProcessUnit", "options_type"), "<b") == _NORMALIZATION:
                mean, std = (
                    [options.number("<f", place) / LARGEST_PIXEL for place in options.vector(field)]
                    for field in (_number("NormalizationOptions", "mean"), _number("NormalizationOptions", "std"))
                )
                one_for_all = len(mean) == len(std) == 1
                return InputRange.of(mean=mean[0], std=std[0]) if one_for_all else InputRange.of(mean=mean, std=std)
    return None


def labels_file_in(model: Table) -> str | None:
    """The file of class names in the archive at the end, as the metadata call it; arguments and errors as above."""
    for output in _tensors(model, "output_tensor_metadata"):
        for file in output.tables(_number("TensorMetadata", "associated_files")):
            if file.whole(_number("AssociatedFile", "type"), "<b") == _AXIS_LABELS:
                return file.text(_number("AssociatedFile", "name"))
    return None


def _tensors(model: Table, side: str) -> Iterator[Table]:
    """What the metadata say of each input or output."""
    buffers = list(model.tables(_MODEL_BUFFERS))
    for entry in model.tables(_MODEL_METADATA):
        content = buffers[entry.whole(1)].vector(0, 1)
        if content and entry.text(0) == METADATA_BUFFER:
            metadata = Table(model.data, content.start + model.number("<I", content.start))
            for graph in metadata.tables(_number("ModelMetadata", "subgraph_metadata")):
                yield from graph.tables(_number("SubGraphMetadata", side))


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
