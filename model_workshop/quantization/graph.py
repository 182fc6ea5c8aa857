"""What quantization has to know of a graph: its blocks, its tail, its front. No model runs here.

A *mixing* node computes each value from many channels (a convolution, a matrix product). A *block*
is a mixing node with what follows it up to the next one. The *tail* is what lies between the last
mixing nodes and the outputs: there every channel keeps its meaning, and channels of different
meaning meet.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx
from onnx import numpy_helper

from foundation.errors import IntegrityError
from model_workshop.quantization.ranges import Observation, Ranges

MIXING = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
PART_LEVELS_MIN = 16.0
"""A part of a tensor with fewer of its 256 levels is rounded to steps of its own size."""
_INTEGER_OPERATORS = frozenset(
    {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QuantizeLinear"}
)
_SILU_INACTIVE_BELOW = -6.0
_KEEPS_VALUES = frozenset({"Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose"})


@dataclass(frozen=True, slots=True)
class Block:
    """Nodes that are quantized together or not at all.

    Attributes:
        name: of its mixing node, or "tail".
        members: name and operator of each node, in order.
    """

    name: str
    members: tuple[tuple[str, str], ...]

    @property
    def nodes(self) -> set[str]:
        """The names of its nodes."""
        return {name for name, _ in self.members}

    @property
    def mixes(self) -> bool:
        """Whether there are multiplications in it that integers make faster."""
        return any(operator in MIXING for _, operator in self.members)


def refuse_integers(model: onnx.ModelProto, name: str) -> None:
    """Checks that a model is still float.

    Raises:
        IntegrityError: it computes in integers already.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        weights = node.op_type == "DequantizeLinear" and node.input[0] in constants
        if weights or node.op_type in _INTEGER_OPERATORS or node.op_type.startswith("QLinear"):
            raise IntegrityError(
                f"{name} is INT8 already: it has the node {node.name or node.op_type} "
                f"({node.op_type})",
                remedy="Quantize the float model that it was made from",
            )


def blocks_of(model: onnx.ModelProto) -> list[Block]:
    """The blocks of a prepared model in order; what is before the first one belongs to it."""
    tail = tail_nodes(model)
    blocks: list[list[onnx.NodeProto]] = [[]]
    for node in model.graph.node:
        if node.op_type in MIXING and any(kept.op_type in MIXING for kept in blocks[-1]):
            blocks.append([])
        if node.name not in tail:
            blocks[-1].append(node)
    blocks.append([node for node in model.graph.node if node.name in tail])
    return [
        Block(
            next((node.name for node in nodes if node.op_type in MIXING), "tail"),
            tuple((node.name, node.op_type) for node in nodes),
        )
        for nodes in blocks
        if nodes
    ]


def tail_nodes(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes between the last mixing nodes and the outputs."""
    producers = {name: node for node in model.graph.node for name in node.output}
    tail: set[str] = set()
    pending = [value.name for value in model.graph.output]
    while pending:
        producer = producers.get(pending.pop())
        if producer and producer.op_type not in MIXING and producer.name not in tail:
            tail.add(producer.name)
            pending.extend(producer.input)
    return tail


def torn_nodes(
    model: onnx.ModelProto, observations: Mapping[str, Observation]
) -> dict[str, tuple[str, float]]:
    """Nodes of the tail that one scale cannot serve, and all that follow them.

    Nothing mixes channels again behind the tail's tensors, so that what a part of them loses is
    lost in the output.

    Returns:
        By node name, the tensor that is torn and how many of 256 levels its quietest part gets; the
        first such tensor on the way for nodes that follow.
    """
    tail = tail_nodes(model)
    torn: dict[str, tuple[str, float]] = {}
    reasons: dict[str, tuple[str, float]] = {}
    for node in model.graph.node:
        if node.name not in tail:
            continue
        inherited = next((reasons[name] for name in node.input if name in reasons), None)
        for name in node.output:
            seen = observations.get(name)
            if inherited is None and seen is not None:
                least = float(seen.part_levels().min())
                inherited = (name, least) if least < PART_LEVELS_MIN else None
        if inherited is not None:
            torn[node.name] = inherited
            reasons.update(dict.fromkeys(node.output, inherited))
    return torn


def clip_inactive(model: onnx.ModelProto, ranges: Ranges, float_nodes: Collection[str]) -> Ranges:
    """Ranges that spend no levels on what an activation makes nothing of.

    SiLU, x times Sigmoid(x), gives less than 0.015 in magnitude below -6, which is less than half a
    step of most ranges; a convolution before it may reach down to -100.

    Args:
        model: the float model.
        ranges: by tensor.
        float_nodes: names of nodes that stay float and so clip nothing.
    """
    gates = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "Sigmoid" and node.name not in float_nodes
    }
    clipped = dict(ranges)
    for node in model.graph.node:
        if node.op_type != "Mul":
            continue
        for gate, value in itertools.permutations(node.input):
            if gates.get(gate) == value and value in clipped:
                low, high = clipped[value]
                clipped[value] = (max(low, _SILU_INACTIVE_BELOW), high)
    return clipped


@dataclass(frozen=True, slots=True)
class PixelFront:
    """The way of a uint8 image to the first float tensor.

    Attributes:
        pixels: the uint8 tensor in the layout that the net computes in.
        tensor: the first float tensor: the same values times `scale`.
        scale: of one grey level.
    """

    pixels: str
    tensor: str
    scale: float


def pixel_front(model: onnx.ModelProto) -> PixelFront | None:
    """How the graph makes its uint8 image float, where it only casts or scales it."""
    image = model.graph.input[0]
    if image.type.tensor_type.elem_type != onnx.TensorProto.UINT8:
        return None
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    same = {image.name}
    for node in model.graph.node:
        if node.input[:1] and node.input[0] in same:
            if node.op_type in _KEEPS_VALUES:
                same.add(node.output[0])
            elif node.op_type == "Cast":
                return PixelFront(node.input[0], node.output[0], 1.0)
            elif node.op_type == "DequantizeLinear" and node.input[1] in constants:
                scale, *zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:])
                if scale.size == 1 and not any(array.any() for array in zero):
                    return PixelFront(node.input[0], node.output[0], float(scale))
    return None


def feed_pixels(model: onnx.ModelProto, front: PixelFront) -> None:
    """Lets an INT8 graph read the camera's bytes: drops their way to float and back, in place.

    Exact where the front's tensor was quantized with the front's own scale and zero point 0.
    """
    nodes = model.graph.node
    quantizers = [n for n in nodes if n.op_type == "QuantizeLinear" and n.input[0] == front.tensor]
    for quantizer in quantizers:
        for reader in nodes:
            for position, name in enumerate(reader.input):
                if name == quantizer.output[0]:
                    reader.input[position] = front.pixels
        nodes.remove(quantizer)
    drop_unread(model)


def drop_unread(model: onnx.ModelProto) -> None:
    """Removes nodes and initializers that nothing reads, in place."""
    read = {value.name for value in model.graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        if not read.isdisjoint(node.output):
            kept.append(node)
            read.update(node.input)
    weights = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(reversed(kept))
    model.graph.initializer.extend(weights)


def weight_counts(model: onnx.ModelProto) -> tuple[int, int]:
    """How many weights matrix products have, and how many convolutions have."""
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    products, convolutions = 0, 0
    for node in model.graph.node:
        weights = sum(sizes.get(name, 0) for name in node.input[1:])
        products += weights if node.op_type in {"Gemm", "MatMul"} else 0
        convolutions += weights if node.op_type in {"Conv", "ConvTranspose"} else 0
    return products, convolutions
