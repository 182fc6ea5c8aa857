"""The background model on pictures whose change is known."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_node.adapters.sources.video import VideoSource
from edge_node.config import SourceSettings
from edge_node.logic.background import Abstention, Background, Change, ChangeRules
from edge_node.logic.cells import CELL_PX, small_picture
from foundation.clock import SystemClock

RULES = ChangeRules(learn_frames=20, hold_frames=4, absorb_frames=60)
ROWS, COLUMNS = 30, 40
NO_BOXES = np.zeros((0, 4), np.float32)


class Scene:
    """A still scene with contrast, seen through a noisy sensor."""

    def __init__(self, seed: int = 0, noise: float = 2.0) -> None:
        self._random = np.random.default_rng(seed)
        self.usual = self._random.uniform(40, 200, (ROWS, COLUMNS)).astype(np.float32)
        self._noise = noise

    def picture(self, *things: tuple[int, int, int, int], gain: float = 1.0) -> np.ndarray:
        """A picture with things (x1, y1, x2, y2 in cells) in it that are 70 levels brighter."""
        scene = self.usual.copy()
        for x1, y1, x2, y2 in things:
            scene[y1:y2, x1:x2] += 70
        noise = self._random.normal(0, self._noise, scene.shape)
        return np.asarray(np.clip(gain * scene + noise, 0, 255), np.float32)

    def learned(self, rules: ChangeRules = RULES) -> Background:
        """A background that has learned this scene."""
        background = Background(rules)
        for _ in range(rules.learn_frames):
            assert see(background, self.picture()).abstained is Abstention.LEARNING
        return background


def see(background: Background, picture: np.ndarray, boxes: np.ndarray = NO_BOXES) -> Change:
    """One frame of a scene that does not move."""
    return background.observe(picture, boxes, scene_moves=False)


def in_px(*cells: float) -> np.ndarray:
    """A box in cells as one of source pixels, (1, 4)."""
    return np.array([cells], np.float32) * CELL_PX


def test_ordinary_frames_have_no_places_and_say_so() -> None:
    """Not learning, not abstaining: looked, and nothing has changed."""
    scene = Scene()
    background = scene.learned()
    for _ in range(200):
        change = see(background, scene.picture())
        assert change.abstained is Abstention.NONE
        assert len(change.boxes) == 0


def test_a_thing_that_stays_is_a_place_after_some_frames() -> None:
    """Its box is that of its cells; it is not a place at once."""
    scene = Scene()
    background = scene.learned()
    places = [see(background, scene.picture((10, 5, 16, 9))) for _ in range(6)]
    assert [len(one.boxes) for one in places] == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(places[-1].boxes, in_px(10, 5, 16, 9))
    assert places[-1].boxes.dtype == places[-1].strengths.dtype == np.float32
    assert 0.5 < places[-1].strengths[0] < 1


def test_two_things_are_two_places() -> None:
    """Things that do not touch are kept apart."""
    scene = Scene()
    background = scene.learned()
    for _ in range(5):
        change = see(background, scene.picture((2, 2, 6, 6), (20, 20, 26, 24)))
    assert change.boxes.tolist() == [*in_px(2, 2, 6, 6).tolist(), *in_px(20, 20, 26, 24).tolist()]


def test_what_a_track_explains_is_no_place() -> None:
    """Nor is what hangs together with it, such as its shadow; something elsewhere is one."""
    scene = Scene()
    background = scene.learned()
    for _ in range(5):
        change = see(
            background, scene.picture((10, 5, 16, 9), (30, 20, 36, 24)), in_px(10.5, 5, 15, 9)
        )
    np.testing.assert_array_equal(change.boxes, in_px(30, 20, 36, 24))


def test_a_thing_that_passes_is_seen_if_its_place_holds() -> None:
    """Some of its cells must be changed for a while; then all of it is the place."""
    scene = Scene()
    slow, fast = scene.learned(), scene.learned()
    for frame in range(12):
        left = 4 + frame
        after_slow = see(slow, scene.picture((left, 5, left + 8, 9)))
        left = 4 + 2 * frame
        after_fast = see(fast, scene.picture((left, 5, left + 3, 9)))
    np.testing.assert_array_equal(after_slow.boxes, in_px(15, 5, 23, 9))
    assert len(after_fast.boxes) == 0


def test_dismissed_is_not_asked_again_until_it_was_gone() -> None:
    """Also while it moves on; another thing is still a place; coming back is news."""
    scene = Scene()
    background = scene.learned()
    for _ in range(5):
        change = see(background, scene.picture((10, 5, 18, 9)))
    background.dismiss(change.boxes[0])
    for frame in range(8):
        left = 10 + frame
        change = see(background, scene.picture((left, 5, left + 8, 9)))
        assert len(change.boxes) == 0
    for _ in range(5):
        change = see(background, scene.picture((17, 5, 25, 9), (30, 20, 36, 24)))
    np.testing.assert_array_equal(change.boxes, in_px(30, 20, 36, 24))
    see(background, scene.picture())
    for _ in range(5):
        change = see(background, scene.picture((10, 5, 18, 9)))
    np.testing.assert_array_equal(change.boxes, in_px(10, 5, 18, 9))


def test_what_stays_becomes_background() -> None:
    """After `absorb_frames`; then its leaving is the change."""
    scene = Scene()
    background = scene.learned()
    thing = (10, 5, 16, 9)
    seen = [len(see(background, scene.picture(thing)).boxes) for _ in range(100)]
    assert sum(seen) == RULES.absorb_frames - RULES.hold_frames + 1
    assert seen[-1] == 0
    for _ in range(5):
        change = see(background, scene.picture())
    np.testing.assert_array_equal(change.boxes, in_px(*thing))


def test_what_comes_and_goes_becomes_ordinary() -> None:
    """Leaves in the wind: changed for a few frames now and then, until the spread holds it."""
    scene = Scene()
    background = scene.learned()
    leaves = (10, 5, 16, 9)
    seen = [
        len(see(background, scene.picture(*[leaves] * (frame % 6 < 5))).boxes)
        for frame in range(900)
    ]
    assert sum(seen[:30]) > 0
    assert sum(seen[-100:]) == 0


@settings(max_examples=25)
@given(st.floats(0.6, 1.25), st.floats(-20, 20))
def test_light_and_contrast_are_compensated(gain: float, offset: float) -> None:
    """A cloud or the camera's gain changes everything, which is no change; a thing still is."""
    scene = Scene()
    background = scene.learned()
    for _ in range(10):
        change = see(background, gain * scene.picture() + np.float32(offset))
        assert change.abstained is Abstention.NONE
        assert len(change.boxes) == 0
    for _ in range(5):
        change = see(background, gain * scene.picture((10, 5, 16, 9)) + np.float32(offset))
    np.testing.assert_array_equal(change.boxes, in_px(10, 5, 16, 9))


def test_when_everything_changes_it_abstains_and_learns_anew() -> None:
    """Someone moved the camera: at first nothing is known, then this is the background."""
    scene, other = Scene(0), Scene(1)
    background = scene.learned()
    said = [see(background, other.picture()).abstained for _ in range(2 * RULES.learn_frames + 1)]
    learn = RULES.learn_frames
    assert set(said[:learn]) == {Abstention.EVERYTHING_CHANGED}
    assert set(said[learn:-1]) == {Abstention.LEARNING}
    assert said[-1] is Abstention.NONE
    assert len(see(background, other.picture()).boxes) == 0


def test_a_flash_leaves_no_trace() -> None:
    """One frame of something else is neither a change nor learned."""
    scene, other = Scene(0), Scene(1)
    background = scene.learned()
    assert see(background, other.picture()).abstained is Abstention.EVERYTHING_CHANGED
    for _ in range(10):
        assert len(see(background, scene.picture()).boxes) == 0


def test_a_moving_scene_has_no_background() -> None:
    """It abstains while it moves, and learns when it stops."""
    scene = Scene()
    background = scene.learned()
    moving = background.observe(scene.picture(), NO_BOXES, scene_moves=True)
    assert moving.abstained is Abstention.MOVING
    assert see(background, scene.picture()).abstained is Abstention.LEARNING


def test_another_size_begins_anew() -> None:
    """What was learned is about other places."""
    background = Scene().learned()
    change = see(background, np.full((ROWS, COLUMNS + 1), 100, np.float32))
    assert change.abstained is Abstention.LEARNING


@pytest.mark.parametrize("level", [0.0, 128.0, 255.0])
def test_a_scene_without_contrast_is_sound(level: float) -> None:
    """A cap on the lens, a white wall, an overexposed one: no gain is known, nothing divides."""
    background = Background(RULES)
    flat = np.full((ROWS, COLUMNS), level, np.float32)
    for _ in range(60):
        change = see(background, flat)
    assert change.abstained is Abstention.NONE
    assert len(change.boxes) == 0


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 34), st.integers(0, 24)), max_size=60))
def test_whatever_happens_places_are_sound(frames: list[tuple[int, int, int]]) -> None:
    """Boxes lie in the frame, strengths in 0..1, and the same frames give the same places."""
    scene = Scene(noise=0)
    first, second = scene.learned(), scene.learned()
    for kind, x, y in frames:
        things = [(x, y, x + 6, y + 6), (y, x // 2, y + 3, x // 2 + 2)][: kind % 3]
        picture = scene.picture(*things, gain=0.2 if kind == 3 else 1.0)
        change, again = see(first, picture), see(second, picture)
        np.testing.assert_array_equal(change.boxes, again.boxes)
        assert ((change.strengths >= 0) & (change.strengths <= 1)).all()
        assert (change.boxes[:, :2] >= 0).all()
        assert (change.boxes[:, 2:] <= np.array([COLUMNS, ROWS]) * CELL_PX).all()
        assert (change.boxes[:, :2] < change.boxes[:, 2:]).all()


@pytest.mark.shared_data
def test_bottles_on_a_table_are_places(shared_data: Path) -> None:
    """Nobody detects here, so what moves through the picture is what was missed."""
    uri = str(shared_data / "footage" / "bottle-detection.mp4")
    background = Background(ChangeRules(learn_frames=30))
    said: list[int | None] = []
    with VideoSource(SourceSettings(uri=uri, pace="unpaced"), SystemClock()) as video:
        while len(said) < 400 and (capture := video.read(threading.Event())) is not None:
            change = see(background, small_picture(capture.pixels))
            said.append(len(change.boxes) if change.abstained is Abstention.NONE else None)
    looked = [count for count in said if count is not None]
    assert len(looked) > 300
    assert 0.02 < np.mean([count > 0 for count in looked]) < 0.98
