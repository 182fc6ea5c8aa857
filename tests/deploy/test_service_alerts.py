"""The alert rules about services, frames and escalation, on made-up series."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_node.values import FrameOutcome
from tests.support.alerts import (
    EDGE,
    ESCALATOR,
    Case,
    Series,
    constant,
    firing,
    lately,
    rising,
)

CAMERA = f'{EDGE},camera="cam"'
DROPPED = f"edge_results_dropped_total{{{CAMERA}}}"
RESETS = f'edge_node_budget_events_total{{{CAMERA},event="reset"}}'
FAILURES = f"escalator_inference_failures_total{{{ESCALATOR}}}"


def up(job: str, value: float) -> list[Series]:
    """Whether a job's service answers."""
    return [constant(f'up{{job="{job}",instance="x"}}', value)]


def frames(*, live: bool = True, **per_minute: float) -> list[Series]:
    """Frames of a camera by outcome; those of an unpaced file wait for nothing."""
    counted = [
        rising(f'edge_frames_total{{{CAMERA},outcome="{one}"}}', per_minute.get(one, 0))
        for one in FrameOutcome
    ]
    wait = f'edge_stage_seconds_sum{{{CAMERA},stage="wait"}}'
    return [*counted, rising(wait, 0.01 if live else 0)]


def starts(*, minutes: int) -> list[Series]:
    """A service that is started anew once in so many minutes."""
    samples = [f"{minute // minutes * minutes * 60}" for minute in range(181)]
    series = f"process_start_time_seconds{{{EDGE}}}"
    return [{"series": series, "values": " ".join(samples)}]


def link(*, connected: float, errors: float) -> list[Series]:
    """A link, and how often per minute it failed."""
    return [
        constant(f"edge_uplink_connected{{{EDGE}}}", connected),
        rising(f'edge_uplink_errors_total{{{EDGE},reason="unavailable"}}', errors),
        rising(f'edge_uplink_errors_total{{{EDGE},reason="identity"}}', 0),
    ]


def escalations(**per_minute: float) -> list[Series]:
    """Escalations of a camera by how they ended."""
    return [
        rising(f'edge_escalations_total{{{CAMERA},reason="uncertain",outcome="{outcome}"}}', rate)
        for outcome, rate in per_minute.items()
    ]


def requests(**per_minute: float) -> list[Series]:
    """Requests of an escalator by how they ended."""
    return [
        rising(f'escalator_requests_total{{{ESCALATOR},outcome="{outcome}"}}', rate)
        for outcome, rate in per_minute.items()
    ]


def ended(end: str, per_minute: float) -> list[Series]:
    """Streams of an escalator that ended in some way."""
    return [rising(f'escalator_streams_ended_total{{{ESCALATOR},end="{end}"}}', per_minute)]


def budget(event: str, per_minute: float) -> list[Series]:
    """What happens to the budget that cameras share."""
    return [rising(f'edge_node_budget_events_total{{{CAMERA},event="{event}"}}', per_minute)]


SERVICES = [
    Case("HardcaseServiceDown", up("edge", 0), True),
    Case("HardcaseServiceDown", up("escalator", 0), True),
    Case("HardcaseServiceDown", up("edge", 1), False),
    Case("HardcaseServiceDown", up("prometheus", 0), False),
    Case(
        "HardcaseServiceDown",
        [lately('up{job="edge",instance="x"}', 0, since_min=2, before=1)],
        False,
    ),
    Case("HardcaseServiceRestarts", starts(minutes=5), True),
    Case("HardcaseServiceRestarts", starts(minutes=60), False),
]

FRAMES = [
    Case("HardcaseNoFrames", frames(), True),
    Case("HardcaseNoFrames", frames(failed=6), True),
    Case("HardcaseNoFrames", frames(on_time=1), False),
    Case("HardcaseNoFrames", frames(coasted=1800), False),
    Case("HardcaseFramesFail", frames(on_time=1770, failed=30), True),
    Case("HardcaseFramesFail", frames(on_time=1790, failed=10), False),
    Case("HardcaseFramesFail", frames(on_time=900, coasted=900), False),
    Case("HardcaseFramesNotOnTime", frames(on_time=1800), False),
    Case("HardcaseFramesNotOnTime", frames(on_time=1750, late=50), False),
    Case("HardcaseFramesNotOnTime", frames(on_time=1600, late=200), True),
    Case("HardcaseFramesNotOnTime", frames(on_time=1600, coasted=200), True),
    Case("HardcaseFramesNotOnTime", frames(on_time=1600, dropped=200), True),
    Case("HardcaseFramesNotOnTime", frames(on_time=1600, failed=200), False),
    Case("HardcaseFramesNotOnTime", frames(live=False, late=300), False),
    Case("HardcaseResultsDropped", [rising(DROPPED, 1)], True),
    Case("HardcaseResultsDropped", [constant(DROPPED, 0)], False),
    # Dropped before the first scrape, and never again.
    Case("HardcaseResultsDropped", [lately(DROPPED, 3, since_min=10)], True),
    Case("HardcaseResultsDropped", [lately(DROPPED, 3, since_min=30)], False),
    Case("HardcaseResultsDropped", [lately(DROPPED, 0, since_min=10)], False),
]

ESCALATION = [
    Case("HardcaseLinkDown", link(connected=0, errors=60), True),
    Case("HardcaseLinkDown", link(connected=1, errors=0.1), False),
    # No escalator is configured.
    Case("HardcaseLinkDown", link(connected=0, errors=0), False),
    Case("HardcaseEscalationsLost", escalations(answered=8, expired=1, evicted=1), True),
    Case("HardcaseEscalationsLost", escalations(answered=19, expired=1), False),
    Case("HardcaseEscalationsLost", escalations(answered=5, shed=5, failed=5), False),
    Case("HardcaseEscalationsLost", escalations(answered=8, expired=2, withheld=90), True),
    Case("HardcaseEscalationsLost", escalations(answered=8, expired=2, forgone=90), True),
    Case("HardcaseEscalationsLost", escalations(answered=8, forgone=90), False),
    Case("HardcaseEscalationsLost", escalations(answered=0, expired=0), False),
    Case("HardcaseNodeBudgetUnwritten", budget("unwritten", 1), True),
    Case("HardcaseNodeBudgetUnwritten", budget("contended", 1), False),
    Case("HardcaseNodeBudgetReset", budget("reset", 0.1), True),
    Case("HardcaseNodeBudgetReset", budget("contended", 1), False),
    # Once after a machine was started anew, whether a scrape came before or after.
    Case("HardcaseNodeBudgetReset", [lately(RESETS, 1, since_min=10)], False),
    Case("HardcaseNodeBudgetReset", [lately(RESETS, 1, since_min=10, before=0)], False),
    Case("HardcaseNodeBudgetReset", [lately(RESETS, 2, since_min=10, before=1)], True),
    Case("HardcaseNodeBudgetReset", [constant(RESETS, 2)], False),
    Case("HardcaseEscalatorOverloaded", requests(answered=80, shed=15, expired=5), True),
    Case("HardcaseEscalatorOverloaded", requests(answered=95, shed=5), False),
    Case("HardcaseEscalatorOverloaded", requests(answered=50, duplicate=50), False),
    Case("HardcaseEscalatorOverloaded", requests(answered=0, shed=0), False),
    Case("HardcaseInferenceFails", [rising(FAILURES, 0.1)], True),
    Case("HardcaseInferenceFails", [constant(FAILURES, 3)], False),
    Case("HardcaseContractBroken", ended("malformed", 1), True),
    Case("HardcaseContractBroken", ended("slow", 1), True),
    Case("HardcaseContractBroken", ended("slow", 0.1), False),
    Case("HardcaseContractBroken", ended("closed", 10), False),
]

CASES = [*SERVICES, *FRAMES, *ESCALATION]


@pytest.mark.parametrize(("alert", "series", "fires"), CASES)
def test_alert_fires_when_it_should(
    repository: Path, tmp_path: Path, alert: str, series: list[Series], fires: bool
) -> None:
    """And not otherwise."""
    assert firing(repository, tmp_path, series, alert) is fires
