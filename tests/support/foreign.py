"""Models of other people, as small graphs: the squares model in every layout that import knows.

A square of 8 pixels painted on a cell of 8x8 in pure blue, green or red is detected as class 0, 1
or 2 in a box of 24 pixels around the cell's centre; `painted` and `EXPECTED` are such a scene.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from foundation.bundle import Bundle
from foundation.frames import Pixels
from foundation.manifest import InputContract
from model_workshop.importing.families import import_model
from model_workshop.importing.inputs import Size
from model_workshop.importing.layouts import Family
from model_workshop.importing.preparations import CONVENTIONS, Preparation
from tests.support.bundles import LABELS, paint_square
from tests.support.graphs import family_model

SIDE = 64
CELLS = 64 + 16 + 4
"""Of the strides 8, 16 and 32; only those of stride 8 ever see something."""
PLACES = 64
EXPECTED = {"blue": (0.9, [0, 0, 24, 24]), "red": (0.97, [8, 32, 32, 56])}
"""Score and box by label."""
Array = npt.NDArray[Any]


def painted() -> Pixels:
    """A blue and a red square on black."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    paint_square(pixels, 8, 8, label="blue", score=0.9, side=8)
    paint_square(pixels, 16, 40, label="red", score=0.97, side=8)
    return pixels


def foreign_contract(preparation: Preparation, layout: str = "NCHW") -> InputContract:
    """What a model of a convention takes; free batch."""
    convention = CONVENTIONS[preparation]
    return InputContract.model_validate(
        {
            "name": "image",
            "dtype": "float32",
            "layout": layout,
            "color": convention.color,
            "width": SIDE,
            "height": SIDE,
            "dynamic_batch": True,
            "scale": convention.scale,
            "mean": convention.mean,
            "std": convention.std,
        }
    )


def foreign_model(
    family: Family,
    preparation: Preparation = Preparation.ULTRALYTICS,
    *,
    contract: InputContract | None = None,
    half: bool = False,
) -> onnx.ModelProto:
    """A detector or classifier as another project would export it.

    Args:
        family: layout of its outputs.
        preparation: what it wants its pixels to be.
        contract: its input, where it is another than that of the preparation.
        half: float16 at both ends.
    """
    contract = contract or foreign_contract(preparation)
    if family is Family.GRID:
        return onnx.load_from_string(family_model("grid", contract))
    model = onnx.load_from_string(
        family_model("yolox" if family is Family.YOLOX else "yolov8", contract)
    )
    graph = _Extension(model.graph)
    _HEADS[family](graph)
    if half:
        graph.make_ends_half()
    onnx.checker.check_model(model)
    return model


def import_proto(
    model: onnx.ModelProto,
    folder: Path,
    *,
    family: Family | None = None,
    labels: tuple[str, ...] | None = LABELS,
    preparation: Preparation | None = None,
    size: Size | None = None,
) -> Bundle:
    """Saves a model and imports it."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return import_model(
        path,
        family,
        labels,
        name="m",
        license_name="unknown",
        smoke_pixels=painted(),
        preparation=preparation,
        size=size,
    )


class _Extension:
    """Appends nodes behind `columns` (1, 7, 64) or `rows` (1, 64, 8) of the squares model."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        del graph.output[:]

    def node(self, kind: str, inputs: str, outputs: str, **attributes: Any) -> None:
        self.graph.node.append(
            helper.make_node(kind, inputs.split(), outputs.split(), **attributes)
        )

    def constant(self, name: str, values: Any, kind: npt.DTypeLike = np.float32) -> None:
        self.graph.initializer.append(numpy_helper.from_array(np.array(values, kind), name))

    def output(self, name: str, shape: list[int | str], kind: int = TensorProto.FLOAT) -> None:
        self.graph.output.append(helper.make_tensor_value_info(name, kind, shape))

    def take(self, source: str, name: str, start: int, end: int) -> None:
        """Rows `start` to `end` of axis 1."""
        bounds = {"start": start, "end": end, "axis": 1}
        for part, value in bounds.items():
            self.constant(f"{name}_{part}", [value], np.int64)
        self.node("Slice", f"{source} {name}_start {name}_end {name}_axis", name)

    def corners(self) -> None:
        """`corners` (1, 64, 4) x1 y1 x2 y2, `scores` (1, 3, 64), `best` and `named` (1, 64)."""
        self.take("columns", "center", 0, 2)
        self.take("columns", "size", 2, 4)
        self.take("columns", "class_scores", 4, 7)
        self.constant("one_half", 0.5)
        self.constant("axis_1", [1], np.int64)
        self.node("Mul", "size one_half", "half_size")
        self.node("Sub", "center half_size", "low")
        self.node("Add", "center half_size", "high")
        self.node("Concat", "low high", "corner_columns", axis=1)
        self.node("Transpose", "corner_columns", "corners", perm=[0, 2, 1])
        self.node("ReduceMax", "class_scores", "best", axes=[1], keepdims=0)
        self.node("ArgMax", "class_scores", "named", axis=1, keepdims=0)

    def make_ends_half(self) -> None:
        """float16 in and out; the first node casts to float32 anyway."""
        self.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
        for value in self.graph.output:
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                inner = f"{value.name}_float32"
                for node in self.graph.node:
                    node.output[:] = [inner if n == value.name else n for n in node.output]
                    node.input[:] = [inner if n == value.name else n for n in node.input]
                self.node("Cast", inner, value.name, to=TensorProto.FLOAT16)
                value.type.tensor_type.elem_type = TensorProto.FLOAT16


def _yolox(graph: _Extension) -> None:
    graph.constant("unseeing", np.zeros((1, CELLS - PLACES, 5 + len(LABELS))))
    graph.node("Concat", "rows unseeing", "output", axis=1)
    graph.output("output", [1, CELLS, 5 + len(LABELS)])


def _decoded_rows(graph: _Extension, places: int) -> None:
    graph.take("columns", "center_and_size", 0, 4)
    graph.take("columns", "class_scores", 4, 7)
    graph.constant("sure", np.ones((1, 1, PLACES)))
    graph.constant("unseeing", np.zeros((1, 5 + len(LABELS), places - PLACES)))
    graph.node("Concat", "center_and_size sure class_scores", "seeing", axis=1)
    graph.node("Concat", "seeing unseeing", "every", axis=2)
    graph.node("Transpose", "every", "output", perm=[0, 2, 1])
    graph.output("output", [1, places, 5 + len(LABELS)])


def _yolov8(graph: _Extension) -> None:
    graph.constant("unseeing", np.zeros((1, 4 + len(LABELS), CELLS - PLACES)))
    graph.node("Concat", "columns unseeing", "output0", axis=2)
    graph.output("output0", [1, 4 + len(LABELS), CELLS])


def _end_to_end(graph: _Extension) -> None:
    graph.corners()
    graph.constant("last", [2], np.int64)
    graph.node("Cast", "named", "named_float", to=TensorProto.FLOAT)
    graph.node("Unsqueeze", "best last", "score_column")
    graph.node("Unsqueeze", "named_float last", "class_column")
    graph.node("Concat", "corners score_column class_column", "output0", axis=2)
    graph.output("output0", ["n", PLACES, 6])


def _detr(graph: _Extension) -> None:
    """The best of all places and classes, as RT-DETR and its successors take them."""
    graph.corners()
    graph.constant("sides", [SIDE] * 4)
    graph.constant("twice", [1, 2], np.int64)
    graph.constant("most", [PLACES], np.int64)
    graph.constant("classes", len(LABELS), np.int64)
    graph.constant("last", [2], np.int64)
    graph.constant("four_times", [1, 1, 4], np.int64)
    graph.node("Div", "corners sides", "relative")
    graph.graph.input.append(
        helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, ["n", 2])
    )
    graph.node("Tile", "orig_target_sizes twice", "wanted_integers")
    graph.node("Cast", "wanted_integers", "wanted", to=TensorProto.FLOAT)
    graph.node("Unsqueeze", "wanted axis_1", "wanted_rows")
    graph.node("Mul", "relative wanted_rows", "all_boxes")
    graph.node("Transpose", "class_scores", "score_rows", perm=[0, 2, 1])
    graph.node("Flatten", "score_rows", "flat_scores", axis=1)
    graph.node("TopK", "flat_scores most", "best_scores ranking", axis=1)
    graph.node("Mod", "ranking classes", "labels")
    graph.node("Div", "ranking classes", "query")
    graph.node("Unsqueeze", "query last", "query_column")
    graph.node("Tile", "query_column four_times", "query_columns")
    graph.node("GatherElements", "all_boxes query_columns", "boxes", axis=1)
    graph.output("labels", ["n", PLACES], TensorProto.INT64)
    graph.output("boxes", ["n", PLACES, 4])
    graph.output("best_scores", ["n", PLACES])


def _nms(graph: _Extension) -> None:
    """Normalized boxes, as many as are found, no batch axis."""
    graph.corners()
    graph.constant("sides", [SIDE] * 4)
    graph.constant("most", 100, np.int64)
    graph.constant("iou", 0.6)
    graph.constant("floor", 0.02)
    for name, index in (("column_1", 1), ("column_2", 2)):
        graph.constant(name, index, np.int64)
    graph.constant("first", [0], np.int64)
    graph.node("Div", "corners sides", "relative")
    graph.node("NonMaxSuppression", "corners class_scores most iou floor", "selected")
    graph.node("Gather", "selected column_1", "classes", axis=1)
    graph.node("Gather", "selected column_2", "places", axis=1)
    graph.node("Squeeze", "relative first", "all_boxes")
    graph.node("Gather", "all_boxes places", "boxes", axis=0)
    graph.node("GatherND", "class_scores selected", "found_scores")
    graph.output("boxes", ["found", 4])
    graph.output("found_scores", ["found"])
    graph.output("classes", ["found"], TensorProto.INT64)


def _fastestdet(graph: _Extension) -> None:
    size = -np.log(SIDE / 24 - 1)
    place = np.broadcast_to(np.array([np.arctanh(0.5)] * 2 + [size] * 2), (1, 8, 8, 4))
    graph.take("columns", "class_scores", 4, 7)
    graph.constant("grid_shape", [1, len(LABELS), 8, 8], np.int64)
    graph.constant("undone", 1 / 0.4)
    graph.constant("front", np.insert(place.transpose(0, 3, 1, 2), 0, 1.0, axis=1))
    graph.node("Reshape", "class_scores grid_shape", "class_planes")
    graph.node("Pow", "class_planes undone", "class_powers")
    graph.node("Concat", "front class_powers", "output", axis=1)
    graph.output("output", [1, 5 + len(LABELS), 8, 8])


def _classifier(graph: _Extension) -> None:
    """Logits: the best place decides."""
    graph.take("columns", "class_scores", 4, 7)
    graph.constant("strict", 20.0)
    graph.node("ReduceMax", "class_scores", "evidence", axes=[2], keepdims=0)
    graph.node("Mul", "evidence strict", "logits")
    graph.output("logits", ["n", len(LABELS)])


_HEADS: dict[Family, Callable[[_Extension], None]] = {
    Family.YOLOX: _yolox,
    Family.YOLOX_DECODED: lambda graph: _decoded_rows(graph, CELLS),
    Family.YOLOV5: lambda graph: _decoded_rows(graph, 3 * CELLS),
    Family.YOLOV8: _yolov8,
    Family.YOLO_END2END: _end_to_end,
    Family.DETR: _detr,
    Family.NMS: _nms,
    Family.FASTESTDET: _fastestdet,
    Family.CLASSIFIER: _classifier,
}
