"""Crops that turn out larger than they are worth, as the frame lane sees them."""

from __future__ import annotations

import math

import pytest

from edge_node.values import EscalationOutcome
from foundation.gains import FRAMING_BYTES, PROPOSAL_BYTES, LevelCosts, variance_gains
from tests.edge_node.pipeline.bench import HEIGHT, WIDTH, AskingBench, seen

NOTHING = seen()
DOUBTFUL = seen((300, 200, 0.45))
SURE = seen((300, 200, 0.95))
TIGHT = {"uplink_bytes_per_s": 1e-3, "uplink_bytes_burst": 16_000.0}


def test_forgone_crop_costs_nothing_and_is_offered_anew_at_what_it_takes() -> None:
    """Without a pause; its bytes and its request are given back."""
    both = seen((300, 200, 0.45), (500, 100, 0.45))
    bench = AskingBench({"requests_per_s": 1e-6, "requests_burst": 2.0, **TIGHT})
    bench.frames(6, both)
    heavy, usual = bench.offered
    bench.encode(usual, 1_000)
    predicted = bench.count("edge_policy_forecast_bytes_total")
    bench.forgo(heavy, 3_000)
    assert bench.count("edge_policy_forecast_bytes_total") == predicted
    around = FRAMING_BYTES + PROPOSAL_BYTES
    assert bench.count("edge_escalation_bytes_total") == 1_000 + around
    bench.frame(both)
    again = bench.offered[2]
    assert again.question.subjects[0].track_id == heavy.question.subjects[0].track_id
    left = TIGHT["uplink_bytes_burst"] - (1_000 + around) - around
    assert again.image_bytes_max == pytest.approx(left, abs=2)
    bench.encode(again, 3_000)
    predicted = bench.count("edge_policy_forecast_bytes_total") - predicted
    assert predicted == pytest.approx(3_000 + around, rel=0.05)
    assert bench.count("edge_policy_asks_total", reason="uncertain") == 3


def test_what_one_crop_of_a_track_took_fades() -> None:
    """Seconds later it shows something else; and what is sent says nothing of other crops."""
    bench = AskingBench({"cooldown_s": 0.0})
    bench.frames(6, DOUBTFUL)
    bench.encode(bench.offered[0], 1_000)
    bench.end(bench.offered[0], EscalationOutcome.EXPIRED)
    predicted = []
    for pause_s in (0.0, 60.0):
        bench.frame(DOUBTFUL)
        bench.forgo(bench.offered[-1], 4_000)
        bench.clock.advance_s(pause_s)
        bench.frame(DOUBTFUL)
        before = bench.count("edge_policy_forecast_bytes_total")
        bench.encode(bench.offered[-1], 4_000)
        predicted.append(bench.count("edge_policy_forecast_bytes_total") - before)
        bench.end(bench.offered[-1], EscalationOutcome.EXPIRED)
    at_once, later = predicted
    assert at_once == pytest.approx(4_000, rel=0.1)
    assert later < 0.8 * at_once


def test_track_that_is_forgone_twice_is_taken_for_what_it_is() -> None:
    """The second crop is compared with what others take, not with what was feared of it."""
    bench = AskingBench({"cooldown_s": 0.0})
    bench.frames(6, DOUBTFUL)
    bench.encode(bench.offered[0], 1_000)
    bench.end(bench.offered[0], EscalationOutcome.EXPIRED)
    for _ in range(2):
        bench.frame(DOUBTFUL)
        bench.forgo(bench.offered[-1], 4_000)
    bench.frame(DOUBTFUL)
    before = bench.count("edge_policy_forecast_bytes_total")
    bench.encode(bench.offered[-1], 4_000)
    predicted = bench.count("edge_policy_forecast_bytes_total") - before
    assert predicted == pytest.approx(4_000 + FRAMING_BYTES + PROPOSAL_BYTES, rel=0.05)


@pytest.mark.parametrize("size_bytes", [9_000, 20_000])
def test_crop_above_the_burst_is_sent_as_soon_as_that_is_known(size_bytes: int) -> None:
    """It waits for a full bucket, as ever, and is not encoded over and over."""
    bench = AskingBench({"uplink_bytes_per_s": 2_000.0, "uplink_bytes_burst": 8_000.0})
    fits = []
    for _ in range(200):
        heard = len(bench.offered)
        bench.frame(DOUBTFUL)
        for candidate in bench.offered[heard:]:
            fits.append(size_bytes <= candidate.image_bytes_max)
            if fits[-1]:
                bench.encode(candidate, size_bytes)
            else:
                bench.forgo(candidate, size_bytes)
    assert fits == [False, True]


def test_what_shows_no_track_or_the_whole_frame_is_not_forgone() -> None:
    """However large it turns out."""
    frames_only = variance_gains([LevelCosts(level="webp80")], crop_share=0.0, frame_share=1.0)
    bench = AskingBench({"uplink_bytes_burst": 60_000.0}, gains=frames_only)
    bench.frames(6, DOUBTFUL)
    (whole,) = bench.offered
    assert (whole.question.region.width, whole.question.region.height) == (WIDTH, HEIGHT)
    gaps = AskingBench({"missed": {"background": False}, **TIGHT})
    gaps.frames(20, SURE)
    gaps.frames(4, NOTHING)
    assert [candidate.question.reason for candidate in gaps.offered] == ["gap"]
    for candidate in (whole, *gaps.offered):
        assert candidate.image_bytes_max == math.inf
