"""Verdicts about one frame leave the same tracks, in whatever order they come."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_node.logic.plan import Ask
from edge_node.logic.policy import Decision
from edge_node.logic.reconcile import Reconciler
from edge_node.logic.reporting import Reporting
from edge_node.logic.rows import labels_of
from edge_node.logic.spending import Reservation
from edge_node.values import Reason
from foundation.escalations import LabelledBoxes, Region
from tests.edge_node.logic.scene import (
    HEIGHT,
    LABELS,
    NOW_NS,
    REPORT,
    WIDTH,
    answered,
    found,
    open_question,
    reconciler_for,
    tracker_with,
)

CELL = 64
PLACES = tuple((448 + CELL * x, 256 + CELL * y) for x in range(3) for y in range(3))


@dataclass(frozen=True)
class Crop:
    """One crop, whether the track of each place is asked about, and what the cloud sees in it."""

    region: Region
    asked: tuple[bool, ...]
    cloud: LabelledBoxes


@st.composite
def crops(draw: st.DrawFn, tracked: int) -> Crop:
    """A crop somewhere over the places; the cloud sees most objects, not quite where they are."""
    left, top = draw(st.integers(380, 540)), draw(st.integers(190, 350))
    side = draw(st.sampled_from([96, 150, 192]))
    region = Region(left, top, left + side, top + side)
    rows = []
    for x, y in PLACES:
        if not draw(st.booleans()):
            continue
        dx, dy = draw(st.integers(-2, 2)), draw(st.integers(-2, 2))
        label, score = draw(st.sampled_from([*LABELS, "dent"])), draw(st.integers(10, 99)) / 100
        box = (
            max(x + dx - 8, region.x1),
            max(y + dy - 8, region.y1),
            min(x + dx + 8, region.x2),
            min(y + dy + 8, region.y2),
        )
        if box[0] < box[2] and box[1] < box[3]:
            rows.append((*box, score, label))
    inside = [_inside(place, region) for place in PLACES[:tracked]]
    asked = tuple(draw(st.booleans()) and lies_in for lies_in in inside)
    return Crop(region, asked, found(*rows))


def _inside(place: tuple[int, int], region: Region) -> bool:
    x, y = place
    return region.x1 <= x - 8 and x + 8 <= region.x2 and region.y1 <= y - 8 and y + 8 <= region.y2


def fused(tracked: int, views: list[Crop], order: tuple[int, ...], *, late: bool) -> list[Any]:
    """The tracks after the verdicts have come in this order, without their numbers."""
    tracker = tracker_with(*[(x - 8, y - 8, x + 8, y + 8) for x, y in PLACES[:tracked]])
    reconciler = reconciler_for(tracker)
    for number, view in enumerate(views):
        _ask(reconciler, number, view)
    records = []
    if late:
        records = reconciler.close_tracks(tracker.end_all())
    for number in order:
        asked = open_question(reconciler, f"q{number}")
        fusion = reconciler.end(answered(asked, views[number].cloud))
        assert fusion.question is not None
        records += fusion.revised
    last = {record["track_id"]: record for record in records}
    ended = [
        (record["edge"], record["cloud"], record["refuted"], record["final"])
        for record in last.values()
        if record["detections"]
    ]
    rows = tracker.rows
    alive = zip(
        rows["box"].round(3).tolist(),
        labels_of(rows).tolist(),
        Reporting(REPORT).scores(rows).round(5).tolist(),
        rows["cloud_box"].tolist(),
        rows["refuted"].tolist(),
        rows["answered"].tolist(),
        rows["asked_score"].tolist(),
        rows["detections"].tolist(),
        strict=True,
    )
    named = [(box, reconciler.labels[label], *rest) for box, label, *rest in alive]
    return [sorted(named, key=repr), sorted(ended, key=repr)]


def _ask(reconciler: Reconciler, number: int, view: Crop) -> None:
    asked = tuple(np.flatnonzero(view.asked).tolist())
    crop = Ask(view.region, 0, np.array(asked, np.intp), 0.2, 1000, 784, 1.0, 0.0)
    reconciler.ask(
        Decision(crop, asked, Reason.UNCERTAIN, 0.2, Reservation(1000)),
        level="webp80",
        escalation_id=f"q{number}",
        sequence=5,
        captured_at_ns=NOW_NS,
        expires_at_ns=NOW_NS + 1,
        frame_size=(WIDTH, HEIGHT),
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 7), st.booleans(), st.data())
def test_any_order_leaves_the_same_tracks(tracked: int, late: bool, data: st.DataObject) -> None:
    """Alive or ended when the verdicts come; tracked by the edge or added by the cloud."""
    views = data.draw(st.lists(crops(tracked), min_size=2, max_size=3))
    orders = list(itertools.permutations(range(len(views))))
    first = fused(tracked, views, orders[0], late=late)
    for order in orders[1:]:
        assert fused(tracked, views, order, late=late) == first
