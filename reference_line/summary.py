"""The figures of a finished run as one JSON object; docs/demo.md lists its keys. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from edge_node.values import Effect, EscalationOutcome, FrameOutcome
from foundation.bundle import Bundle
from reference_line.evaluation import Evaluation, Judgement, Score
from reference_line.live import Sample, quantiles
from reference_line.records import RunRecords

SCHEMA = "hardcase-demo/1"
JPEG_QUALITY = 85
_PUBLISHED = (FrameOutcome.ON_TIME, FrameOutcome.LATE, FrameOutcome.COASTED)


def measure(records: RunRecords, last_sample: Sample | None) -> dict[str, Any]:
    """What happened in a run: frames, escalations, verdicts and times.

    Args:
        records: everything that the edge node wrote.
        last_sample: the last that its metrics said before it ended; it may have ended a moment
            later, so that the records know of further ends.
    """
    outcomes = Counter(frame.outcome for frame in records.frames)
    latencies = [frame.latency_s for frame in records.frames if frame.outcome in _PUBLISHED]
    verdicts = {one.escalation_id: one.verdict_latency_s for one in records.corrections}
    escalations = count_escalations(records, last_sample)
    by_outcome: Counter[str] = Counter()
    by_reason: Counter[str] = Counter()
    for (reason, outcome), count in escalations.items():
        by_outcome[outcome] += count
        by_reason[reason] += count
    frames = {str(outcome): outcomes[outcome] for outcome in FrameOutcome}
    return {
        "frames": frames,
        "deadline_hit_share": frames["on_time"] / max(1, sum(frames.values())),
        "frame_latency_s": _quantiles(latencies, 0.5, 0.95, 0.99),
        "escalations": {
            "total": sum(by_outcome.values()),
            "by_outcome": {str(outcome): by_outcome[outcome] for outcome in EscalationOutcome},
            "by_reason": dict(sorted(by_reason.items())),
        },
        "verdicts": {
            str(effect): sum(one.effect == effect for one in records.corrections)
            for effect in Effect
        },
        "verdict_latency_s": _quantiles(list(verdicts.values()), 0.5, 0.95),
        "uplink_bytes": last_sample.uplink_bytes if last_sample else 0,
    }


def count_escalations(
    records: RunRecords, last_sample: Sample | None
) -> dict[tuple[str, str], int]:
    """Escalations by reason and outcome, each once.

    The counters miss what ended after they were last read, the records what was dropped for a slow
    disk. Neither counts anything twice, so the larger number is right.
    """
    recorded = Counter((one.reason, one.outcome) for one in records.escalations)
    counted = last_sample.escalations if last_sample else {}
    keys = sorted({*recorded, *counted})
    return {key: max(recorded[key], counted.get(key, 0)) for key in keys}


def describe_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """Precision, recall and F1, overall, per class and recall by size."""
    kinds = Counter(one.judgement for one in evaluation.judged)
    return {
        **describe_score(evaluation.overall),
        "claims": {str(kind): kinds[kind] for kind in Judgement},
        "classes": {label: describe_score(score) for label, score in evaluation.classes.items()},
        "recall_by_size": [
            {
                "low_px": size.low_px,
                "high_px": size.high_px if size.high_px < float("inf") else None,
                "found": size.found,
                "defects": size.defects,
            }
            for size in evaluation.sizes
        ],
    }


def describe_score(score: Score) -> dict[str, float]:
    """Ratios to four digits, with the counts they come from."""
    return {
        "precision": round(score.precision, 4),
        "recall": round(score.recall, 4),
        "f1": round(score.f1, 4),
        "right": score.right,
        "wrong": score.wrong,
        "missed": score.missed,
    }


def gap_recovered(edge: Score, hybrid: Score, cloud: Score) -> float | None:
    """Which share of the way from edge to cloud escalation went; None where there is no way."""
    gap = cloud.f1 - edge.f1
    return round((hybrid.f1 - edge.f1) / gap, 4) if gap > 0 else None


def describe_bundle(bundle: Bundle) -> Mapping[str, str]:
    """Which bundle it was."""
    return {"name": bundle.info.name, "version": bundle.info.version, "digest": bundle.digest}


def _quantiles(values_s: list[float], *shares: float) -> dict[str, float | None]:
    found = quantiles(values_s, *shares)
    return {f"p{share * 100:g}": found.get(f"p{share * 100:g}") for share in shares}
