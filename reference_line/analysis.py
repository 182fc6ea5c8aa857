"""What is computed after a run, so that it disturbs nothing: truth, three systems, JPEG sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foundation.errors import HardcaseError
from foundation.escalations import Encoding
from foundation.images import encode_image
from reference_line.demo_plan import DemoPlan, seen_in_training
from reference_line.evaluation import (
    Claim,
    Evaluation,
    RunTruth,
    edge_claims,
    evaluate,
    final_claims,
    run_truth,
)
from reference_line.every_proposal import ask_about_every_proposal
from reference_line.line import Line
from reference_line.live import Sample
from reference_line.records import RunRecords
from reference_line.summary import (
    JPEG_QUALITY,
    SCHEMA,
    describe_bundle,
    describe_evaluation,
    gap_recovered,
    measure,
)

_JPEG_SAMPLE_EVERY = 30


@dataclass(frozen=True, slots=True)
class Analysis:
    """A finished run, judged.

    Attributes:
        records: what the edge node wrote.
        samples: what its metrics said while it ran, in order of time.
        truth: of the run.
        edge: what the edge alone reported.
        hybrid: what stood after the verdicts.
        cloud: what the cloud would have reported, asked about every proposal.
        summary: the figures, as they are saved.
    """

    records: RunRecords
    samples: Sequence[Sample]
    truth: RunTruth
    edge: Evaluation
    hybrid: Evaluation
    cloud: Evaluation
    summary: dict[str, Any]


def analyse(
    plan: DemoPlan, records: RunRecords, samples: Sequence[Sample], *, threads: int
) -> Analysis:
    """Judges a finished run; `threads` is what the cloud model may use now.

    Raises:
        HardcaseError: the edge node wrote no frame.
    """
    if not records.frames:
        raise HardcaseError(
            f"The edge node published no frame: {plan.results} has none",
            remedy="Let the demo run for longer",
        )
    line = Line(plan.seed)
    limits, detections_min = plan.edge_bundle.thresholds, plan.edge.tracks.min_detections
    systems: tuple[list[Claim], ...] = (
        edge_claims(records.tracks, limits, detections_min=detections_min),
        final_claims(records.tracks),
        ask_about_every_proposal(records, line, plan.cloud_bundle, plan.edge, threads=threads),
    )
    last = records.frames[-1].sequence
    truth = run_truth(line, last, [claim for claims in systems for claim in claims])
    edge, hybrid, cloud = (evaluate(claims, truth) for claims in systems)
    sizes = jpeg_sizes(line, last + 1)
    summary = {
        "schema": SCHEMA,
        "seed": plan.seed,
        "seed_seen_in_training": seen_in_training(plan),
        "duration_s": round(plan.frames / plan.edge.source.frame_rate_hz, 3),
        "with_escalator": plan.escalator is not None,
        "deadline_s": plan.edge.deadline.deadline_s,
        **measure(records, samples[-1] if samples else None),
        "uplink_budget_bytes_per_s": plan.edge.policy.uplink_bytes_per_s,
        "all_frames_jpeg_bytes": round(sum(sizes) / len(sizes) * len(records.frames)),
        "all_frames_jpeg": {"quality": JPEG_QUALITY, "frames_measured": len(sizes)},
        "defects": len(truth.defects),
        "edge_only": describe_evaluation(edge),
        "hybrid": describe_evaluation(hybrid),
        "cloud_only": describe_evaluation(cloud),
        "gap_recovered": gap_recovered(edge.overall, hybrid.overall, cloud.overall),
        "bundles": {
            "edge": describe_bundle(plan.edge_bundle),
            "cloud": describe_bundle(plan.cloud_bundle),
        },
    }
    return Analysis(records, samples, truth, edge, hybrid, cloud, summary)


def jpeg_sizes(line: Line, frames: int) -> list[int]:
    """Bytes of whole frames as JPEG, of every thirtieth frame of a run: a second apart."""
    return [
        len(encode_image(line.frame(index), Encoding.JPEG, JPEG_QUALITY))
        for index in range(0, frames, _JPEG_SAMPLE_EVERY)
    ]
