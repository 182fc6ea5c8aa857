"""A line that the edge model has looked at once, to be played to any number of policies.

Boards are rendered and frames made once for all policies that are played together; what the edge
model detects is kept in a file, by bundle, line and number of frames.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_node.adapters.model import BundleModel
from edge_node.config import AuditSettings, DetectorSettings, EdgeSettings, PolicySettings
from foundation.bundle import Bundle
from foundation.escalations import Encoding
from foundation.frames import Detections, Pixels
from foundation.images import encode_image
from reference_line.evaluation import Claim, RunTruth, edge_claims, run_truth
from reference_line.line import Line
from reference_line.records import RunRecords, read_records
from reference_line.summary import JPEG_QUALITY
from replay.recorded_lane import LaneRun, RecordedLane, RecordedModel

FRAME_RATE_HZ = 30.0
_JPEG_SAMPLE_EVERY = 30
UNLIMITED = PolicySettings(
    requests_per_s=10_000.0,
    requests_burst=10_000.0,
    uplink_bytes_per_s=1e9,
    uplink_bytes_burst=1e9,
    encode_share=16.0,
    audit=AuditSettings(audits_per_h=0.0),
)
"""Whatever may be asked is asked; without audits, which are drawn by lot."""


@dataclass(frozen=True, slots=True)
class RecordedLine:
    """A line with what the edge detected in it.

    Attributes:
        seed: of the line.
        frames: how many.
        model: what the edge bundle detects.
        jpeg_bytes: all frames as JPEG at quality 85, from every thirtieth.
        known: the line that positions and truth are read from; it remembers every defect.
    """

    seed: int
    frames: int
    model: RecordedModel
    jpeg_bytes: float
    known: Line

    @property
    def duration_s(self) -> float:
        """How long the line runs."""
        return self.frames / FRAME_RATE_HZ

    @property
    def boards(self) -> int:
        """Boards that are seen, in part at least."""
        return self.known.boards_in(self.frames - 1).stop

    def pictures(self) -> Iterator[tuple[int, Pixels]]:
        """Sequence numbers and frames; a frame is overwritten by the next."""
        line = Line(self.seed)
        pixels = line.frame(0)
        for sequence in range(self.frames):
            yield sequence, line.frame(sequence, pixels)

    def truth(self, claims: Iterable[Claim]) -> RunTruth:
        """What judging these claims needs."""
        return run_truth(self.known, self.frames - 1, claims)


def settings_of(bundle: Path, policy: PolicySettings = UNLIMITED) -> EdgeSettings:
    """Settings of an edge node with this bundle, all else as by default."""
    return EdgeSettings(detector=DetectorSettings(bundle=str(bundle)), policy=policy)


def record_line(bundle: Path, seed: int, frames: int, work: Path) -> RecordedLine:
    """Runs the edge model over a line, or reads what it detected when it last did."""
    model = BundleModel.open(settings_of(bundle))
    recorded = RecordedModel(model.labels, model.limits, model.detect)
    floor = model.bundle.info.postprocess.score_floor
    path = work / f"detections-{model.bundle.scores_digest[:12]}-{floor:g}-{seed}-{frames}.npz"
    if path.exists():
        with np.load(path) as file:
            jpeg_bytes = float(file["jpeg_bytes"])
            recorded.found.update(_unpacked(file))
        return RecordedLine(seed, frames, recorded, jpeg_bytes, Line(seed))
    sizes = []
    line = RecordedLine(seed, frames, recorded, 0.0, Line(seed))
    for sequence, pixels in line.pictures():
        recorded.sequence = sequence
        recorded.detect(pixels)
        if sequence % _JPEG_SAMPLE_EVERY == 0:
            sizes.append(len(encode_image(pixels, Encoding.JPEG, JPEG_QUALITY)))
    jpeg_bytes = sum(sizes) / len(sizes) * frames
    work.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}")
    np.savez_compressed(scratch, jpeg_bytes=jpeg_bytes, **_packed(recorded, frames))
    scratch.replace(path)
    return RecordedLine(seed, frames, recorded, jpeg_bytes, Line(seed))


def play(recorded: RecordedLine, lanes: Mapping[str, RecordedLane]) -> dict[str, LaneRun]:
    """Plays all frames of a line to some lanes, side by side, and ends them."""
    for sequence, pixels in recorded.pictures():
        for lane in lanes.values():
            lane.step(sequence, pixels)
    return {name: lane.end() for name, lane in lanes.items()}


def read_lines(lines: Iterable[Mapping[str, Any]]) -> RunRecords:
    """Result lines that were never written, read back."""
    return read_records(json.dumps(line) for line in lines)


def claims_of_edge(records: RunRecords, bundle: Bundle, settings: EdgeSettings) -> list[Claim]:
    """What the edge alone reports."""
    return edge_claims(
        records.tracks, bundle.thresholds, detections_min=settings.tracks.min_detections
    )


def _packed(model: RecordedModel, frames: int) -> dict[str, Any]:
    found = [model.found[sequence] for sequence in range(frames)]
    return {
        "counts": np.array([len(one) for one in found], np.int32),
        "boxes": np.concatenate([one.boxes for one in found]),
        "scores": np.concatenate([one.scores for one in found]),
        "class_ids": np.concatenate([one.class_ids for one in found]),
    }


def _unpacked(file: Mapping[str, Any]) -> dict[int, Detections]:
    ends = np.cumsum(file["counts"])[:-1]
    columns: Sequence[Any] = [np.split(file[k], ends) for k in ("boxes", "scores", "class_ids")]
    rows = zip(*columns, strict=True)
    return {sequence: Detections(*row) for sequence, row in enumerate(rows)}
