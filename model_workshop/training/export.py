"""From a trained `GridDetector` to the ONNX graph of the bundle's contract.

In two steps, so that quantization sees only what belongs in integers. `export_core` writes the
net: float `pixels` (N, 3, H, W) in 0..1 to `heatmap` and `placement`. `wrap` puts the ends on a
core, float or quantized: uint8 NHWC `image` in front, distances `box` behind. In front of a
quantized core no float is left: the first integer convolution reads the camera's bytes.
"""

from __future__ import annotations

import io

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from model_workshop.training.nets import STRIDE, GridDetector, SplitOutputs, fold_batch_norms

OPSET = 17
PIXEL_SCALE = np.float32(1 / 255)
"""Scale of the uint8 input; its zero point is 0."""

CORE_INPUT = "pixels"
HEATMAP = "heatmap"
PLACEMENT = "placement"
IMAGE = "image"
BOX = "box"
_PLACEMENT_CLIP = 6.0


def export_core(
    net: GridDetector, *, width: int, height: int, dynamic_batch: bool
) -> onnx.ModelProto:
    """The net with batch normalization folded, without ends."""
    folded = fold_batch_norms(SplitOutputs(net.copy()))
    buffer = io.BytesIO()
    axes = {CORE_INPUT: {0: "batch"}, HEATMAP: {0: "batch"}, PLACEMENT: {0: "batch"}}
    torch.onnx.export(
        folded,
        (torch.zeros(1, 3, height, width),),
        buffer,
        input_names=[CORE_INPUT],
        output_names=[HEATMAP, PLACEMENT],
        opset_version=OPSET,
        dynamic_axes=axes if dynamic_batch else None,
        dynamo=False,
    )
    model = onnx.load_from_string(buffer.getvalue())
    model.producer_name, model.producer_version, model.doc_string = "hardcase", "", ""
    for node in model.graph.node:
        node.doc_string = ""
    return model


def wrap(
    core: onnx.ModelProto, *, width: int, height: int, classes: int, dynamic_batch: bool
) -> onnx.ModelProto:
    """A copy of a float or quantized core with uint8 image in and contract outputs."""
    model = onnx.ModelProto()
    model.CopyFrom(core)
    graph = model.graph
    quantized = [
        n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == CORE_INPUT
    ]
    transpose_to = f"{IMAGE}_nchw"
    front = [helper.make_node("Transpose", [IMAGE], [transpose_to], IMAGE, perm=[0, 3, 1, 2])]
    if quantized:
        for node in quantized:
            _check_pixel_scale(graph, node)
            graph.node.remove(node)
            for reader in graph.node:
                for position, name in enumerate(reader.input):
                    if name == node.output[0]:
                        reader.input[position] = transpose_to
    else:
        scale, zero = f"{IMAGE}_scale", f"{IMAGE}_zero"
        graph.initializer.append(numpy_helper.from_array(np.array(PIXEL_SCALE), scale))
        graph.initializer.append(numpy_helper.from_array(np.array(0, np.uint8), zero))
        inputs = [transpose_to, scale, zero]
        front.append(helper.make_node("DequantizeLinear", inputs, [CORE_INPUT], "pixels"))
    for position, node in enumerate(front):
        graph.node.insert(position, node)
    graph.node.extend(_placement_to_distances(graph))
    batch: int | str = "batch" if dynamic_batch else 1
    rows, columns = height // STRIDE, width // STRIDE
    del graph.input[:], graph.output[:]
    graph.input.append(
        helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, [batch, height, width, 3])
    )
    for name, channels in ((HEATMAP, classes), (BOX, 4)):
        shape = [batch, channels, rows, columns]
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    onnx.checker.check_model(model, full_check=True)
    return model


def _check_pixel_scale(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer if i.name in node.input}
    scale, zero = values[node.input[1]], values[node.input[2]]
    if not np.isclose(scale, PIXEL_SCALE) or zero != 0:
        raise ValueError(f"the core's input is quantized with {scale} and {zero}, not with 1/255")


def _placement_to_distances(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Float nodes: offset and log half side per axis to left, top, right, bottom in strides.

    They stay out of INT8 because a log scale is what keeps small boxes exact there.
    """
    graph.initializer.append(numpy_helper.from_array(np.array([2, 2], np.int64), "placement_parts"))
    graph.initializer.append(
        numpy_helper.from_array(np.array(_PLACEMENT_CLIP, np.float32), "placement_clip")
    )
    return [
        helper.make_node("Split", [PLACEMENT, "placement_parts"], ["offset", "log_half"], axis=1),
        helper.make_node("Min", ["log_half", "placement_clip"], ["log_half_clipped"]),
        helper.make_node("Exp", ["log_half_clipped"], ["half"]),
        helper.make_node("Sub", ["half", "offset"], ["left_top"]),
        helper.make_node("Add", ["half", "offset"], ["right_bottom"]),
        helper.make_node("Concat", ["left_top", "right_bottom"], [BOX], axis=1),
    ]
