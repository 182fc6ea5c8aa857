from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from model_workshop.arithmetic import Arithmetic, count_arithmetic

WEIGHTS = np.ones((4, 4, 1, 1), np.int8)
SCALE = "scale zero"


def node(kind: str, inputs: str, output: str) -> NodeProto:
    """A node without attributes."""
    return helper.make_node(kind, inputs.split(), [output])


def count(*nodes: NodeProto, output: str) -> Arithmetic:
    """What a graph of these nodes computes with."""
    constants: dict[str, np.ndarray] = {
        "weights": WEIGHTS,
        "float_weights": WEIGHTS.astype(np.float32),
        "scale": np.array(0.1, np.float32),
        "zero": np.array(0, np.int8),
    }
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 2, 2])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return count_arithmetic(helper.make_model(graph))


ENTRY = (node("QuantizeLinear", f"x {SCALE}", "q"), node("DequantizeLinear", f"q {SCALE}", "d"))
INTEGERS = node("DequantizeLinear", f"weights {SCALE}", "w")
EXIT = (
    node("QuantizeLinear", f"last {SCALE}", "lq"),
    node("DequantizeLinear", f"lq {SCALE}", "y"),
)


def test_a_product_between_conversions_is_integer_with_its_activation() -> None:
    """The file says float32; the runtime fuses all of it into one integer kernel."""
    found = count(
        *(*ENTRY, INTEGERS, node("Conv", "d w", "c"), node("Relu", "c", "last"), *EXIT), output="y"
    )
    assert (found.integer_products, found.products) == (1, 1)
    assert (found.integer_nodes, found.float_nodes, found.conversion_nodes) == (2, 0, 5)


def test_a_product_whose_result_stays_float_is_float() -> None:
    """Half a frame of conversions is computed in float, and slower than without any."""
    found = count(*ENTRY, INTEGERS, node("Conv", "d w", "y"), output="y")
    assert (found.integer_products, found.products) == (0, 1)


def test_a_product_with_float_weights_is_float() -> None:
    """Only the activations were quantized."""
    found = count(*ENTRY, node("Conv", "d float_weights", "last"), *EXIT, output="y")
    assert (found.integer_products, found.products) == (0, 1)


def test_what_only_some_outputs_of_quantize_is_float() -> None:
    """One consumer that wants floats keeps the kernel float."""
    found = count(
        *(*ENTRY, INTEGERS, node("Conv", "d w", "last"), *EXIT, node("Exp", "last", "e")),
        output="e",
    )
    assert (found.integer_products, found.float_nodes) == (0, 2)


def test_operators_on_integers_are_integer_by_name() -> None:
    """Dynamic quantization and the old operator format need no conversions around them."""
    found = count(
        node("DynamicQuantizeLinear", "x", "q"), node("ConvInteger", "q weights", "y"), output="y"
    )
    assert (found.integer_products, found.products, found.conversion_nodes) == (1, 1, 1)


def test_weights_are_counted_in_bytes_by_type() -> None:
    """Where the size of a file goes."""
    found = count(node("Identity", "x", "y"), output="y")
    assert found.weight_bytes == {"float32": 64 + 4, "int8": 16 + 1}
    assert found.float_nodes == 0
