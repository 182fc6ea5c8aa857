from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.escalations import Region
from foundation.frames import Detections
from replay.fusing import AGREEMENT_SHARE, UNSEEN_SHARE, fuse_still
from replay.outcomes import joined
from tests.replay.test_observe import FRAME, WHOLE, detections, scenes

CROP = Region(50, 50, 150, 150)


def test_agreement_takes_the_clouds_box_and_some_of_its_doubt() -> None:
    """Each object once."""
    edge = detections((60, 60, 100, 100, 0.6, 0))
    cloud = detections((62, 62, 100, 100, 0.5, 0))
    fused = fuse_still(edge, [(CROP, cloud)], FRAME)
    assert fused.origins.tolist() == [0]
    np.testing.assert_array_equal(fused.detections.boxes, cloud.boxes)
    assert fused.detections.scores[0] == pytest.approx(0.5 + AGREEMENT_SHARE * 0.6 * 0.5)


def test_what_the_cloud_does_not_see_where_it_looked_is_worth_less() -> None:
    """Outside the crop nothing changes."""
    edge = detections((60, 60, 100, 100, 0.6, 0), (10, 10, 40, 40, 0.6, 0))
    fused = fuse_still(edge, [(CROP, Detections.empty())], FRAME)
    assert fused.detections.scores.tolist() == pytest.approx([UNSEEN_SHARE * 0.6, 0.6])
    assert fused.origins.tolist() == [0, 1]


def test_another_class_is_another_object() -> None:
    """The edge's stays beside it, for less."""
    edge = detections((60, 60, 100, 100, 0.6, 0))
    fused = fuse_still(edge, [(CROP, detections((60, 60, 100, 100, 0.5, 1)))], FRAME)
    assert fused.origins.tolist() == [-1, 0]


def test_what_the_crops_border_cuts_is_left_out_and_the_frames_border_cuts_nothing() -> None:
    """Half an object is no object."""
    cut = detections((50, 60, 80, 90, 0.9, 0))
    assert len(fuse_still(Detections.empty(), [(CROP, cut)], FRAME).detections) == 0
    corner = Region(0, 0, 100, 100)
    whole = detections((0, 0, 30, 30, 0.9, 0))
    assert len(fuse_still(Detections.empty(), [(corner, whole)], FRAME).detections) == 1


def test_two_crops_that_show_the_same_object_count_it_once() -> None:
    """The better view has it."""
    first = (CROP, detections((80, 80, 120, 120, 0.6, 0)))
    second = (Region(70, 70, 170, 170), detections((81, 80, 120, 120, 0.8, 0)))
    fused = fuse_still(Detections.empty(), [first, second], FRAME)
    assert fused.detections.scores.tolist() == pytest.approx([0.8])


@given(edge=scenes(), cloud=scenes())
def test_every_detection_of_the_edge_stands_for_one_result(
    edge: Detections, cloud: Detections
) -> None:
    """Nothing is lost, and scores stay scores."""
    fused = fuse_still(edge, [(WHOLE, cloud)], FRAME)
    origins = fused.origins[fused.origins >= 0]
    assert sorted(origins.tolist()) == list(range(len(edge)))
    assert ((fused.detections.scores >= 0) & (fused.detections.scores <= 1)).all()
    assert len(fuse_still(edge, [], FRAME).detections) == len(edge)


@given(
    st.lists(
        st.tuples(st.integers(0, 150), st.integers(0, 150), st.integers(1, 50), st.integers(1, 50)),
        max_size=10,
    )
)
def test_joined_regions_cover_the_same_and_share_nothing(
    sides: list[tuple[int, int, int, int]],
) -> None:
    """Whatever was in one of them is in exactly one."""
    regions = [Region(x, y, x + w, y + h) for x, y, w, h in sides]
    covered = np.zeros((200, 200), np.int64)
    found = joined(regions)
    for region in found:
        covered[region.y1 : region.y2, region.x1 : region.x2] += 1
    assert covered.max() <= 1
    for region in regions:
        assert (covered[region.y1 : region.y2, region.x1 : region.x2] == 1).all()
