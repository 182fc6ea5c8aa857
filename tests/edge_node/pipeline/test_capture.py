"""What the capture thread makes of what a source says."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from edge_node.metrics import EdgeMetrics
from edge_node.pipeline.capture import Capture
from edge_node.pipeline.inbox import LaneInbox
from foundation.clock import after_s
from tests.support.clock import ManualClock
from tests.support.lane import BLANK, RecordList, ScriptedSource


@pytest.mark.parametrize(
    ("ahead_s", "counts_s", "told"), [(60.0, 0.0, 1), (0.0005, 0.0, 0), (-0.02, -0.02, 0)]
)
def test_picture_of_the_future_counts_as_captured_now(
    caplog: pytest.LogCaptureFixture, ahead_s: float, counts_s: float, told: int
) -> None:
    """The clock of a source runs ahead: a late result would look as if it were on time."""
    clock, inbox = ManualClock(), LaneInbox()
    ahead = ManualClock(after_s(clock.now_ns(), ahead_s))
    source = ScriptedSource([BLANK] * 3, ahead, live=True)
    metrics = EdgeMetrics(CollectorRegistry(), "cam")
    Capture(source, inbox, RecordList(), metrics, clock).run()
    arrival = inbox.take(ended_before=False).arrival
    assert arrival is not None
    assert arrival.captured_at_ns == after_s(clock.now_ns(), counts_s)
    assert len(caplog.messages) == told
