from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.config import CropSettings
from edge_node.logic.fuse_still import StillView, trace_still
from foundation.escalations import Region
from foundation.frames import Detections
from replay.observe import (
    Reference,
    gains_of,
    observe,
    qualities,
    reference_of,
    write_observations,
)
from replay.outcomes import Outcomes
from tests.replay.pair import LEVELS

FRAME = (200, 200)
WHOLE = Region(0, 0, *FRAME)


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Rows of x1 y1 x2 y2 score class."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4].copy(), table[:, 4].copy(), table[:, 5].astype(np.int32))


def reference(found: Detections, crowds: Detections | None = None) -> Reference:
    """Those objects, of those weights."""
    crowds = Detections.empty() if crowds is None else crowds
    return Reference(found.boxes, found.class_ids, found.scores, crowds.boxes, crowds.class_ids)


@st.composite
def scenes(draw: st.DrawFn) -> Detections:
    """A few boxes of two classes."""
    rows = []
    for _ in range(draw(st.integers(0, 8))):
        x, y = draw(st.integers(0, 150)), draw(st.integers(0, 150))
        w, h = draw(st.integers(4, 50)), draw(st.integers(4, 50))
        rows.append((x, y, x + w, y + h, draw(st.integers(1, 19)) / 20, draw(st.integers(0, 1))))
    return detections(*rows)


def test_a_right_box_counts_by_its_score_and_a_wrong_one_against_it() -> None:
    """Brier's score, shifted so that nothing published counts 0."""
    there = detections((10, 10, 50, 50, 1.0, 0))
    found = detections((10, 10, 50, 50, 0.8, 0), (100, 100, 140, 140, 0.3, 0))
    assert qualities(found, reference(there)) == pytest.approx([2 * 0.8 - 0.64, -0.09])
    other = detections((10, 10, 50, 50, 0.8, 1))
    assert qualities(other, reference(there)) == pytest.approx([-0.64])


def test_an_object_counts_once_and_by_its_weight() -> None:
    """The better of two boxes has it; a doubtful reference is worth less."""
    there = detections((10, 10, 50, 50, 0.5, 0))
    found = detections((10, 10, 50, 50, 0.4, 0), (10, 10, 50, 50, 0.8, 0))
    assert qualities(found, reference(there)) == pytest.approx([-0.16, 0.8 - 0.64])


def test_a_box_in_a_crowd_counts_neither_way() -> None:
    """As COCO has it."""
    crowd = detections((0, 0, 100, 100, 1.0, 0))
    found = detections((10, 10, 50, 50, 0.8, 0), (10, 10, 50, 50, 0.8, 1))
    quality = qualities(found, reference(Detections.empty(), crowd))
    assert quality == pytest.approx([0, -0.64])


@given(edge=scenes(), verdict=scenes(), there=scenes(), floor=st.sampled_from([0.0, 0.4, 1.0]))
def test_gains_share_out_the_whole_change(
    edge: Detections, verdict: Detections, there: Detections, floor: float
) -> None:
    """Whatever the members are, nothing is lost and nothing counts twice."""
    fused, origins = trace_still(edge, [StillView(WHOLE, verdict)], FRAME)
    members = np.flatnonzero(edge.scores >= floor)
    gains = gains_of(edge, members, fused, origins, reference(there))
    change = qualities(fused, reference(there)).sum()
    change -= qualities(edge, reference(there)).sum()
    assert gains.sum() == pytest.approx(change, abs=1e-9)
    assert len(gains) == max(1, len(members))


def test_what_is_added_counts_for_the_nearest_proposal() -> None:
    """Here the second."""
    edge = detections((10, 10, 30, 30, 0.5, 0), (120, 120, 140, 140, 0.5, 0))
    added = detections((150, 150, 170, 170, 0.9, 1))
    fused, origins = trace_still(edge, [StillView(WHOLE, added)], FRAME)
    there = reference(added.with_scores(np.ones(1, np.float32)))
    gains = gains_of(edge, np.arange(2), fused, origins, there)
    lowered = 0.25 - (0.3 * 0.5) ** 2
    assert gains == pytest.approx([lowered, lowered + 2 * 0.9 - 0.81], abs=1e-6)


def test_the_file_says_what_was_asked_and_what_it_bought(
    outcomes: Outcomes, unlabelled: Outcomes, tmp_path: Path
) -> None:
    """Units, proposals and levels fit together."""
    for one, kind in ((outcomes, "labels"), (unlabelled, "cloud")):
        path = tmp_path / f"{kind}.npz"
        write_observations(path, one, LEVELS, crops=True)
        with np.load(path) as file:
            meta, data = json.loads(str(file["meta"])), {name: file[name] for name in file.files}
        assert meta["reference"] == kind
        assert meta["levels"] == list(LEVELS)
        units, rows = len(data["unit_frame"]), len(data["score"])
        assert data["gain"].shape == (rows, 2)
        assert data["unit_bytes"].shape == data["unit_gain"].shape == (units, 2)
        assert data["unit_whole"].sum() == len(one)
        assert set(data["unit"]) <= set(range(units))
        assert (data["score"] >= meta["score_floor"]).all()
        assert (data["unit_bytes"][:, 0] < data["unit_bytes"][:, 1]).all()
        whole = data["unit_whole"][data["unit"]]
        assert data["gain"][whole].sum() > 0


def test_a_level_with_a_side_of_its_own_sees_less_of_a_crop_and_all_of_a_frame(
    outcomes: Outcomes,
) -> None:
    """Bytes are those of what it covers."""
    crop = CropSettings(side_min_px=16, margin=1.0)
    narrow = Outcomes(outcomes.answers, outcomes.material, crop)
    data = observe(narrow, ("png/48", "png"), crops=True)
    wide, tight = data["unit_pixels"].T
    whole = data["unit_whole"]
    assert (tight[whole] == wide[whole]).all()
    assert (tight[~whole] <= wide[~whole]).all()
    smaller = tight < wide
    assert smaller.any()
    assert (data["unit_bytes"][smaller, 1] < data["unit_bytes"][smaller, 0]).all()


def test_the_reference_is_the_labels_or_the_cloud(outcomes: Outcomes, unlabelled: Outcomes) -> None:
    """Labels weigh 1, the cloud's boxes their scores."""
    assert outcomes.material.split is not None
    labelled = reference_of(outcomes, 1)
    np.testing.assert_array_equal(labelled.boxes, outcomes.material.split.pictures[1].boxes)
    assert (labelled.weights == 1).all()
    seen = reference_of(unlabelled, 1)
    assert len(seen.boxes) > 0
    assert ((seen.weights >= 0.5) & (seen.weights < 1)).all()
