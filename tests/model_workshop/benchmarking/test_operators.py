"""The trace of a run, summed up."""

from __future__ import annotations

import pytest

from model_workshop.benchmarking.operators import last_runs, profile_bundle, summarize
from tests.support.bundles import make_bundle

Event = dict[str, object]


def kernel(name: str, op: str, ts: int, dur: int, *dtypes: str) -> Event:
    """An event as the runtime writes it."""
    first, last = ([{dtype: [1]}] for dtype in dtypes)
    details = {
        "op_name": op,
        "provider": "CPUExecutionProvider",
        "input_type_shape": first,
        "output_type_shape": last,
    }
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": details}


def run(ts: int) -> Event:
    """The event of a whole run."""
    return {"cat": "Session", "name": "model_run", "ts": ts, "dur": 90, "args": {}}


def test_every_kernel_of_a_real_run_is_counted() -> None:
    """Shares add up to one, by node and by kind, costliest first."""
    profile = profile_bundle(make_bundle(), runs=4)
    for costs in (profile.by_type, profile.by_node):
        assert sum(cost.share for cost in costs) == pytest.approx(1.0)
        assert [cost.seconds for cost in costs] == sorted(
            (cost.seconds for cost in costs), reverse=True
        )
    assert sum(cost.calls for cost in profile.by_type) == len(profile.by_node)
    convolutions = [cost for cost in profile.by_type if cost.op_type in {"Conv", "FusedConv"}]
    assert [(cost.calls, cost.dtype) for cost in convolutions] == [(2, "float")]
    assert {node.provider for node in profile.assigned} == {"CPUExecutionProvider"}


def test_dtypes_tell_what_stays_float() -> None:
    """The same operator on integers and on floats makes two lines, and a conversion names both."""
    events = [
        kernel("a", "Conv", 1, 30, "uint8", "uint8"),
        kernel("b", "Conv", 2, 60, "float", "float"),
        kernel("c", "QuantizeLinear", 3, 10, "float", "uint8"),
    ]
    found = summarize(events, 1, ())
    assert [(cost.op_type, cost.dtype, round(cost.share, 2)) for cost in found.by_type] == [
        ("Conv", "float", 0.6),
        ("Conv", "uint8", 0.3),
        ("QuantizeLinear", "float→uint8", 0.1),
    ]


def test_one_disturbed_run_does_not_change_a_kernels_cost() -> None:
    """The median over runs."""
    events = [kernel("a", "Conv", ts, dur, "float", "float") for ts, dur in ((1, 5), (2, 900))]
    events += [kernel("a", "Conv", 3, 5, "float", "float")]
    assert summarize(events, 3, ()).by_node[0].seconds == pytest.approx(5e-6)


def test_runs_that_warmed_up_are_left_out() -> None:
    """Only kernels from the start of the last runs on."""
    events = []
    for ts in (0, 100, 200):
        events += [run(ts), kernel("a", "Conv", ts + 1, 10, "float", "float")]
    assert [event["ts"] for event in last_runs(events, 2)] == [101, 201]
