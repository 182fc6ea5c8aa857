"""What could be reached by whoever knew the truth: greedy by right claims gained per byte.

Not a bound: F1 is not additive and neither are claims. One oracle chooses among the crops that the
edge's tracks make it cut, the other among crops around all defects besides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_node.values import Candidate, Question
from foundation.escalations import LabelledBoxes, Region
from foundation.frames import Boxes
from foundation.levels import Level
from reference_line.asked import Answered
from reference_line.evaluation import Claim, Judgement, judge_claims
from reference_line.fit_asking import EverythingAsked, worth_by_track
from reference_line.line import Line

SIDE_PX = 192


@dataclass(frozen=True, slots=True)
class Option:
    """A crop at a level, with what it is worth: right claims less wrong ones.

    Attributes:
        place: options of one place exclude each other.
    """

    place: int
    worth: float
    answered: Answered


def options_of_tracks(asked: EverythingAsked, levels: Sequence[str]) -> list[Option]:
    """The crops of the edge's tracks at all levels."""
    hindsight, recorded = asked.hindsight, asked.recorded
    before = worth_by_track(hindsight.edge, recorded.truth(hindsight.edge))
    options = []
    for level in levels:
        answered = [asked.answered(one, level) for one in asked.candidates]
        claims = hindsight.claims(answered)
        after = worth_by_track(claims, recorded.truth(claims))
        seen_in = {(claim.track_id, claim.sequence) for claim in claims}
        for place, one in enumerate(answered):
            question = one.question
            # A crop may decide about a track that it merely shows.
            ids = {
                subject.track_id
                for subject in question.subjects
                if subject.asked or (subject.track_id, question.sequence) in seen_in
            }
            change = sum(after.get(i, 0) - before.get(i, 0) for i in ids)
            options.append(Option(place, float(change), one))
    return options


def options_of_defects(asked: EverythingAsked, levels: Sequence[str]) -> list[Option]:
    """Crops around the defects that asking about all tracks leaves unfound."""
    hindsight, recorded = asked.hindsight, asked.recorded
    claims = hindsight.claims([asked.answered(one, levels[0]) for one in asked.candidates])
    truth = recorded.truth(claims)
    found = {
        one.defect_id for one in judge_claims(claims, truth) if one.judgement is Judgement.RIGHT
    }
    line = Line(recorded.seed)
    options = []
    missed = [d for d in truth.defects.values() if d.defect_id not in found]
    for number, defect in enumerate(sorted(missed, key=lambda d: d.first_frame)):
        middle = (max(0, defect.first_frame) + min(defect.last_frame, recorded.frames - 1)) // 2
        there = recorded.known.truth(middle)
        at = np.flatnonzero(there.defect_ids == defect.defect_id)
        pixels = line.frame(middle)
        for text in levels:
            level = Level.parse(text)
            side_px = SIDE_PX if level.side_px is None else level.side_px
            region = _around(there.boxes[int(at[0])], side_px, pixels.shape[1], pixels.shape[0])
            question = Question(
                id=f"{defect.defect_id:032x}",
                sequence=middle,
                captured_at_ns=1,
                expires_at_ns=2,
                region=region,
                frame_width=pixels.shape[1],
                frame_height=pixels.shape[0],
                subjects=(),
                reason="oracle",
                level=text,
                gain=0.0,
                scene_moves=True,
            )
            crop = pixels[region.y1 : region.y2, region.x1 : region.x2].copy()
            candidate = Candidate(question, crop, LabelledBoxes.empty(), level, 0.0, math.inf)
            one = asked.answered(candidate, text)
            worth = _worth_of(hindsight.claims([one]), asked)
            options.append(Option(-1 - number, worth, one))
    return options


def choose(options: Sequence[Option], budget_bytes: float) -> list[Answered]:
    """Options of most worth per byte within a budget, one of each place, none that loses."""
    order = sorted(options, key=lambda one: -one.worth / one.answered.sent_bytes)
    taken: dict[int, Answered] = {}
    spent = 0
    for one in order:
        size = one.answered.sent_bytes
        if one.worth > 0 and one.place not in taken and spent + size <= budget_bytes:
            taken[one.place] = one.answered
            spent += size
    return list(taken.values())


def _worth_of(claims: Sequence[Claim], asked: EverythingAsked) -> float:
    """What an answer by itself adds to what the edge reports."""
    edge = asked.hindsight.edge
    after = sum(worth_by_track(claims, asked.recorded.truth(claims)).values())
    return float(after - sum(worth_by_track(edge, asked.recorded.truth(edge)).values()))


def _around(box: Boxes, side_px: int, width: int, height: int) -> Region:
    x = int(np.clip(round((box[0] + box[2] - side_px) / 2), 0, width - side_px))
    y = int(np.clip(round((box[1] + box[3] - side_px) / 2), 0, height - side_px))
    return Region(x, y, x + side_px, y + side_px)
