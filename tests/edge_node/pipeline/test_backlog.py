"""When the backlog may be sent, and when it is looked at again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_node.config import EdgeSettings
from edge_node.pipeline.backlog import Backlog
from tests.edge_node.spooled import Spooled, kept
from tests.support.clock import ManualClock

SIZE_BYTES = 4_000


def backlog_of(folder: Path, clock: ManualClock, **spool: Any) -> Backlog:
    """A backlog of two escalations at a hundred bytes a second."""
    policy = {"uplink_bytes_per_s": 1_000.0, "uplink_bytes_burst": 60_000.0}
    settings = EdgeSettings.model_validate({"policy": policy, "spool": spool})
    found = Backlog(settings, Spooled(folder).keeper, clock)
    found.note([kept("a", size=SIZE_BYTES), kept("b", size=SIZE_BYTES)])
    return found


def test_it_is_looked_at_again_when_its_bytes_are_there(tmp_path: Path) -> None:
    """Not twenty times a second for nothing."""
    clock = ManualClock()
    backlog = backlog_of(tmp_path, clock)
    first = backlog.next(clock.now_ns())
    assert first is not None
    backlog.release(first.escalation.id)
    assert backlog.next(clock.now_ns()) is None
    waited_s = 0.0
    while backlog.next(clock.now_ns()) is None:
        wait_s = backlog.wait_s(clock.now_ns())
        assert wait_s == 1.0 or waited_s > 15
        clock.advance_s(wait_s)
        waited_s += wait_s
    assert waited_s == pytest.approx((2 * SIZE_BYTES - 6_000) / 100, rel=0.25)


def test_outside_its_windows_nothing_is_sent(tmp_path: Path) -> None:
    """It is looked at once a second."""
    clock = ManualClock()
    hour = (clock.now_ns() // 3_600_000_000_000 + 3) % 24
    backlog = backlog_of(tmp_path, clock, windows=[f"{hour:02}:00-{hour:02}:01"])
    assert backlog.next(clock.now_ns()) is None
    assert backlog.wait_s(clock.now_ns()) == 1.0
