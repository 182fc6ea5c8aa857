"""The model of `tests/support/bundles.py` in every shape a bundle may declare, and in bad ones.

All families and input contracts give the same detections for the same image, so that a test can
compare them with each other; `replace_model` puts a graph that breaks its promise into a bundle.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from foundation.bundle import Bundle, Smoke
from foundation.detector import Detector
from foundation.frames import Detections
from foundation.manifest import GridOutputs, InputContract, Yolov8Outputs, YoloxOutputs
from tests.support.bundles import BOX_SIDE_PX, LABELS, STRIDE, make_bundle

Family = Literal["grid", "yolox", "yolov8"]
Array = npt.NDArray[Any]
Head = tuple[list[NodeProto], dict[str, list[int | str]]]
"""Nodes, and the outputs they make with their shapes."""
_GAIN = 1.0 / 16.0
_BIAS = -8.0
RAW = InputContract(
    name="image", dtype="uint8", layout="NHWC", width=64, height=64, dynamic_batch=True
)
"""uint8 NHWC BGR of 64x64, any batch."""
NORMALIZED = InputContract(
    name="image",
    dtype="float32",
    layout="NCHW",
    color="RGB",
    width=64,
    height=64,
    dynamic_batch=True,
    scale=1 / 255,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
"""float32 NCHW RGB, normalized as models trained on ImageNet want it."""


def family_bundle(family: Family = "grid", contract: InputContract = RAW) -> Bundle:
    """A bundle of the squares model with this family of outputs and this input."""
    sound = make_bundle(contract.width, contract.height)
    outputs = {
        "grid": GridOutputs(stride=STRIDE),
        "yolox": YoloxOutputs(name="rows", strides=(STRIDE,)),
        "yolov8": Yolov8Outputs(name="columns"),
    }[family]
    info = sound.info.model_copy(update={"input": contract, "outputs": outputs})
    unproven = dataclasses.replace(
        sound,
        info=info,
        model=family_model(family, contract),
        smoke=Smoke(sound.smoke.pixels, Detections.empty()),
    )
    found = Detector.open(unproven).detect(sound.smoke.pixels)
    return dataclasses.replace(unproven, smoke=Smoke(sound.smoke.pixels, found))


def replace_model(bundle: Bundle, model: bytes) -> Bundle:
    """The same bundle around another graph, smoke expectation and all."""
    return dataclasses.replace(bundle, model=model)


def family_model(
    family: Family = "grid",
    contract: InputContract = RAW,
    *,
    classes: int = len(LABELS),
    score_bias: float = _BIAS,
    box_side: float = BOX_SIDE_PX,
    batch: int | None = None,
) -> bytes:
    """A serialized graph of the squares model.

    Args:
        family: how its outputs are laid out.
        contract: what it takes.
        classes: how many it tells apart.
        score_bias: of the logits; NaN makes a model whose scores are no numbers.
        box_side: of its boxes in input pixels; NaN makes a model whose boxes are no numbers.
        batch: the batch its outputs are fixed to, whatever its input claims.
    """
    columns, rows = contract.width // STRIDE, contract.height // STRIDE
    heads = np.zeros((classes, 3, 1, 1), np.float32)
    for index in range(classes):
        heads[index, index % 3] = _GAIN
    constants: dict[str, Array] = {
        "heat_weight": heads,
        "heat_bias": np.full(classes, score_bias, np.float32),
        "zero_weight": np.zeros((4, 3, 1, 1), np.float32),
    }
    nodes = [
        *_planes(contract, constants),
        _node("AveragePool", "planes", "pooled", kernel_shape=[STRIDE] * 2, strides=[STRIDE] * 2),
        _node("Conv", "pooled heat_weight heat_bias", "heatmap"),
    ]
    head = {"grid": _grid_head, "yolox": _yolox_head, "yolov8": _yolov8_head}[family]
    more, shapes = head(classes, columns, rows, box_side, constants)
    nodes += more
    if batch is not None:
        constants["first"], constants["last"] = np.array([0]), np.array([batch])
        nodes += [_node("Slice", f"{name} first last", f"{name}_cut") for name in shapes]
        shapes = {f"{name}_cut": [batch, *shape[1:]] for name, shape in shapes.items()}
    return _serialize(nodes, contract, shapes, constants)


def _grid_head(
    classes: int, columns: int, rows: int, box_side: float, constants: dict[str, Array]
) -> Head:
    constants["box_bias"] = np.full(4, box_side / STRIDE / 2, np.float32)
    nodes = [_node("Conv", "pooled zero_weight box_bias", "box")]
    return nodes, {"heatmap": ["n", classes, rows, columns], "box": ["n", 4, rows, columns]}


def _yolox_head(
    classes: int, columns: int, rows: int, box_side: float, constants: dict[str, Array]
) -> Head:
    log_size = np.log(box_side / STRIDE)
    constants["box_bias"] = np.array([0.5, 0.5, log_size, log_size], np.float32)
    constants["sure_weight"] = np.zeros((1, 3, 1, 1), np.float32)
    constants["sure_bias"] = np.array([30.0], np.float32)
    constants["flat"] = np.array([0, 5 + classes, -1], np.int64)
    nodes = [
        _node("Conv", "pooled zero_weight box_bias", "place"),
        _node("Conv", "pooled sure_weight sure_bias", "object_logits"),
        _node("Concat", "object_logits heatmap", "logits", axis=1),
        _node("Sigmoid", "logits", "scores"),
        _node("Concat", "place scores", "stacked", axis=1),
        _node("Reshape", "stacked flat", "columns"),
        _node("Transpose", "columns", "rows", perm=[0, 2, 1]),
    ]
    return nodes, {"rows": ["n", rows * columns, 5 + classes]}


def _yolov8_head(
    classes: int, columns: int, rows: int, box_side: float, constants: dict[str, Array]
) -> Head:
    y, x = np.mgrid[:rows, :columns]
    side = np.full_like(x, box_side, np.float32)
    centers = [(x + 0.5) * STRIDE, (y + 0.5) * STRIDE, side, side]
    constants["grid"] = np.stack(centers).astype(np.float32)[None]
    constants["box_bias"] = np.zeros(4, np.float32)
    constants["flat"] = np.array([0, 4 + classes, -1], np.int64)
    nodes = [
        _node("Conv", "pooled zero_weight box_bias", "nothing"),
        _node("Add", "nothing grid", "place"),
        _node("Sigmoid", "heatmap", "scores"),
        _node("Concat", "place scores", "stacked", axis=1),
        _node("Reshape", "stacked flat", "columns"),
    ]
    return nodes, {"columns": ["n", 4 + classes, rows * columns]}


def model_with_two_inputs() -> bytes:
    """A graph that adds two float inputs."""
    vector = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("a", "b", "c")
    ]
    graph = helper.make_graph([_node("Add", "a b", "c")], "sum", vector[:2], vector[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def model_with_external_data(location: str) -> bytes:
    """The squares model with one weight that lies in another file."""
    model = onnx.load_from_string(family_model())
    weight = model.graph.initializer[0]
    size = len(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(size)}.items():
        weight.external_data.add(key=key, value=value)
    return bytes(model.SerializeToString())


def _node(kind: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def _planes(contract: InputContract, constants: dict[str, Array]) -> list[NodeProto]:
    """From the input to float BGR planes in 0..255, whatever the contract made of the image."""
    constants["std"] = np.array(contract.std, np.float32).reshape(1, 3, 1, 1)
    constants["mean"] = np.array(contract.mean, np.float32).reshape(1, 3, 1, 1)
    constants["scale"] = np.array(contract.scale, np.float32)
    constants["order"] = np.array([0, 1, 2] if contract.color == "BGR" else [2, 1, 0], np.int64)
    perm = [0, 3, 1, 2] if contract.layout == "NHWC" else [0, 1, 2, 3]
    return [
        _node("Cast", "image", "float", to=TensorProto.FLOAT),
        _node("Transpose", "float", "channels", perm=perm),
        _node("Mul", "channels std", "widened"),
        _node("Add", "widened mean", "shifted"),
        _node("Div", "shifted scale", "colors"),
        _node("Gather", "colors order", "planes", axis=1),
    ]


def _serialize(
    nodes: list[NodeProto],
    contract: InputContract,
    shapes: dict[str, list[int | str]],
    constants: dict[str, Array],
) -> bytes:
    sides = [contract.height, contract.width]
    sides = [*sides, 3] if contract.layout == "NHWC" else [3, *sides]
    kind = TensorProto.UINT8 if contract.dtype == "uint8" else TensorProto.FLOAT
    size = "n" if contract.dynamic_batch else 1
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "squares",
        [helper.make_tensor_value_info(contract.name, kind, [size, *sides])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="hardcase-tests"
    )
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
