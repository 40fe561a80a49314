"""A check that an ONNX file can do no more than compute, by its graph, before a runtime sees it.

The operators of ONNX itself compute from their inputs alone. Others are code of a library that the runtime has, or was
given: of Microsoft's own those pass that its optimizers and quantizers put in place of ONNX' operators.
"""

import os
from collections.abc import Iterator
from typing import Any

from hubkeras.common.errors import Error, first_line
from hubkeras.common.extras import extra
from hubkeras.runtimes import onnx_messages

_STANDARD = ("", "ai.onnx", "ai.onnx.ml")
_MICROSOFT = "com.microsoft"
_FUSED_OPERATORS = """
    BiasAdd BiasDropout BiasGelu BiasSoftmax BiasSplitGelu ConvTransposeWithDynamicPads DequantizeBFP DequantizeLinear
    DynamicQuantizeMatMul FastGelu FusedConv FusedGemm FusedMatMul FusedMatMulActivation Gelu GroupNorm
    MatMulBnb4 MatMulFpQ4 MatMulInteger16 MatMulIntegerToFloat MatMulNBits MulInteger NhwcConv NhwcFusedConv
    NhwcMaxPool Pad QAttention QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearConv
    QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere
    QuantizeBFP QuantizeLinear QuickGelu ReduceSumInteger SkipGroupNorm SkipLayerNormalization
    TransposeMatMul Trilu
"""
_FUSED = frozenset(_FUSED_OPERATORS.split())
_SHOWN = 5
_MOST_NODES, _MOST_DEPTH = 100_000, 64  # of operations with those of functions, and of functions within functions


def read(path: str | os.PathLike[str]) -> Any:
    """The `onnx.ModelProto` of a file, without its large tensors.

    Raises:
        hubkeras.Error: it is no such message, or cannot be read.
    """
    extra("onnx", "onnx")
    try:
        return onnx_messages.read(path)
    except OSError as error:
        raise Error(f"Cannot read {path}: {error.strerror or error}.") from error
    except Exception as error:  # protobuf has exceptions of its own
        raise Error(f"{path} is no ONNX file: it cannot be read ({first_line(error)}).") from error


def check(model: Any, path: str | os.PathLike[str]) -> None:
    """Raises hubkeras.Error where a model has operators that are neither ONNX' own, nor its functions, nor known."""
    _check_size(model, path)
    functions = {(function.domain, function.name) for function in model.functions}
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    bodies += [graph.node for function in model.functions for graph in _graphs(function.attribute_proto)]
    bodies += [graph.node for info in model.training_info for graph in (info.initialization, info.algorithm)]
    unsafe = sorted(
        {
            f"{node.domain or 'ai.onnx'}.{node.op_type}"
            for body in bodies
            for node in _nodes(body)
            if not ((node.domain, node.op_type) in functions or is_known(node.domain, node.op_type))
        }
    )
    if unsafe:
        names = ", ".join(unsafe[:_SHOWN]) + (f" and {len(unsafe) - _SHOWN} more" if unsafe[_SHOWN:] else "")
        raise Error(
            f"{path} is not loaded: it has custom operators ({names}), which are code that need not only compute; if "
            "you trust where it comes from, pass safe_mode=False (--unsafe)."
        )


def is_known(domain: str, operator: str) -> bool:
    """Whether an operator is ONNX' own, or one of Microsoft's that stand for such."""
    return domain in _STANDARD or (domain == _MICROSOFT and operator in _FUSED)


def _check_size(model: Any, path: str | os.PathLike[str]) -> None:
    """Functions are put in place of each call by the runtime: ten that call one another ten times each are 10^10."""
    bodies = {(function.domain, function.name): function.node for function in model.functions}
    sizes: dict[Any, float] = {}

    def size(body: Any, within: tuple[Any, ...]) -> float:
        total = 0.0
        for node in _nodes(body):
            name = (node.domain, node.op_type)
            if name in within or len(within) > _MOST_DEPTH:
                raise Error(
                    f"{path} has a function that calls itself, or others too deep; no ONNX file of a network has."
                )
            if name in bodies and name not in sizes:
                sizes[name] = size(bodies[name], (*within, name))
            total += sizes.get(name, 1)
        return total

    if size(model.graph.node, ()) > _MOST_NODES:
        raise Error(f"{path} has functions that grow to more than {_MOST_NODES:,} operations; no network has.")


def _nodes(nodes: Any) -> Iterator[Any]:
    """The nodes of a graph and of the graphs in their attributes, such as branches and loops."""
    for node in nodes:
        yield node
        for graph in _graphs(node.attribute):
            yield from _nodes(graph.node)


def _graphs(attributes: Any) -> Iterator[Any]:
    """The graphs in attributes: of a node, or the defaults of a function's."""
    for attribute in attributes:
        yield from ([attribute.g] if attribute.HasField("g") else [])
        yield from attribute.graphs
