"""What an edge keeps of the labelled line if it asks about nothing, with the truth about each.

Shared by the benchmarks of the audit and of the target risk. A line is played once for each bundle
and read from the work folder from then on.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_node.config import EdgeSettings
from edge_node.logic.associate import distances
from foundation.bundle import Bundle
from foundation.frames import Boxes
from foundation.geometry import iou_matrix
from foundation.settings import load_settings
from reference_line.board import BOARD_PITCH_PX
from reference_line.demo_plan import BUNDLES
from reference_line.evaluation import IOU_MIN
from reference_line.every_proposal import ask_about_every_proposal, is_proposal
from reference_line.line import Line
from reference_line.records import Opinion, read_records
from reference_line.track_thresholds import LineRun, run_line
from reference_line.truth import LABELS

EDGE_BUNDLE = BUNDLES / "edge-reference"
CLOUD_BUNDLE = BUNDLES / "cloud-reference"
WORK = Path(tempfile.gettempdir()) / "hardcase-kept-lines"
"""Where played lines are kept unless told otherwise."""


@dataclass(frozen=True, slots=True)
class KeptTrack:
    """A track of the edge alone.

    Attributes:
        track_id: Unique in its line.
        ended_at: Sequence number of its last frame.
        board: Number of the board it is on.
        score: Its best calibrated score.
        reported: Whether the edge stands by it.
        wrong: Whether that is an error: reported, and no such defect there; or not, and one there.
        wrong_for_cloud: The same with the cloud's answer for the truth; None if it was not asked.
    """

    track_id: int
    ended_at: int
    board: int
    score: float
    reported: bool
    wrong: bool
    wrong_for_cloud: bool | None


@dataclass(frozen=True, slots=True)
class KeptFrame:
    """What was tracked and what was there: boxes (N, 4) and (M, 4) in source pixels."""

    tracked: Boxes
    defects: Boxes


@dataclass(frozen=True, slots=True)
class KeptLine:
    """One line, played once.

    Attributes:
        frames: In order of sequence, from 0.
        tracks: In order of their ends.
        boards: How many boards were seen, those without a track included.
    """

    frames: tuple[KeptFrame, ...]
    tracks: tuple[KeptTrack, ...]
    boards: int


def play(seed: int, frames: int, work: Path, *, cloud: bool = False) -> KeptLine:
    """Plays a line, or reads what was played, and judges every track."""
    bundle = Bundle.open(EDGE_BUNDLE)
    folder = work / f"{bundle.digest[:12]}-{seed}-{frames}"
    if not folder.exists():
        work.mkdir(parents=True, exist_ok=True)
        partial = folder.with_suffix(".partial")
        run_line(EDGE_BUNDLE, seed, partial, frames=frames)
        partial.rename(folder)
    with (folder / "results.jsonl").open(encoding="utf-8") as lines:
        records = read_records(lines)
    run = LineRun(Line(seed), load_settings(folder / "edge.yaml", EdgeSettings), records)
    answers = cloud_answers(run, folder) if cloud else None
    tracks = _judge(run, bundle, answers)
    return KeptLine(_frames(run), tuple(tracks), run.line.boards_in(run.last_sequence).stop)


def cloud_answers(run: LineRun, folder: Path) -> dict[int, list[str]]:
    """By track, the labels that the cloud finds in its place; from the folder if it was asked."""
    bundle = Bundle.open(CLOUD_BUNDLE)
    path = folder / f"cloud-{bundle.digest[:12]}.json"
    if not path.exists():
        places = {track.track_id: track.edge for track in run.records.tracks}
        answers: dict[int, list[str]] = {track_id: [] for track_id in places}
        for claim in ask_about_every_proposal(
            run.records, run.line, bundle, run.settings, threads=1
        ):
            edge = places[claim.track_id]
            if edge is not None and _same_place(edge, claim.box, run.settings):
                answers[claim.track_id].append(claim.label)
        path.write_text(json.dumps(answers), encoding="utf-8")
    document = json.loads(path.read_text(encoding="utf-8"))
    return {int(track_id): labels for track_id, labels in document.items()}


def _same_place(
    edge: Opinion, box: tuple[float, float, float, float], settings: EdgeSettings
) -> bool:
    apart = distances(np.array([edge.box], np.float32), np.array([box], np.float32))
    return bool(apart[0, 0] <= settings.fusion.centre_distance_max)


def _judge(run: LineRun, bundle: Bundle, answers: dict[int, list[str]] | None) -> list[KeptTrack]:
    kept = []
    # In order of the frames that are looked at, because a line keeps only the boards it used last.
    for track in sorted(run.records.tracks, key=lambda t: t.edge.sequence if t.edge else -1):
        edge = track.edge
        if edge is None or not is_proposal(track, run.settings):
            continue
        truth = run.line.truth(edge.sequence)
        overlaps = iou_matrix(np.array([edge.box], np.float32), truth.boxes)[0]
        there = [LABELS[k] for k in truth.class_ids[overlaps >= IOU_MIN].tolist()]
        found = None if answers is None else answers[track.track_id]
        reported = edge.score >= bundle.thresholds.of(edge.label).report
        kept.append(
            KeptTrack(
                track.track_id,
                track.last_sequence,
                _board(run.line, edge),
                edge.score,
                reported,
                _is_wrong(edge.label, there, reported=reported),
                None if found is None else _is_wrong(edge.label, found, reported=reported),
            )
        )
    return sorted(kept, key=lambda track: (track.ended_at, track.track_id))


def _is_wrong(label: str, there: Sequence[str], *, reported: bool) -> bool:
    return label not in there if reported else bool(there)


def _board(line: Line, edge: Opinion) -> int:
    centre = line.position(edge.sequence) + (edge.box[0] + edge.box[2]) / 2
    return int(centre // BOARD_PITCH_PX)


def _frames(run: LineRun) -> tuple[KeptFrame, ...]:
    return tuple(
        KeptFrame(
            np.array([track.box for track in frame.tracks], np.float32).reshape(-1, 4),
            run.line.truth(frame.sequence).boxes,
        )
        for frame in run.records.frames
    )
