"""What the cloud would have said about every proposal: the yardstick for what escalation buys.

Computed after a run, so that it disturbs nothing: the frames are rendered again, a crop is cut
around every track of the edge where the edge was surest of it, compressed and decompressed as the
uplink does, and judged with the code that the two services run. What is missing to the real thing
is what the live system has to live with: budgets, expiry, and tracks that it does not ask about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cloud_escalator.config import LimitSettings
from cloud_escalator.logic.crops import Reporter
from edge_node.config import EdgeSettings
from edge_node.logic.associate import distances
from edge_node.logic.fuse import judge
from edge_node.values import Effect, Question, Subject
from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.escalations import Encoding, LabelledBoxes
from foundation.frames import Boxes, Pixels
from foundation.geometry import crop_region
from foundation.images import decode_image
from foundation.levels import Level, encode_at
from reference_line.evaluation import Claim
from reference_line.line import Line
from reference_line.records import Box, FrameRecord, RunRecords, TrackRecord

LEVEL = Level(Encoding.WEBP, 80)
"""How the crops of the yardstick are encoded: as those that the cloud model was trained on."""
_BATCH = 8
_LIMITS = LimitSettings()


@dataclass(frozen=True, slots=True)
class _Crop:
    question: Question
    pixels: Pixels


def ask_about_every_proposal(
    records: RunRecords, line: Line, cloud: Bundle, settings: EdgeSettings, *, threads: int
) -> list[Claim]:
    """What would be reported if the cloud had been asked about every track of the edge.

    Args:
        records: of the run; its tracks are the proposals.
        line: the same line that the camera showed.
        cloud: the bundle that answered.
        settings: those of the edge node; crop and fusion are used.
        threads: of one inference.
    """
    detector = Detector.open(cloud, intra_op_threads=threads, batch_max=_BATCH)
    reporter = Reporter(cloud.labels, cloud.calibration, cloud.thresholds)
    proposals = [track for track in records.tracks if is_proposal(track, settings)]
    claims: list[Claim] = []
    added: list[Claim] = []
    for batch in _batches(_cut(proposals, records, line, settings)):
        found = detector.detect_batch([crop.pixels for crop in batch])
        for crop, detections in zip(batch, found, strict=True):
            answer = reporter.report(detections, crop.question.region, crop.pixels)
            for claim, is_new in _claims(crop.question, answer, settings):
                (added if is_new else claims).append(claim)
    seen = [(track.edge.box, track.edge.sequence) for track in proposals if track.edge is not None]
    return claims + _newly_seen(added, seen, line, settings.fusion.centre_distance_max)


def is_proposal(track: TrackRecord, settings: EdgeSettings) -> bool:
    """Whether the edge by itself made a track of it, rather than being shown it by the cloud."""
    return track.edge is not None and track.detections >= settings.tracks.min_detections


def _cut(
    proposals: Sequence[TrackRecord], records: RunRecords, line: Line, settings: EdgeSettings
) -> Iterator[_Crop]:
    """Crops around the tracks, in order of their frames: a line keeps few boards."""
    frames = {frame.sequence: frame for frame in records.frames}
    known = {track.track_id for track in proposals}
    shown, pixels = -1, np.zeros((1, 1, 3), np.uint8)
    for track in sorted(proposals, key=lambda track: track.edge.sequence if track.edge else 0):
        edge = track.edge
        if edge is None:
            continue
        if edge.sequence != shown:
            shown, pixels = edge.sequence, line.frame(edge.sequence)
        height, width = pixels.shape[:2]
        region = crop_region(
            np.array(edge.box, np.float32),
            margin=settings.crop.margin,
            side_min_px=settings.crop.side_min_px,
            frame_width=width,
            frame_height=height,
        )
        question = Question(
            id=str(track.track_id),
            sequence=edge.sequence,
            captured_at_ns=0,
            expires_at_ns=0,
            region=region,
            frame_width=width,
            frame_height=height,
            subjects=(
                Subject(
                    track.track_id, np.array(edge.box, np.float32), edge.label, edge.score, True
                ),
                *_neighbours(frames.get(edge.sequence), track.track_id, known),
            ),
            reason="every",
            level=str(LEVEL),
            gain=0.0,
            scene_moves=True,
        )
        crop = pixels[region.y1 : region.y2, region.x1 : region.x2]
        yield _Crop(question, as_transmitted(crop, LEVEL))


def as_transmitted(crop: Pixels, level: Level) -> Pixels:
    """A crop as the cloud sees it, (H, W, 3) uint8 BGR."""
    return decode_image(
        encode_at(crop, level),
        level.encoding,
        side_min_px=_LIMITS.image_side_min_px,
        pixels_max=_LIMITS.image_pixels_max,
    )


def _neighbours(frame: FrameRecord | None, track_id: int, known: set[int]) -> Iterator[Subject]:
    """The other tracks of the frame; what the crop shows of them is no new object."""
    for track in frame.tracks if frame else ():
        if track.track_id != track_id and track.track_id in known:
            box = np.array(track.box, np.float32)
            yield Subject(track.track_id, box, track.label, track.score, False)


def _claims(
    question: Question, answer: LabelledBoxes, settings: EdgeSettings
) -> Iterator[tuple[Claim, bool]]:
    """Claims about the track asked about, and (True) about objects that have no track."""
    judged = judge(question, answer, settings.fusion)
    for finding in judged.findings:
        is_new = finding.effect is Effect.ADDED
        if finding.effect in (Effect.REFUTED, Effect.UNDECIDED) or not (
            is_new or finding.subject == 0
        ):
            continue
        whole = finding.standing.whole
        seen: Sequence[float] = question.subjects[0].box.tolist()
        x1, y1, x2, y2 = judged.boxes[finding.detection] if whole else seen
        yield (
            Claim(
                question.subjects[0].track_id,
                answer.labels[finding.detection],
                float(answer.scores[finding.detection]),
                (x1, y1, x2, y2),
                question.sequence,
            ),
            is_new,
        )


def _newly_seen(
    added: Sequence[Claim], seen: Sequence[tuple[Box, int]], line: Line, distance_max: float
) -> list[Claim]:
    """Drops added objects that have a track at another time, or were added from another crop.

    Places are compared in coordinates of the belt, in which nothing moves.
    """
    places = [_on_belt(box, sequence, line) for box, sequence in seen]
    kept = []
    for claim in sorted(added, key=lambda claim: -claim.score):
        place = _on_belt(claim.box, claim.sequence, line)
        taken = np.array(places, np.float32).reshape(-1, 4)
        if not len(taken) or distances(taken, place[None]).min() > distance_max:
            kept.append(claim)
            places.append(place)
    return kept


def _on_belt(box: Box, sequence: int, line: Line) -> Boxes:
    shift = line.position(sequence)
    return np.array([box[0] + shift, box[1], box[2] + shift, box[3]], np.float32)


def _batches(crops: Iterator[_Crop]) -> Iterator[list[_Crop]]:
    batch: list[_Crop] = []
    for crop in crops:
        batch.append(crop)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
