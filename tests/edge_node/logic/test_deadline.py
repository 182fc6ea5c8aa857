"""The deadline gate: what it refuses, and that it never refuses for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_node.logic.deadline import DeadlineGate

SECONDS = st.floats(0.0, 0.2)


def gate(coasts_max: int = 30) -> DeadlineGate:
    """A gate with a small window."""
    return DeadlineGate(quantile=0.9, window_frames=16, coasts_max=coasts_max)


def test_frame_is_started_when_nothing_is_known() -> None:
    """Without evidence a frame is worth trying, even a late one is evidence."""
    assert gate().admits(0.001)


def test_prediction_is_a_high_percentile() -> None:
    """One outlier of sixteen does not count, several do."""
    one = gate()
    for cost_s in [0.01] * 15 + [0.5]:
        one.finish(cost_s, met=True)
    assert one.predicted_s == 0.01
    for _ in range(2):
        one.finish(0.5, met=False)
    assert one.predicted_s == 0.5


def test_frame_that_cannot_make_it_is_refused() -> None:
    """Predicted cost above the time left."""
    slow = gate()
    for _ in range(16):
        slow.finish(0.02, met=True)
    assert not slow.admits(0.015)
    assert slow.admits(0.025)


def test_gate_recovers_after_one_good_probe() -> None:
    """A burst of slow frames is forgotten as soon as a probe meets its deadline."""
    burst = gate()
    for _ in range(16):
        burst.finish(0.1, met=False)
    refused = 0
    while not burst.admits(0.033):
        refused += 1
    assert refused == 2
    burst.finish(0.01, met=True)
    assert burst.predicted_s == 0.01
    assert burst.admits(0.033)


def test_failed_probes_become_rarer() -> None:
    """A machine that is really too slow spends ever less on late frames, down to a floor."""
    slow = gate(coasts_max=10)
    for _ in range(16):
        slow.finish(0.1, met=False)
    waits = []
    for _ in range(5):
        refused = 0
        while not slow.admits(0.033):
            refused += 1
        slow.finish(0.1, met=False)
        waits.append(refused)
    assert waits == [2, 4, 8, 10, 10]


@given(
    st.lists(st.tuples(SECONDS, st.floats(-0.1, 0.1)), max_size=200),
    st.integers(1, 12),
)
def test_gate_never_refuses_more_than_its_limit_in_a_row(
    frames: list[tuple[float, float]], coasts_max: int
) -> None:
    """Whatever frames cost and however late they come, the edge does not stay blind."""
    any_gate = gate(coasts_max)
    refused = 0
    for cost_s, left_s in frames:
        if any_gate.admits(left_s):
            any_gate.finish(cost_s, met=cost_s <= left_s)
            refused = 0
        else:
            refused += 1
        assert refused <= coasts_max


@given(st.lists(SECONDS, min_size=1, max_size=100))
def test_prediction_is_one_of_the_costs_remembered(costs: list[float]) -> None:
    """The sorted window and the ring never drift apart."""
    any_gate = gate()
    for cost_s in costs:
        any_gate.finish(cost_s, met=True)
    assert any_gate.predicted_s in costs[-16:]
    assert any_gate.predicted_s >= sorted(costs[-16:])[len(costs[-16:]) // 2]
