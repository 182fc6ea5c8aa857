"""Lists of finished detections: how many classes, and in which order the corners are.

The outputs of such a graph show neither. The number of classes is found in how the graph computes
a class, the order of the corners in what a mirrored picture does to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from foundation.frames import Boxes
from foundation.geometry import iou_matrix
from model_workshop.onnx_files import shape_of

Array = npt.NDArray[Any]
_PASSING = frozenset(
    {
        "Cast",
        "Concat",
        "Gather",
        "Identity",
        "Mul",
        "Reshape",
        "Split",
        "Squeeze",
        "Sub",
        "Unsqueeze",
    }
)
"""Operators between a class and the remainder by which it was computed."""
_SURE = 0.3


def classes_of(model: onnx.ModelProto, class_ids: str) -> int | None:
    """How many classes a graph tells apart that lists detections; None where that is not found.

    Either the scores that are suppressed have a row for each, or the best of all places and classes
    were taken and the class is the remainder of a division by their number.
    """
    for node in model.graph.node:
        if node.op_type == "NonMaxSuppression":
            rows = _shape(model, node.input[1])[1:2]
            # One row may stand for all classes, whose boxes were moved apart.
            return rows[0] if rows and rows[0] != 1 else None
    constants = _whole_constants(model)
    producers = {name: node for node in model.graph.node for name in node.output}
    pending, seen, divisors = [class_ids], set[str](), set[int]()
    while pending:
        producer = producers.get(name := pending.pop())
        if producer is None or name in seen:
            continue
        seen.add(name)
        if producer.op_type in {"Mod", "Div"} and producer.input[1] in constants:
            divisors.add(constants[producer.input[1]])
        elif producer.op_type in _PASSING:
            pending.extend(producer.input)
    return divisors.pop() if len(divisors) == 1 else None


def has_rows_first(
    boxes: Sequence[Boxes], scores: Sequence[Array], class_ids: Sequence[Array], width: float
) -> bool:
    """Whether corners are y1 x1 y2 x2, judged by a picture and its mirror image.

    Args:
        boxes: (Q, 4) of each.
        scores: (Q,) of each.
        class_ids: (Q,) of each.
        width: of the picture, in the unit of the boxes.

    Returns:
        False also where nothing was seen surely enough to tell: x1 y1 x2 y2 is usual.
    """
    agreement = []
    for columns in ([0, 1, 2, 3], [1, 0, 3, 2]):
        plain, mirrored = (each[:, columns] for each in boxes)
        back = mirrored[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [width, 0, width, 0]
        overlap = iou_matrix(plain, back.astype(np.float32))
        overlap[class_ids[0][:, None] != class_ids[1][None, :]] = 0
        sure = (scores[0] >= _SURE)[:, None] & (scores[1] >= _SURE)[None, :]
        agreement.append(float((overlap * sure).max(axis=1, initial=0).sum()))
    return agreement[1] > agreement[0]


def _shape(model: onnx.ModelProto, name: str) -> tuple[int | None, ...]:
    inferred = onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    return next((shape_of(value) for value in values if value.name == name), ())


def _whole_constants(model: onnx.ModelProto) -> dict[str, int]:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            tensors[node.output[0]] = node.attribute[0].t
    whole = {}
    for name, tensor in tensors.items():
        if tensor.data_type in {onnx.TensorProto.INT64, onnx.TensorProto.INT32}:
            values = numpy_helper.to_array(tensor)
            if values.size == 1:
                whole[name] = int(values.reshape(-1)[0])
    return whole
