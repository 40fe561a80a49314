"""Model repositories of servers: `NAME/1/...`, with what each server wants beside it.

The text of Triton's `config.pbtxt` is that of its `model_config.proto`, the warm-up requests are TensorFlow Serving's
`prediction_log.proto`; both are written here, without their packages, which tests parse them with.
"""

import json
import struct
from collections.abc import Callable

from hubkeras.common.choices import Format, Layout, Task
from hubkeras.common.crc32c import masked_crc32c
from hubkeras.common.errors import Error
from hubkeras.common.guards.messages import head, varint_bytes
from hubkeras.publishing.packing import Contents, Model

LABELS = "labels.txt"
WARMUP = "assets.extra/tf_serving_warmup_requests"  # where TensorFlow Serving looks for them
_VERSION = "1"
_BACKENDS = {Format.ONNX: "onnxruntime", Format.OPENVINO: "openvino"}  # of Triton
_MOST_IN_BATCH = 32  # images of single requests that Triton joins
_FLOAT, _FLOAT_VALUES = 1, 5  # DT_FLOAT, and the field of a TensorProto


def tensorflow_serving(model: Model, name: str) -> Contents:
    """The folder of a model for TensorFlow Serving: one version of it, with requests that warm it up."""
    _require(model, "TensorFlow Serving", Format.SAVED_MODEL)
    return {**_versioned(model), f"{_VERSION}/{WARMUP}": warmup_requests(name, model.metadata.default_image_size)}


def triton(model: Model, name: str) -> Contents:
    """The folder of a model for NVIDIA Triton: one version of it, its configuration and its class names."""
    _require(model, "Triton", *_BACKENDS)
    return {"config.pbtxt": _config(model, name).encode(), **_labels(model), **_versioned(model)}


def openvino_model_server(model: Model, name: str) -> Contents:
    """The folder of a model for OpenVINO Model Server, one version of it, and its class names for clients."""
    _require(model, "OpenVINO Model Server", Format.OPENVINO, Format.ONNX, Format.LITERT)
    return {**_labels(model), **_versioned(model)}


REPOSITORIES: dict[Layout, Callable[[Model, str], Contents]] = {
    Layout.TENSORFLOW_SERVING: tensorflow_serving,
    Layout.TRITON: triton,
    Layout.OPENVINO_MODEL_SERVER: openvino_model_server,
}
_MADE_BY = {
    Format.SAVED_MODEL: "hubkeras export {source} OUT_DIR --frozen",
    Format.ONNX: "hubkeras convert {source} model.onnx",
    Format.OPENVINO: "hubkeras convert {source} model.xml",
}


def _require(model: Model, server: str, *formats: Format) -> None:
    if model.format not in formats:
        source = model.path if model.format == Format.SAVED_MODEL else "SOURCE"
        repair = _MADE_BY[formats[0]].format(source=source)
        raise Error(f"{model.path} is {model.form}, which {server} does not take; make what it takes by `{repair}`.")


def _versioned(model: Model) -> Contents:
    return {f"{_VERSION}/{name}": path for name, path in model.files.items()}


def _labels(model: Model) -> dict[str, bytes]:
    return {LABELS: model.labels_text} if model.labels else {}


def _config(model: Model, name: str) -> str:
    """`config.pbtxt`: batches are free, so Triton may join requests; the first request shall find the model warm."""
    metadata, interface = model.metadata, model.metadata.interface
    assert interface is not None
    dtype, size = "TYPE_UINT8" if interface.uint8 else "TYPE_FP32", metadata.default_image_size
    dims = f"{interface.image_size or -1}, {interface.image_size or -1}, 3"
    width = metadata.num_features if interface.task == Task.FEATURE_VECTOR else metadata.num_classes
    labels = f'\n    label_filename: "{LABELS}"' if model.labels else ""
    device = "instance_group [ { kind: KIND_CPU } ]\n" if model.format is Format.OPENVINO else ""
    return f"""name: {json.dumps(name)}
backend: "{_BACKENDS[model.format]}"
max_batch_size: {_MOST_IN_BATCH}
input [
  {{
    name: "inputs"
    data_type: {dtype}
    format: FORMAT_NHWC
    dims: [ {dims} ]
  }}
]
output [
  {{
    name: "{interface.output}"
    data_type: TYPE_FP32
    dims: [ {width} ]{labels}
  }}
]
{device}dynamic_batching {{ }}
model_warmup [
  {{
    name: "an empty image"
    batch_size: 1
    inputs {{
      key: "inputs"
      value: {{ data_type: {dtype} dims: [ {size}, {size}, 3 ] zero_data: true }}
    }}
  }}
]
"""


def warmup_requests(name: str, size: int) -> bytes:
    """A TFRecord file of one `PredictionLog`: an empty image for the signature `serving_default`."""
    shape = b"".join(_message(2, _number(1, axis)) for axis in (1, size, size, 3))
    # one value stands for all of a tensor
    tensor = _number(1, _FLOAT) + _message(2, shape) + _message(_FLOAT_VALUES, struct.pack("<f", 0))
    specification = _message(1, name.encode()) + _message(3, b"serving_default")
    request = _message(1, specification) + _message(2, _message(1, b"inputs") + _message(2, tensor))
    record = _message(6, _message(1, request))
    length = struct.pack("<Q", len(record))
    return b"".join((length, _checksum(length), record, _checksum(record)))


def _checksum(data: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(data))


def _number(field: int, value: int) -> bytes:
    return varint_bytes(field << 3) + varint_bytes(value)


def _message(field: int, value: bytes) -> bytes:
    return head(field, len(value)) + value
