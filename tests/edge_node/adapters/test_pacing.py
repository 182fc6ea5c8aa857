"""Pacing by a driven clock: what is waited out and what is not."""

from __future__ import annotations

import logging
import math
import threading

import pytest

from edge_node.adapters.sources.pacing import Pacer
from foundation.clock import elapsed_s
from tests.support.clock import ManualClock


class Waits(threading.Event):
    """Waits by moving the clock on.

    Attributes:
        waited_s: How long, each time.
    """

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.waited_s: list[float] = []
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        """Passes the time."""
        assert timeout is not None
        self.waited_s.append(timeout)
        self._clock.advance_s(timeout)
        return False


def play(*moments_s: float) -> tuple[list[float], list[float]]:
    """Seconds from the start at which these moments count as captured, and what was waited."""
    clock = ManualClock()
    pacer, stop, start_ns = Pacer(clock), Waits(clock), clock.now_ns()
    captured = []
    for moment_s in moments_s:
        captured_at_ns = pacer.wait(moment_s, stop)
        assert captured_at_ns is not None
        captured.append(round(elapsed_s(start_ns, captured_at_ns), 6))
    return captured, [round(one, 6) for one in stop.waited_s]


def test_moments_are_waited_for() -> None:
    """Also a pause of some seconds."""
    captured, waited = play(0.0, 0.04, 0.08, 5.0)
    assert captured == [0.0, 0.04, 0.08, 5.0]
    assert waited == [0.04, 0.04, 4.92]


@pytest.mark.parametrize("jump_s", [36_000.0, 11.0, -0.5, -36_000.0])
def test_jump_is_not_waited_out_and_said_once(
    caplog: pytest.LogCaptureFixture, jump_s: float
) -> None:
    """The schedule begins anew there, however often timestamps jump."""
    with caplog.at_level(logging.WARNING):
        captured, waited = play(
            *(0.0, 0.04), *(jump_s + 0.04, jump_s + 0.08), *(2 * jump_s + 0.08, 2 * jump_s + 0.12)
        )
    assert captured == [0.0, 0.04, 0.04, 0.08, 0.08, 0.12]
    assert waited == [0.04] * 3
    (said,) = caplog.messages
    assert "jump" in said


def test_steady_slow_pace_is_kept() -> None:
    """A picture a minute: only the first step is taken for a jump."""
    captured, _ = play(*(60.0 * number for number in range(5)))
    assert captured == [0.0, 0.0, 60.0, 120.0, 180.0]


@pytest.mark.parametrize("step_s", [1e10, 1e200, math.inf])
def test_steps_without_end_are_never_waited_out(step_s: float) -> None:
    """However alike they are: of a rate of nearly nothing, or of damaged timestamps."""
    captured, waited = play(0.0, *(step_s * number for number in (1, 2, 3)))
    assert captured == [0.0] * 4
    assert waited == []


def test_source_that_falls_behind_starts_anew() -> None:
    """No frame of the past is handed out."""
    clock = ManualClock()
    pacer, stop = Pacer(clock), Waits(clock)
    pacer.wait(0.0, stop)
    clock.advance_s(1.0)
    assert pacer.wait(0.04, stop) == clock.now_ns()
    pacer.wait(0.08, stop)
    assert stop.waited_s == [pytest.approx(0.04)]
