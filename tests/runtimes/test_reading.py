"""Files for runtimes that hubkeras reads itself, as data: damaged ones, made-up sizes, operations that are code."""

import zipfile

import flatbuffers
import pytest

from hubkeras.common.errors import Error
from hubkeras.runtimes import reading
from hubkeras.runtimes.litert_metadata import Byte, Size, add

GRAPH = {0: [{0: [0.0], 3: "images"}]}  # a tensor of one axis


@pytest.fixture
def litert(tmp_path):
    """Function of names of operations, and more fields of the model, that writes a LiteRT file."""

    def write(*operations, graphs=(GRAPH,), **fields):
        builder = flatbuffers.Builder()
        codes = [{0: Byte(32), 1: name, 3: Size(32)} for name in operations]
        model = {0: Size(3), 1: codes, 2: [*graphs], 7: fields.get("signatures", [])}
        builder.Finish(add(builder, {key: value for key, value in model.items() if value}), b"TFL3")
        (tmp_path / "model.tflite").write_bytes(builder.Output())
        return tmp_path / "model.tflite"

    return write


def test_operations_of_tensorflow_in_a_litert_file_are_as_safe_as_there(litert):
    names = ["FlexWriteFile", "FlexRelu", "TFLite_Detection_PostProcess", "Mine"]
    assert reading.read(litert(*names)).custom == ("FlexWriteFile", "Mine")


def signature(arrays):
    return {0: [{0: "images"}] * arrays, 1: [{0: "logits"}]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"graphs": ()}, "it has no graph"),
        ({"graphs": [{0: [{0: [0.0] * 65, 3: "images"}]}], "signatures": [signature(1)]}, "more axes"),
        ({"signatures": [signature(1)] * 101}, "more signatures"),
        ({"signatures": [signature(100)] * 100}, "more inputs or outputs"),
    ],
)
def test_a_litert_file_with_made_up_lists_is_refused(fields, words, litert):
    with pytest.raises(Error, match=words):
        reading.read(litert(**fields))


def test_the_metadata_of_a_litert_file_may_not_be_damaged(litert):
    path = litert()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("metadata.json", "{}")
    assert reading.read(path).description.metadata is None
    path.write_bytes(path.read_bytes().replace(b"{}", b"{)"))
    with pytest.raises(Error, match="damaged"):
        reading.read(path)


@pytest.mark.parametrize("value", ["5", "[&quot;cat&quot;]", "[" * 10_000])
def test_class_names_in_an_openvino_file_are_a_text(value, tmp_path):
    path = tmp_path / "model.xml"
    path.write_text(
        f'<?xml version="1.0"?><net><rt_info><hubkeras><labels value="{value}"/></hubkeras></rt_info></net>'
    )
    with pytest.raises(Error, match="damaged"):
        reading.read(path)


def test_custom_operators_in_the_defaults_of_a_function_are_found(tmp_path):
    onnx = pytest.importorskip("onnx")
    from hubkeras.runtimes import onnx_safety

    made, value = onnx.helper, onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    hidden = made.make_graph([made.make_node("Mine", [], ["y"], domain="lib")], "body", [], [value])
    branch = onnx.AttributeProto(name="then_branch", ref_attr_name="body", type=onnx.AttributeProto.GRAPH)
    choice = onnx.NodeProto(op_type="If", input=["c"], output=["y"], attribute=[branch])
    default = [made.make_attribute("body", hidden)]
    function = made.make_function("own", "F", ["c"], ["y"], [choice], [], attribute_protos=default)
    graph = made.make_graph([made.make_node("F", ["c"], ["y"], domain="own")], "graph", [], [value])
    onnx.save(model := made.make_model(graph, functions=[function]), tmp_path / "model.onnx")
    assert reading.read(tmp_path / "model.onnx").custom == ("lib.Mine",)
    with pytest.raises(Error, match=r"custom operators \(lib\.Mine\)"):
        onnx_safety.check(model, "model.onnx")
