"""Counts what a graph computes with: how many of its nodes and weights are integer.

In QDQ form the file says float everywhere: a node is integer where the runtime fuses it with the
QuantizeLinear and DequantizeLinear around it, which needs them at both of its ends. What a provider
makes of it on one machine, `model-workshop bench` reports.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import onnx

_CONVERSIONS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
_PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_INTEGER_PRODUCTS = {
    "ConvInteger",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "QGemm",
    "QLinearConv",
    "QLinearMatMul",
}
_FUSED = {"Clip", "Relu"}
"""Activations that the runtime merges into the product before them."""
_SILENT = {"Constant", "Identity"}


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What a graph computes with.

    Attributes:
        integer_nodes: that compute on integers.
        float_nodes: that compute on floating point numbers, or on shapes and indices.
        conversion_nodes: between the two.
        integer_products: convolutions and matrix products on integers, which is where time goes.
        products: all convolutions and matrix products.
        weight_bytes: of the constants, by their type.
    """

    integer_nodes: int
    float_nodes: int
    conversion_nodes: int
    integer_products: int
    products: int
    weight_bytes: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def count_arithmetic(model: onnx.ModelProto) -> Arithmetic:
    """Counts the nodes of the main graph and its constants."""
    graph = model.graph
    producers = {name: node.op_type for node in graph.node for name in node.output}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    constants = {tensor.name for tensor in graph.initializer}
    counts: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type in _SILENT:
            continue
        if node.op_type in _CONVERSIONS:
            counts["conversion"] += 1
            continue
        integer = _is_integer(node, producers, consumers, constants)
        counts["integer" if integer else "float"] += 1
        if node.op_type in _PRODUCTS | _INTEGER_PRODUCTS:
            counts["integer product" if integer else "float product"] += 1
    sizes: Counter[str] = Counter()
    for tensor in graph.initializer:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        elements = 1
        for side in tensor.dims:
            elements *= side
        sizes[str(dtype)] += elements * dtype.itemsize
    return Arithmetic(
        integer_nodes=counts["integer"],
        float_nodes=counts["float"],
        conversion_nodes=counts["conversion"],
        integer_products=counts["integer product"],
        products=counts["integer product"] + counts["float product"],
        weight_bytes=dict(sorted(sizes.items())),
    )


def _is_integer(
    node: onnx.NodeProto,
    producers: dict[str, str],
    consumers: dict[str, list[onnx.NodeProto]],
    constants: set[str],
) -> bool:
    if node.op_type in _INTEGER_PRODUCTS or node.op_type.startswith("QLinear"):
        return True
    if node.op_type in _PRODUCTS and node.input[1] in constants:
        return False  # float weights
    before = {producers.get(name, "input") for name in node.input if name and name not in constants}
    wanted = {"DequantizeLinear"} | (_PRODUCTS if node.op_type in _FUSED else set())
    if not before or not before <= wanted:
        return False
    if node.op_type == "MatMul":
        return True  # fuses without a quantized output, too
    return _operators_behind(node, consumers) == {"QuantizeLinear"}


def _operators_behind(node: onnx.NodeProto, consumers: dict[str, list[onnx.NodeProto]]) -> set[str]:
    """Types of the operators that take a node's outputs, seen through merged activations."""
    found: set[str] = set()
    for name in node.output:
        for consumer in consumers.get(name, []):
            merged = consumer.op_type in _FUSED
            found |= _operators_behind(consumer, consumers) if merged else {consumer.op_type}
        if name not in consumers:
            found.add("output")
    return found
