"""Float squares models of several layers, sound ones and ones that INT8 destroys."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from foundation.bundle import Bundle
from tests.support.bundles import BOX_SIDE_PX, STRIDE, make_bundle

_GAIN = 1.0 / 16.0
_BIAS = -8.0


def layered_bundle(*, loud: float = 0.0, layers: int = 6, product: bool = False) -> Bundle:
    """The squares bundle with `layers` convolutions that change nothing before its outputs.

    Args:
        loud: gain of a fourth channel that the first convolution adds and the second one drops: at
            1,000 one scale for all four leaves nothing of the other three.
        layers: how many; the first two have the loud channel between them.
        product: whether the heat-map comes from a matrix product instead of a convolution.
    """
    bundle = make_bundle()
    return dataclasses.replace(bundle, model=_model(loud, layers, product))


def _model(loud: float, layers: int, product: bool) -> bytes:
    weights: dict[str, np.ndarray] = {}
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], "planes", perm=[0, 3, 1, 2]),
    ]
    added = np.vstack([np.eye(3), np.full((1, 3), loud)])
    dropped = np.hstack([np.eye(3), np.zeros((3, 1))])
    tensor = "planes"
    for number in range(layers):
        kernel = {0: added, 1: dropped}.get(number, np.eye(3))
        weights[f"kernel_{number}"] = kernel[:, :, None, None]
        nodes += _layer(tensor, number)
        tensor = f"active_{number}"
    sides = [STRIDE, STRIDE]
    nodes.append(
        helper.make_node(
            "AveragePool", [tensor], ["pooled"], "pool", kernel_shape=sides, strides=sides
        )
    )
    weights["box_kernel"] = np.zeros((4, 3, 1, 1))
    weights["box_bias"] = np.full(4, BOX_SIDE_PX / STRIDE / 2)
    nodes.append(helper.make_node("Conv", ["pooled", "box_kernel", "box_bias"], ["box"], "box"))
    weights["heat_bias"] = np.full(3, _BIAS)
    if product:
        weights["heat_kernel"] = np.eye(3) * _GAIN
        nodes += [
            helper.make_node("Transpose", ["pooled"], ["rows"], "rows", perm=[0, 2, 3, 1]),
            helper.make_node("MatMul", ["rows", "heat_kernel"], ["hot"], "product"),
            helper.make_node("Add", ["hot", "heat_bias"], ["heat"], "bias"),
            helper.make_node("Transpose", ["heat"], ["heatmap"], "columns", perm=[0, 3, 1, 2]),
        ]
    else:
        weights["heat_kernel"] = (np.eye(3) * _GAIN)[:, :, None, None]
        inputs = ["pooled", "heat_kernel", "heat_bias"]
        nodes.append(helper.make_node("Conv", inputs, ["heatmap"], "heatmap"))
    return _serialized(nodes, weights)


def _layer(tensor: str, number: int) -> list[NodeProto]:
    mixed, active = f"mixed_{number}", f"active_{number}"
    return [
        helper.make_node("Conv", [tensor, f"kernel_{number}"], [mixed], f"layer_{number}"),
        helper.make_node("Relu", [mixed], [active], f"relu_{number}"),
    ]


def _serialized(nodes: list[NodeProto], weights: dict[str, np.ndarray]) -> bytes:
    cells = [64 // STRIDE, 64 // STRIDE]
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 64, 64, 3])],
        [
            helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["n", 3, *cells]),
            helper.make_tensor_value_info("box", TensorProto.FLOAT, ["n", 4, *cells]),
        ],
        [
            numpy_helper.from_array(np.asarray(array, np.float32), name)
            for name, array in weights.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
