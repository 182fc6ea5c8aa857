from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from foundation.session import ModelSession
from model_workshop.quantization.graph import (
    blocks_of,
    clip_inactive,
    feed_pixels,
    pixel_front,
    refuse_integers,
    tail_nodes,
    torn_nodes,
)
from model_workshop.quantization.ranges import Observation
from model_workshop.quantization.static import insert_pairs, observe, prepare
from tests.support.graphs import family_bundle
from tests.support.quantizable import layered_bundle


def _model(nodes: list[onnx.NodeProto], image: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A graph from `image` (1, 3, 8, 8) to `out`, with a 1x1 kernel of eye(3)."""
    kernel = helper.make_tensor("kernel", TensorProto.FLOAT, [3, 3, 1, 1], np.eye(3).ravel())
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [0.5])
    zero = helper.make_tensor("zero", TensorProto.UINT8, [], [0])
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", image, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [kernel, scale, zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def _conv(source: str, target: str, name: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, "kernel"], [target], name)


@pytest.mark.parametrize("family", ["grid", "yolox", "yolov8"])
def test_every_node_is_in_one_block(family: str) -> None:
    """Blocks partition the graph: nothing is quantized unasked, nothing twice."""
    model = prepare(onnx.load_from_string(family_bundle(family).model))  # type: ignore[arg-type]
    names = [name for block in blocks_of(model) for name, _ in block.members]
    assert sorted(names) == sorted(node.name for node in model.graph.node)


def test_tail_begins_behind_the_last_mixing_nodes() -> None:
    """What joins the outputs of two convolutions is tail; the convolutions are not."""
    model = _model(
        [
            _conv("image", "a", "first"),
            helper.make_node("Sigmoid", ["a"], ["b"], "score"),
            _conv("a", "c", "second"),
            helper.make_node("Concat", ["b", "c"], ["out"], "join", axis=1),
        ]
    )
    assert tail_nodes(model) == {"score", "join"}
    assert [block.name for block in blocks_of(model)] == ["first", "second", "tail"]


def _seen(highs: list[float]) -> Observation:
    zeros = np.zeros(len(highs))
    return Observation(zeros[:1], np.array([max(highs)]), zeros, np.array(highs), np.zeros(1, int))


def test_tensor_of_scores_and_pixels_is_torn() -> None:
    """It and all behind it stay float; what comes before does not."""
    model = _model(
        [
            _conv("image", "a", "first"),
            helper.make_node("Sigmoid", ["a"], ["b"], "score"),
            helper.make_node("Concat", ["b", "a"], ["c"], "join", axis=1),
            helper.make_node("Relu", ["c"], ["out"], "after"),
        ]
    )
    observations = {
        "a": _seen([400.0, 380.0]),
        "b": _seen([1.0, 0.9]),
        "c": _seen([400.0, 1.0]),
    }
    torn = torn_nodes(model, observations)
    assert set(torn) == {"join", "after"}
    assert torn["after"][0] == "c"
    assert torn["after"][1] == pytest.approx(0.64)
    assert torn_nodes(model, {**observations, "c": _seen([400.0, 380.0])}) == {}


def test_no_levels_are_spent_below_what_silu_passes() -> None:
    """Only where the product is of a value and its own sigmoid, and in integers."""
    model = _model(
        [
            _conv("image", "a", "first"),
            helper.make_node("Sigmoid", ["a"], ["gate"], "gate"),
            helper.make_node("Mul", ["gate", "a"], ["b"], "silu"),
            helper.make_node("Mul", ["gate", "b"], ["out"], "other"),
        ]
    )
    ranges = {"a": (-100.0, 10.0), "b": (-50.0, 10.0)}
    assert clip_inactive(model, ranges, ()) == {"a": (-6.0, 10.0), "b": (-50.0, 10.0)}
    assert clip_inactive(model, ranges, {"gate"}) == ranges


def test_int8_graph_reads_bytes() -> None:
    """No float is left in front of the first integer convolution, and values stay the same."""
    source = _model(
        [
            helper.make_node("Transpose", ["image"], ["turned"], "turn", perm=[0, 1, 3, 2]),
            helper.make_node("DequantizeLinear", ["turned", "scale", "zero"], ["real"], "real"),
            _conv("real", "out", "first"),
        ],
        TensorProto.UINT8,
    )
    model = prepare(source)
    front = pixel_front(model)
    assert front is not None
    assert (front.pixels, front.tensor, front.scale) == ("turned", "real", 0.5)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8), np.uint8)
    seen = observe(model, [pixels])
    ranges = {name: observed.range for name, observed in seen.items()}
    integer = insert_pairs(model, ranges, pinned={front.tensor: np.float32(front.scale)})
    feed_pixels(integer, front)
    assert sum(node.op_type == "QuantizeLinear" for node in integer.graph.node) == 1
    outputs = [
        ModelSession.open(graph.SerializeToString()).run_once(pixels)["out"]
        for graph in (source, integer)
    ]
    assert np.abs(outputs[0] - outputs[1]).max() <= 0.51


def test_float_image_has_no_pixel_front() -> None:
    """Nothing can be skipped where no bytes come in."""
    assert pixel_front(_model([_conv("image", "out", "first")])) is None


def test_a_float_model_with_a_dequantized_image_is_float() -> None:
    """Reading bytes is no sign of an INT8 model; constant INT8 weights are."""
    front = helper.make_node("DequantizeLinear", ["image", "scale", "zero"], ["real"], "real")
    refuse_integers(_model([front, _conv("real", "out", "first")], TensorProto.UINT8), "model")
    refuse_integers(onnx.load_from_string(layered_bundle().model), "model")
