"""Small pictures of what was asked and of what went wrong, each with both opinions and the truth.

Pictures are cut from frames rendered again and travel inside the page as data URIs.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_node.values import Effect
from foundation.escalations import Encoding, Region
from foundation.frames import Pixels
from foundation.geometry import crop_region, iou_matrix
from foundation.images import encode_image
from reference_line.analysis import Analysis
from reference_line.evaluation import IOU_MIN, Judgement
from reference_line.every_proposal import LEVEL, as_transmitted
from reference_line.line import Line
from reference_line.optics import FRAME_HEIGHT, FRAME_WIDTH
from reference_line.records import Box, CorrectionRecord, Opinion, TrackRecord
from reference_line.truth import LABELS

VIEW_PX = 72
"""Side of the part of a crop that a card shows; the defects are 5 to 16 pixels."""
_QUALITY = 90
_NEAR_IOU = 0.02
"""From here on a false alarm is shown beside the defect that it touches."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A box on a card, in pixels of its picture."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Card:
    """One picture with its story.

    Attributes:
        picture: data URI, `VIEW_PX` square.
        outlines: boxes on it.
        badge: one word.
        tone: colour class of the badge.
        facts: names and words below.
        good: whether the end is right.
    """

    picture: str
    outlines: tuple[Outline, ...]
    badge: str
    tone: str
    facts: tuple[tuple[str, str], ...]
    good: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Cards under one heading; `total` counts those that were left out, too."""

    title: str
    text: str
    total: int
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class _Sketch:
    """A card before its picture is cut."""

    sequence: int
    middle: Box
    outlines: tuple[tuple[str, Box], ...]
    badge: str
    tone: str
    facts: tuple[tuple[str, str], ...]
    good: bool


def build_gallery(analysis: Analysis, line: Line, *, cards_max: int) -> list[Group]:
    """Groups of cards: verdicts by what they were worth, then what was wrong in the end."""
    worth: dict[tuple[bool, bool], list[_Sketch]] = {}
    reported = {one.claim.track_id: one.claim.label for one in analysis.edge.judged}
    tracks = {track.track_id: track for track in analysis.records.tracks}
    for correction in analysis.records.corrections:
        track = tracks.get(correction.track_id)
        if track is None:
            continue
        before, after, sketch = _sketch_verdict(correction, track, reported, line)
        worth.setdefault((before, after), []).append(sketch)
    groups = [
        (
            "Set right by the cloud",
            "Alone, the edge would have been wrong here.",
            worth.get((False, True), []),
        ),
        (
            "Wrong in spite of the verdict",
            "Both were wrong, or the cloud undid what the edge had right.",
            worth.get((True, False), []) + worth.get((False, False), []),
        ),
        (
            "Reported in the end, and wrong",
            "False alarms that stood when the run was over.",
            list(_sketch_false_alarms(analysis, line)),
        ),
        (
            "Missed in the end",
            "Defects that nothing reported.",
            list(_sketch_missed(analysis, line)),
        ),
        (
            "Agreed",
            "The edge was right but in doubt, and the cloud said so.",
            worth.get((True, True), []),
        ),
    ]
    chosen = [(title, text, len(all_), spread(all_, cards_max)) for title, text, all_ in groups]
    pictures = _cut([sketch for *_, sketches in chosen for sketch in sketches], line)
    return [
        Group(title, text, total, tuple(pictures[id(sketch)] for sketch in sketches))
        for title, text, total, sketches in chosen
    ]


def spread(sketches: Sequence[_Sketch], count: int) -> list[_Sketch]:
    """At most `count` of them, evenly over the run."""
    if len(sketches) <= count:
        return list(sketches)
    return [sketches[i * len(sketches) // count] for i in range(count)]


def _sketch_verdict(
    correction: CorrectionRecord, track: TrackRecord, reported: dict[int, str], line: Line
) -> tuple[bool, bool, _Sketch]:
    """Whether the edge was right, whether the cloud is, and the card."""
    place = correction.cloud or correction.edge or track.edge
    if place is None:
        raise ValueError(f"correction of track {correction.track_id} without any opinion")
    about = correction.edge.box if correction.edge else place.box
    truth = _truth_at((about, place.box), correction.sequence, line)
    label = truth[0] if truth else None
    before = reported.get(correction.track_id)
    after = correction.cloud.label if correction.cloud else None
    if correction.effect == Effect.UNDECIDED:
        after = before
    outlines = [("truth", truth[1])] if truth else []
    if correction.edge:
        outlines.append(("edge", correction.edge.box))
    if correction.cloud:
        outlines.append(("cloud", correction.cloud.box))
    sketch = _Sketch(
        correction.sequence,
        place.box,
        tuple(outlines),
        correction.effect,
        correction.effect,
        (
            ("edge", _words(correction.edge, "nothing")),
            ("cloud", _words(correction.cloud, "nothing here")),
            ("truth", _label_words(label)),
            ("after", f"{correction.verdict_latency_s * 1000:.0f} ms, {correction.reason}"),
        ),
        after == label,
    )
    return before == label, after == label, sketch


def _sketch_false_alarms(analysis: Analysis, line: Line) -> Iterable[_Sketch]:
    reasons = {
        Judgement.DUPLICATE: "reported a second time",
        Judgement.WRONG_CLASS: "a defect of another class",
        Judgement.NOTHING_THERE: "no defect here",
    }
    tracks = {track.track_id: track for track in analysis.records.tracks}
    for one in analysis.hybrid.judged:
        if one.judgement not in reasons:
            continue
        claim, track = one.claim, tracks.get(one.claim.track_id)
        defect = analysis.truth.defects.get(one.defect_id) if one.defect_id is not None else None
        source = track.final_source if track else "edge"
        why = reasons[one.judgement] + (f": {_label_words(defect.label)}" if defect else "")
        near = _truth_at((claim.box,), claim.sequence, line, iou_min=_NEAR_IOU)
        if near and not defect:
            why = f"{_label_words(near[0])}, but the boxes overlap too little"
        yield _Sketch(
            claim.sequence,
            claim.box,
            ((source, claim.box), *([("truth", near[1])] if near else [])),
            one.judgement.replace("_", " "),
            "refuted",
            (
                ("said", f"{_label_words(claim.label)} {claim.score:.2f} (by the {source})"),
                ("truth", why),
                ("asked", _asked(track)),
            ),
            False,
        )


def _sketch_missed(analysis: Analysis, line: Line) -> Iterable[_Sketch]:
    found = {one.defect_id for one in analysis.hybrid.judged if one.judgement is Judgement.RIGHT}
    for defect in analysis.truth.defects.values():
        if defect.defect_id in found:
            continue
        last = min(defect.last_frame, analysis.records.frames[-1].sequence)
        middle = (max(0, defect.first_frame) + last) // 2
        truth = line.truth(middle)
        x1, y1, x2, y2 = truth.boxes[truth.defect_ids == defect.defect_id][0].tolist()
        box = (x1, y1, x2, y2)
        yield _Sketch(
            middle,
            box,
            (("truth", box),),
            "missed",
            "refuted",
            (
                ("truth", f"{_label_words(defect.label)}, {defect.size_px:.1f} px"),
                ("why", _why_missed(box, middle, analysis, line)),
            ),
            False,
        )


def _why_missed(box: Box, sequence: int, analysis: Analysis, line: Line) -> str:
    """What became of the edge's proposal at this place, if there was one."""
    shift = line.position(sequence)
    for track in analysis.records.tracks:
        opinion = track.edge or track.cloud
        if opinion is None:
            continue
        moved = shift - line.position(opinion.sequence)
        there = np.array(opinion.box, np.float32) - np.array([moved, 0, moved, 0], np.float32)
        if iou_matrix(np.array([box], np.float32), there[None])[0, 0] < IOU_MIN:
            continue
        if track.final_label is None:
            asked = track.escalation is not None and track.escalation.outcome == "answered"
            return "refuted by the cloud" if asked else f"doubted, {_asked(track)}"
        return f"reported as {_label_words(track.final_label)}"
    return "the edge proposed nothing"


def _asked(track: TrackRecord | None) -> str:
    if track is None or track.escalation is None:
        return "not asked about"
    return f"asked, {track.escalation.outcome}"


def _truth_at(
    boxes: Sequence[Box], sequence: int, line: Line, *, iou_min: float = IOU_MIN
) -> tuple[str, Box] | None:
    """The defect that overlaps one of the boxes most, with its box."""
    truth = line.truth(sequence)
    overlaps = iou_matrix(np.array(boxes, np.float32), truth.boxes).max(axis=0, initial=0.0)
    if not len(truth) or overlaps.max() < iou_min:
        return None
    best = int(overlaps.argmax())
    x1, y1, x2, y2 = truth.boxes[best].tolist()
    return LABELS[int(truth.class_ids[best])], (x1, y1, x2, y2)


def _cut(sketches: Sequence[_Sketch], line: Line) -> dict[int, Card]:
    """Cards by the identity of their sketch; frames are rendered in order, each once."""
    cards: dict[int, Card] = {}
    shown, pixels = -1, np.zeros((1, 1, 3), np.uint8)
    for sketch in sorted(sketches, key=lambda sketch: sketch.sequence):
        if sketch.sequence != shown:
            shown, pixels = sketch.sequence, line.frame(sketch.sequence)
        view = crop_region(
            np.array(sketch.middle, np.float32),
            margin=1.0,
            side_min_px=VIEW_PX,
            frame_width=FRAME_WIDTH,
            frame_height=FRAME_HEIGHT,
        )
        sent = as_transmitted(pixels[view.y1 : view.y2, view.x1 : view.x2], LEVEL)
        cards[id(sketch)] = Card(
            _data_uri(sent),
            tuple(_outline(kind, box, view) for kind, box in sketch.outlines),
            sketch.badge,
            sketch.tone,
            sketch.facts,
            sketch.good,
        )
    return cards


def _outline(kind: str, box: Box, view: Region) -> Outline:
    scale = VIEW_PX / view.width
    x1, y1, x2, y2 = box
    return Outline(
        kind,
        round((x1 - view.x1) * scale, 1),
        round((y1 - view.y1) * scale, 1),
        round((x2 - x1) * scale, 1),
        round((y2 - y1) * scale, 1),
    )


def _data_uri(pixels: Pixels) -> str:
    data = encode_image(pixels, Encoding.JPEG, _QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _words(opinion: Opinion | None, absent: str) -> str:
    return f"{_label_words(opinion.label)} {opinion.score:.2f}" if opinion else absent


def _label_words(label: str | None) -> str:
    return "no defect" if label is None else label.replace("_", " ")
