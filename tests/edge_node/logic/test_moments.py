"""The best moments of tracks, and how sharp a place is."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_node.logic.moments import Moments, moment_of, sharpness_of
from edge_node.logic.view import View
from foundation.escalations import Region
from foundation.frames import Pixels
from tests.edge_node.logic.scene import NOW_NS, rows_of

REGION = Region(580, 380, 644, 444)


def test_moment_is_a_copy_of_what_was_seen() -> None:
    """The camera's buffer is written over with the next frame."""
    pixels = np.full((960, 1280, 3), 7, np.uint8)
    rows = rows_of({"track_id": 9, "seen_box": (601, 401, 613, 413), "score": 0.3})
    crop = View(5, NOW_NS, NOW_NS, pixels).cut(REGION)
    moment = moment_of(rows, 0, crop, REGION, (5, NOW_NS), 2.0)
    pixels[:] = 200
    rows["seen_box"] = 0
    assert (moment.pixels == 7).all()
    assert moment.pixels.shape == (64, 64, 3)
    assert moment.box.tolist() == [601, 401, 613, 413]
    assert (moment.track_id, moment.sequence, moment.captured_at_ns) == (9, 5, NOW_NS)


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=60))
def test_no_more_is_held_than_may_be(steps: list[tuple[int, bool]]) -> None:
    """A further track is refused and counted; the known ones are replaced."""
    moments = Moments(3)
    pixels = np.zeros((960, 1280, 3), np.uint8)
    known: set[int] = set()
    refused = 0
    for number, (track_id, forget) in enumerate(steps):
        if forget:
            assert (moments.forget(track_id) is not None) == (track_id in known)
            known.discard(track_id)
            continue
        rows = rows_of({"track_id": track_id})
        room = track_id in known or len(known) < 3
        held = moments.hold(moment_of(rows, 0, pixels, REGION, (number, NOW_NS), 1.0))
        assert held is room
        refused += not room
        if room:
            known.add(track_id)
            moment = moments.of(track_id)
            assert moment is not None
            assert moment.sequence == number
    assert len(moments) == len(known)
    assert moments.full is (len(known) == 3)
    assert moments.refused == refused


def blurred(pixels: Pixels, side: int) -> Pixels:
    """The mean over squares of this side."""
    return np.asarray(cv2.blur(pixels, (side, side)), np.uint8)


def test_blur_is_less_sharp() -> None:
    """The more, the less; a flat place has none, and neither has a box outside."""
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3)).astype(np.uint8)
    box = np.array([40, 40, 160, 160], np.float32)
    sharp, soft, softer = (
        sharpness_of(picture, box) for picture in (noise, blurred(noise, 3), blurred(noise, 9))
    )
    assert sharp > soft > softer > 0
    assert sharpness_of(np.full_like(noise, 90), box) == 0
    assert sharpness_of(noise, np.array([300, 300, 320, 320], np.float32)) == 0
