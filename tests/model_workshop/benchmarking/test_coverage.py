"""Which node ran where; what a declared provider leaves is a failure."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from foundation.errors import ConfigError
from foundation.session import AssignedNode, available_providers
from model_workshop.benchmarking.configurations import CPU, OPENVINO
from model_workshop.benchmarking.coverage import cover
from model_workshop.benchmarking.operators import KernelCost, OperatorProfile, profile_bundle
from tests.support.bundles import make_bundle
from tests.support.graphs import replace_model

REMOTE = "AzureExecutionProvider"
needs_openvino = pytest.mark.skipif(
    OPENVINO not in available_providers(), reason="OpenVINO is not installed"
)


def with_an_odd_operator(model: bytes) -> bytes:
    """The squares model with an operator that changes nothing and that OpenVINO does not have."""
    graph = onnx.load_from_string(model)
    pool = next(node for node in graph.graph.node if node.op_type == "AveragePool")
    odd = helper.make_node("LpPool", [pool.input[0]], ["odd"], kernel_shape=[1, 1], p=1)
    pool.input[0] = "odd"
    graph.graph.node.insert(list(graph.graph.node).index(pool), odd)
    return bytes(graph.SerializeToString())


def test_the_processor_takes_everything() -> None:
    """In a real run, by number of nodes and by time."""
    coverage = cover(CPU, profile_bundle(make_bundle(), runs=2))
    coverage.check()
    assert [(share.provider, share.node_share) for share in coverage.shares] == [(CPU, 1.0)]
    assert coverage.shares[0].time_share == pytest.approx(1.0)
    assert coverage.left == ()


def test_a_provider_that_takes_nothing_is_a_failure() -> None:
    """In a real run: this provider serves remote models only and leaves all to the processor."""
    if REMOTE not in available_providers():
        pytest.skip(f"this build of the runtime has no {REMOTE}")
    coverage = cover(REMOTE, profile_bundle(make_bundle(), providers=(REMOTE,), runs=2))
    assert [share.provider for share in coverage.shares] == [CPU]
    with pytest.raises(ConfigError, match=r"takes 0 of the model's \d nodes") as caught:
        coverage.check()
    assert "Conv (2)" in caught.value.message
    assert "--providers without azure" in caught.value.remedy


@needs_openvino
def test_openvino_takes_the_whole_of_a_plain_graph() -> None:
    """In a real run."""
    coverage = cover(OPENVINO, profile_bundle(make_bundle(), providers=(OPENVINO,), runs=2))
    coverage.check()
    assert [share.provider for share in coverage.shares] == [OPENVINO]


@needs_openvino
def test_openvino_leaves_an_operator_that_it_lacks() -> None:
    """In a real run; the operator is named."""
    bundle = make_bundle()
    odd = replace_model(bundle, with_an_odd_operator(bundle.model))
    coverage = cover(OPENVINO, profile_bundle(odd, providers=(OPENVINO,), runs=2))
    assert {share.provider for share in coverage.shares} == {OPENVINO, CPU}
    with pytest.raises(ConfigError, match="LpPool"):
        coverage.check()


def test_a_graph_shared_out_is_a_failure_that_names_what_was_left() -> None:
    """Commonest first, and no list without an end."""
    cuda = "CUDAExecutionProvider"
    operators = ["Shape", "Shape", "Gather", "NonZero", "Unique", "Cast", "TopK", "If"]
    nodes = [AssignedNode(CPU, op, f"n{i}") for i, op in enumerate(operators)]
    nodes += [AssignedNode(cuda, "Conv", f"c{i}") for i in range(8)]
    costs = (
        KernelCost("Conv", "float", cuda, "c", 1, 3e-3, 0.75),
        KernelCost("If", "bool", CPU, "n", 1, 1e-3, 0.25),
    )
    coverage = cover(cuda, OperatorProfile(1, costs, costs, tuple(nodes)))
    assert [(s.provider, s.nodes, s.time_share) for s in coverage.shares] == [
        (CPU, 8, 0.25),
        (cuda, 8, 0.75),
    ]
    with pytest.raises(ConfigError, match=r"8 of the model's 16 nodes .*Shape \(2\)") as caught:
        coverage.check()
    assert "2 more kinds" in caught.value.message
