"""What may leave of a frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.config import EgressSettings
from edge_node.logic.egress import GREY, EgressPolicy, fill_polygons
from edge_node.logic.view import View
from edge_node.values import EgressRefusal
from foundation.errors import ConfigError
from foundation.escalations import LabelledBoxes, Region
from foundation.frames import Boxes, Pixels

LABELS = ("person", "car", "dog")
SIZE = (64, 48)
WHOLE = Region(0, 0, *SIZE)
NOISE = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
BOX = np.array([[10, 10, 30, 40]], np.float32)
TRIANGLE = [[0.25, 0.25], [0.75, 0.25], [0.5, 0.75]]


def policy(**settings: Any) -> EgressPolicy:
    """With some settings."""
    return EgressPolicy(EgressSettings.model_validate(settings), LABELS)


def cut(
    egress: EgressPolicy, region: Region = WHOLE, class_id: int = 0, boxes: Boxes = BOX
) -> Pixels:
    """A crop of noise with one object in it."""
    redaction = egress.redaction(SIZE, boxes, [class_id] * len(boxes))
    return View(0, 0, 0, NOISE, redaction).cut(region)


def proposals(label: str) -> LabelledBoxes:
    """One."""
    return LabelledBoxes(BOX, np.array([0.4], np.float32), (label,))


def test_without_settings_everything_leaves_as_it_is() -> None:
    """And the frame itself is never touched."""
    egress = policy()
    assert egress.is_empty
    assert np.array_equal(cut(egress), NOISE)
    assert egress.refusal(proposals("person"), NOISE, 1 << 20) is None


def test_zone_is_grey_in_whatever_shows_it() -> None:
    """In each crop at its place; every pixel that the polygon touches."""
    egress, before = policy(zones_never=[TRIANGLE]), NOISE.copy()
    crop = cut(egress, Region(20, 6, 60, 40))
    hidden = (crop == GREY).all(axis=2)
    inside = fill_polygons([[(x, y) for x, y in TRIANGLE]], SIZE)[6:40, 20:60]
    assert hidden[inside].all()
    assert inside[10, 12]
    assert not inside[32, 38]
    assert np.array_equal(crop[~inside], NOISE[6:40, 20:60][~inside])
    assert np.array_equal(NOISE, before)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=6),
    st.floats(0, 1),
)
def test_every_side_of_a_polygon_is_hidden(
    corners: list[tuple[float, float]], share: float
) -> None:
    """Also of a thin one, and of one that crosses itself; to within a pixel."""
    inside = fill_polygons([corners], SIZE)
    for (x1, y1), (x2, y2) in zip(corners, [*corners[1:], corners[0]], strict=True):
        column = min(int((x1 + share * (x2 - x1)) * SIZE[0]), 63)
        row = min(int((y1 + share * (y2 - y1)) * SIZE[1]), 47)
        assert inside[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].any()


def test_label_that_is_never_sent_is_grey_and_not_asked_about() -> None:
    """A little more than its box; other objects stay."""
    egress = policy(labels_never=["person"])
    crop = cut(egress)
    assert (crop[6:44, 8:32] == GREY).all()
    assert np.array_equal(crop[:, 40:], NOISE[:, 40:])
    assert np.array_equal(cut(egress, class_id=1), NOISE)
    assert egress.refusal(proposals("person"), crop, 100) is EgressRefusal.LABEL
    assert egress.refusal(proposals("car"), crop, 100) is None


def test_blurred_object_keeps_a_few_cells_of_colour() -> None:
    """The same in every crop that shows all of it, so that many crops tell no more than one."""
    crop = cut(policy(blur={"person": "whole"}))
    inner = crop[8:42, 9:31]
    assert len(np.unique(inner.reshape(-1, 3), axis=0)) <= 16
    assert inner.std() < NOISE[8:42, 9:31].std() / 2
    shifted = cut(policy(blur={"person": "whole"}), Region(4, 4, 64, 48))
    assert np.array_equal(shifted, crop[4:, 4:])


def test_head_is_the_upper_third() -> None:
    """The rest of the body stays."""
    crop = cut(policy(blur={"person": "head"}))
    assert not np.array_equal(crop[10:20, 10:30], NOISE[10:20, 10:30])
    assert np.array_equal(crop[24:], NOISE[24:])


def test_share_of_a_box_that_is_hidden() -> None:
    """By zone and objects together, each place once; nothing where nothing is."""
    boxes = np.array([[10, 10, 30, 40], [40, 10, 60, 40], [22, 30, 42, 46]], np.float32)
    own = [0, 1, 2]

    def shares(**settings: Any) -> list[float]:
        redaction = policy(**settings).redaction(SIZE, np.tile(boxes, (2, 1)), own * 2)
        return [float(share) for share in redaction.hidden_shares(boxes)]

    assert shares() == [0, 0, 0]
    assert shares(blur={"person": "whole"}) == [1, 0, pytest.approx(0.55 * 14.5 / 16, abs=0.07)]
    assert shares(blur={"person": "head"}) == [pytest.approx(0.38, abs=0.04), 0, 0]
    left = [[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]
    assert shares(zones_never=left) == [1, 0, pytest.approx(0.5, abs=0.07)]
    both = shares(zones_never=left, labels_never=["dog"], blur={"person": "whole"})
    assert both == [1, pytest.approx(0.1, abs=0.07), 1]


def test_objects_at_the_border_of_frame_and_crop_are_hidden_as_far_as_they_are_seen() -> None:
    """No index runs out of the picture."""
    boxes = np.array([[-20, -20, 5, 5], [60, 44, 90, 90], [200, 200, 210, 210]], np.float32)
    crop = cut(policy(labels_never=["person"]), boxes=boxes)
    assert (crop[:5, :5] == GREY).all()
    assert (crop[44:, 60:] == GREY).all()
    assert np.array_equal(crop[12:40, 12:50], NOISE[12:40, 12:50])


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ({"nothing": True}, EgressRefusal.NOTHING),
        ({"crop_side_max_px": 63}, EgressRefusal.SIDE),
        ({"crop_bytes_max": 999}, EgressRefusal.BYTES),
        ({"crop_side_max_px": 64, "crop_bytes_max": 1000}, None),
    ],
)
def test_caps(settings: dict[str, Any], refusal: EgressRefusal | None) -> None:
    """One more than may be does not leave."""
    assert policy(**settings).refusal(proposals("car"), NOISE, 1000) is refusal


def test_crop_that_is_mostly_hidden_is_not_sent() -> None:
    """There is nothing to ask about."""
    egress = policy(zones_never=[[[0, 0], [1, 0], [1, 0.6], [0, 0.6]]])
    assert egress.refusal(proposals("car"), cut(egress), 100) is EgressRefusal.HIDDEN


@pytest.mark.parametrize("settings", [{"labels_never": ["persn"]}, {"blur": {"face": "whole"}}])
def test_label_that_could_never_be_hidden_is_refused(settings: dict[str, Any]) -> None:
    """A typing error must not send what was to be hidden."""
    with pytest.raises(ConfigError, match="does not see") as refused:
        policy(**settings)
    assert "person, car, dog" in refused.value.remedy


@pytest.mark.parametrize(
    "settings",
    [
        {"zones_never": [[[0, 0], [1, 1]]]},
        {"zones_never": [[[0, 0], [1, 1], [2, 0]]]},
        {"blur": {"person": "half"}},
        {"crop_bytes_max": 0},
    ],
)
def test_nonsense_is_refused(settings: dict[str, Any]) -> None:
    """By the settings."""
    with pytest.raises(pydantic.ValidationError):
        EgressSettings.model_validate(settings)
