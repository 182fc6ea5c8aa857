from __future__ import annotations

from reference_line.evaluation import Claim
from reference_line.track_thresholds import above, total_score


def _claim(score: float) -> Claim:
    return Claim(1, "open", score, (0.0, 0.0, 10.0, 10.0), 0)


def test_threshold_keeps_equal_scores_and_every_run() -> None:
    """A run without claims stays a run, and a score at the threshold is kept."""
    kept = above([[_claim(0.4), _claim(0.5)], []], 0.5)
    assert [[claim.score for claim in run] for run in kept] == [[0.5], []]


def test_nothing_seen_scores_nothing() -> None:
    """No runs, no counts, and no division by zero."""
    score = total_score([], [])
    assert (score.right, score.wrong, score.missed, score.f1) == (0, 0, 0, 0.0)
