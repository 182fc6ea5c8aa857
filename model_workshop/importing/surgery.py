"""Changes to a foreign graph, so that the services can run it: camera bytes in, fixed shapes out.

Every function changes the model that it is given. Nothing is found by the name of a node: names are
the exporter's, and the next exporter has others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from model_workshop.importing.preparations import Convention

LISTED_MAX = 300
"""Detections that are kept of a graph that lists as many as it found."""

_COUNTING = {"NonMaxSuppression", "NonZero", "Unique", "Compress"}
"""Operators whose output's shape depends on the picture."""


def lists_what_it_found(model: onnx.ModelProto) -> bool:
    """Whether a graph's number of detections may depend on the picture."""
    return any(node.op_type in _COUNTING for node in _nodes(model.graph))


def fix_input(model: onnx.ModelProto, name: str, shape: Iterable[int | None]) -> None:
    """Gives an input these sizes, None for a free batch, and forgets what was inferred before."""
    value = next(value for value in model.graph.input if value.name == name)
    kind = value.type.tensor_type.elem_type
    sizes = ["batch" if size is None else size for size in shape]
    value.CopyFrom(helper.make_tensor_value_info(name, kind, sizes))
    del model.graph.value_info[:]


def fold_constant(model: onnx.ModelProto, name: str, values: npt.NDArray[np.float64]) -> None:
    """Replaces an input by a constant of its type."""
    value = next(value for value in model.graph.input if value.name == name)
    kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    model.graph.input.remove(value)
    model.graph.initializer.append(numpy_helper.from_array(values.astype(kind), name))


def make_outputs_float(model: onnx.ModelProto) -> None:
    """Half and double precision become float32; a quantized output is taken before its rounding."""
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    names: dict[str, int] = {}
    for value in graph.output:
        kind = value.type.tensor_type.elem_type
        producer = producers.get(value.name)
        if producer is not None and producer.op_type == "QuantizeLinear":
            graph.node.remove(producer)
            names[producer.input[0]] = TensorProto.FLOAT
        elif kind in (TensorProto.FLOAT16, TensorProto.DOUBLE):
            cast = _append(graph, "Cast", [value.name], to=TensorProto.FLOAT)
            names[cast] = TensorProto.FLOAT
        else:
            names[value.name] = kind
    _set_outputs(graph, names)


def put_front(
    model: onnx.ModelProto, name: str, convention: Convention, shape: tuple[int | None, ...]
) -> str:
    """Puts a new input before an image input: uint8 (N, height, width, 3) BGR, camera bytes.

    Behind it the graph itself changes layout and colours, and makes floats of a float input, which
    costs less than preparing them outside (docs/workshop/import.md).

    Args:
        model: opset 13 or later.
        name: the image input, of uint8, float16 or float32.
        convention: what the graph was trained with.
        shape: of the new input.

    Returns:
        Its name.
    """
    graph = model.graph
    value = next(value for value in graph.input if value.name == name)
    sizes, kind = value.type.tensor_type.shape.dim, value.type.tensor_type.elem_type
    channels = 1 if sizes[1].dim_value == 3 else 3
    behind = len(graph.node)
    camera = current = _fresh(graph, "camera")
    if channels == 1:
        current = _append(graph, "Transpose", [current], perm=[0, 3, 1, 2])
    if convention.color == "RGB":
        order = _constant(graph, np.array([2, 1, 0]))
        current = _append(graph, "Gather", [current, order], axis=channels)
    if kind != TensorProto.UINT8:
        current = _append_values(graph, current, convention, channels)
    if kind == TensorProto.FLOAT16:
        current = _append(graph, "Cast", [current], to=TensorProto.FLOAT16)
    _append(graph, "Identity", [current], output=name)
    nodes = [*graph.node[behind:], *graph.node[:behind]]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.input.remove(value)
    image = ["batch" if size is None else size for size in shape]
    graph.input.append(helper.make_tensor_value_info(camera, TensorProto.UINT8, image))
    return camera


def split_columns(model: onnx.ModelProto, name: str, *, columns: int) -> list[str]:
    """Names of boxes, scores and, of six columns, classes made of (..., columns).

    The columns are x1 y1 x2 y2 score and class.
    """
    graph = model.graph
    start, end, axis = (_constant(graph, np.array([number])) for number in (0, 4, -1))
    boxes = _append(graph, "Slice", [name, start, end, axis])
    return [boxes] + [
        _append(graph, "Gather", [name, _constant(graph, np.array(column))], axis=-1)
        for column in range(4, columns)
    ]


def turn_corners(model: onnx.ModelProto, name: str) -> str:
    """Name of boxes x1 y1 x2 y2 made of boxes y1 x1 y2 x2."""
    order = _constant(model.graph, np.array([1, 0, 3, 2]))
    return _append(model.graph, "Gather", [name, order], axis=-1)


def scale_boxes(model: onnx.ModelProto, name: str, width: int, height: int) -> str:
    """Name of boxes in pixels made of boxes in sides of the input."""
    sides = np.array([width, height, width, height], np.float32)
    return _append(model.graph, "Mul", [name, _constant(model.graph, sides)])


def add_batch_axis(model: onnx.ModelProto, name: str) -> str:
    """Name of the same tensor with one image as its first axis."""
    return _append(model.graph, "Unsqueeze", [name, _constant(model.graph, np.array([0]))])


def fix_count(
    model: onnx.ModelProto, names: list[str], class_kind: np.dtype[np.generic]
) -> list[str]:
    """The best `LISTED_MAX` of one image's boxes, scores and classes, behind a batch axis.

    Where there are fewer, zeros follow.

    A bound output needs a fixed shape; a list of what was found has another one in every picture.
    """
    graph = model.graph
    padded = []
    kinds = (np.dtype(np.float32), np.dtype(np.float32), class_kind)
    for name, kind, shape in zip(names, kinds, ([-1, 4], [-1], [-1]), strict=True):
        flat = _append(graph, "Reshape", [name, _constant(graph, np.array(shape))])
        zeros = _constant(graph, np.zeros([LISTED_MAX, *shape[1:]], kind))
        padded.append(_append(graph, "Concat", [flat, zeros], axis=0))
    count = _constant(graph, np.array([LISTED_MAX]))
    best, order = _fresh(graph, "best"), _fresh(graph, "order")
    graph.node.append(helper.make_node("TopK", [padded[1], count], [best, order], best, axis=0))
    boxes, class_ids = (_append(graph, "Gather", [padded[i], order], axis=0) for i in (0, 2))
    return [add_batch_axis(model, name) for name in (boxes, best, class_ids)]


def flatten(model: onnx.ModelProto, name: str) -> str:
    """Name of the same tensor as (N, rest)."""
    return _append(model.graph, "Flatten", [name], axis=1)


def keep_outputs(
    model: onnx.ModelProto, arrays: dict[str, npt.NDArray[np.generic]], *, free_batch: bool
) -> None:
    """Makes tensors of which a value is known the graph's only outputs, with their shapes."""
    del model.graph.output[:]
    for name, array in arrays.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        shape = ["batch" if free_batch else array.shape[0], *array.shape[1:]]
        model.graph.output.append(helper.make_tensor_value_info(name, kind, shape))


def choose_outputs(model: onnx.ModelProto, names: Iterable[str]) -> None:
    """Makes tensors the graph's only outputs, of types and shapes that a run will tell."""
    _set_outputs(model.graph, dict.fromkeys(names, TensorProto.UNDEFINED))


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those in the bodies of loops and branches too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _nodes(body)


def _append_values(graph: onnx.GraphProto, name: str, convention: Convention, axis: int) -> str:
    """(v * scale - mean) / std; the multiplication and the type in one pass over the pixels."""
    std, mean = np.array(convention.std, np.float32), np.array(convention.mean, np.float32)
    gain = np.float32(convention.scale) / std
    if (gain == gain[0]).all():
        gain = gain[0]
    factors = [_constant(graph, np.asarray(gain)), _constant(graph, np.zeros_like(gain, np.uint8))]
    current = _append(graph, "DequantizeLinear", [name, *factors], axis=axis)
    if mean.any():
        bias = (-mean / std).reshape([3 if i == axis else 1 for i in range(4)])
        current = _append(graph, "Add", [current, _constant(graph, bias)])
    return current


def _append(
    graph: onnx.GraphProto, kind: str, inputs: list[str], *, output: str = "", **attributes: Any
) -> str:
    output = output or _fresh(graph, kind.lower())
    graph.node.append(helper.make_node(kind, inputs, [output], output, **attributes))
    return output


def _constant(graph: onnx.GraphProto, values: npt.NDArray[np.generic]) -> str:
    name = _fresh(graph, "constant")
    graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def _fresh(graph: onnx.GraphProto, stem: str) -> str:
    taken = {name for node in graph.node for name in (*node.input, *node.output, node.name)}
    taken |= {tensor.name for tensor in graph.initializer} | {v.name for v in graph.input}
    number = 0
    while f"import_{stem}_{number}" in taken:
        number += 1
    return f"import_{stem}_{number}"


def _set_outputs(graph: onnx.GraphProto, kinds: dict[str, int]) -> None:
    del graph.output[:]
    for name, kind in kinds.items():
        # The runtime infers what is left open.
        if kind == TensorProto.UNDEFINED:
            graph.output.append(onnx.ValueInfoProto(name=name))
        else:
            graph.output.append(helper.make_tensor_value_info(name, kind, None))
