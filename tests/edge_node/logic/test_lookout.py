"""Places worth asking about where nothing was detected: each once."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from edge_node.config import CropSettings, MissedSettings
from edge_node.logic.background import Abstention
from edge_node.logic.lookout import Lookout, Sight, in_turn
from edge_node.logic.novelty import FEATURES, NoveltyModel
from edge_node.logic.rows import Rows
from edge_node.values import Reason
from foundation.escalations import Region
from foundation.frames import Pixels
from tests.edge_node.logic.scene import rows_of

LOW = np.full(3, 0.2, np.float32)
WIDTH, HEIGHT = 640, 480
NOBODY = rows_of()
LOST = {
    "box": (300, 200, 320, 220),
    "missed": 3,
    "coasted": 3,
    "detections": 30,
    "last_sequence": 29,
    "best_score": 0.6,
}
NO_SCORES = np.zeros(0, np.float32)


def lookout(
    *, ordinary: NoveltyModel | None = None, whole_frames: bool = True, **settings: bool
) -> Lookout:
    """With everything on that is not turned off."""
    missed = MissedSettings.model_validate(settings)
    return Lookout(missed, CropSettings(), LOW, ordinary, whole_frames=whole_frames)


def ground(number: int = 0) -> Pixels:
    """A textured background, a little different from frame to frame."""
    return _ground(number % 8)


@functools.cache
def _ground(seed: int) -> Pixels:
    still = np.random.default_rng(1).integers(60, 160, (HEIGHT // 16, WIDTH // 16, 1))
    large = np.kron(still, np.ones((16, 16, 3))).astype(np.int16)
    noise = np.random.default_rng(seed).integers(-2, 3, large.shape)
    pixels = (large + noise).astype(np.uint8)
    pixels.flags.writeable = False
    return pixels


def look(out: Lookout, pixels: Pixels, rows: Rows = NOBODY, *, moves: bool = False) -> list[Sight]:
    """What is found in one frame."""
    return list(out.look(rows, pixels, NO_SCORES, scene_moves=moves))


def learned() -> Lookout:
    """A lookout that knows the background."""
    out = lookout()
    for number in range(4 * 60):
        assert look(out, ground(number)) == []
    return out


def with_object(seed: int, x: int = 320) -> Pixels:
    """Something bright stands on the ground."""
    pixels = ground(seed).copy()
    pixels[200:280, x : x + 80] = 250
    return pixels


def sights_while_present(out: Lookout, frames: int, *, ask: bool) -> list[Sight]:
    """What is found while the object stands there."""
    found = []
    for number in range(frames):
        for sight in look(out, with_object(1_000 + number)):
            found.append(sight)
            if ask:
                out.settle(sight, NOBODY)
    return found


def test_changed_place_is_asked_about_once_until_it_has_gone() -> None:
    """And again when it comes back."""
    out = learned()
    first = sights_while_present(out, 120, ask=True)
    assert [sight.reason for sight in first] == [Reason.BACKGROUND]
    assert first[0].region.lies_inside(WIDTH, HEIGHT)
    assert 0 < first[0].worth <= 0.1
    assert first[0].position == -1
    for number in range(80):
        look(out, ground(number))
    assert len(sights_while_present(out, 120, ask=True)) == 1


def test_place_that_could_not_be_paid_comes_again() -> None:
    """Nobody has been asked about it yet."""
    assert len(sights_while_present(learned(), 120, ask=False)) > 5


def test_background_says_why_it_has_nothing_to_say() -> None:
    """And says nothing about frames that it did not look at."""
    out = lookout()
    said = []
    for number in range(8):
        look(out, ground(number))
        said.append(out.abstained)
    assert said == [*[Abstention.NONE] * 3, Abstention.LEARNING] * 2
    for number in range(4):
        look(out, ground(number), moves=True)
    assert out.abstained is Abstention.MOVING
    out = learned()
    for _ in range(4):
        look(out, ground()[::-1])
    assert out.abstained is Abstention.EVERYTHING_CHANGED


def test_frames_of_another_size_have_another_background() -> None:
    """Even where they make a grid of as many cells."""
    out = learned()
    larger = np.zeros((HEIGHT + 5, WIDTH + 5, 3), np.uint8)
    for _ in range(4):
        assert look(out, larger) == []
    assert out.abstained is Abstention.LEARNING


def test_close_look_waits_while_a_frame_is_busy_but_not_for_long() -> None:
    """One frame in four is looked at; one that has verdicts to fuse leaves it to the next."""
    out, looked = lookout(), []
    for number in range(1, 25):
        busy = number == 4 or number > 9
        list(out.look(NOBODY, ground(number), NO_SCORES, scene_moves=False, busy=busy))
        looked += [number] * out.looked
    assert looked == [5, 8, 16, 24]
    blind = lookout(background=False)
    for number in range(1, 25):
        list(blind.look(NOBODY, ground(number), NO_SCORES, scene_moves=False))
        assert not blind.looked


def test_gap_is_asked_about_once_per_gap() -> None:
    """The track is found again and lost again: that is another gap."""
    out, rows = lookout(background=False), rows_of(LOST)
    (sight,) = look(out, ground(), rows)
    assert (sight.reason, sight.position) == (Reason.GAP, 0)
    assert len(look(out, ground(), rows)) == 1, "it was not asked about"
    out.settle(sight, rows)
    assert look(out, ground(), rows) == []
    rows["last_sequence"] = 50
    assert len(look(out, ground(), rows)) == 1


def test_gap_that_could_not_be_paid_is_offered_again_some_frames_later() -> None:
    """Pricing it costs time, and prices do not change as fast."""
    out, rows = lookout(background=False), rows_of(LOST)
    found = []
    for _ in range(12):
        sights = look(out, ground(), rows)
        found.append(len(sights))
        for sight in sights:
            out.put_off(sight, rows)
    assert found == [1, 0, 0, 0] * 3


def test_whatever_is_turned_off_finds_nothing() -> None:
    """Each by itself."""
    rows = rows_of(
        {"box": (300, 200, 320, 220), "missed": 3, "coasted": 3, "detections": 30, "best_score": 1}
    )
    assert look(lookout(gaps=False), ground(), rows) == []
    out = lookout(background=False)
    for number in range(240):
        look(out, ground(number))
    assert sights_while_present(out, 60, ask=False) == []


def far_from_ordinary() -> NoveltyModel:
    """A model to which every frame is unlike the ordinary ones."""
    return NoveltyModel(
        mean=(1e3,) * len(FEATURES),
        precision=tuple(tuple(row) for row in np.eye(len(FEATURES)).tolist()),
        distances=tuple(float(n) / 200 for n in range(200)),
    )


def test_unlike_frame_is_asked_about_once_as_a_whole() -> None:
    """Once per episode; and while it lasts, scores say less."""
    out = lookout(ordinary=far_from_ordinary())
    scores = np.array([0.1, 0.9], np.float32)
    assert out.temper(scores).tolist() == scores.tolist()
    found = []
    for number in range(200):
        for sight in look(out, ground(number)):
            found.append(sight)
            out.settle(sight, NOBODY)
    assert [sight.reason for sight in found] == [Reason.NOVELTY]
    assert found[0].region == Region(0, 0, WIDTH, HEIGHT)
    assert out.novel
    low, high = out.temper(scores).tolist()
    assert 0.1 < low < high < 0.9


def test_cloud_that_makes_nothing_of_whole_frames_is_not_asked_about_one() -> None:
    """An empty answer would look like an empty scene; the scores say less all the same."""
    out = lookout(ordinary=far_from_ordinary(), whole_frames=False)
    assert [sight for number in range(100) for sight in look(out, ground(number))] == []
    assert out.novel
    assert out.temper(np.array([0.1], np.float32))[0] > 0.1


def test_novelty_can_be_turned_off() -> None:
    """Then the bundle's ordinary frames have no effect."""
    out = lookout(ordinary=far_from_ordinary(), novelty=False)
    assert [sight for number in range(100) for sight in look(out, ground(number))] == []
    assert out.temper(np.array([0.1], np.float32)).tolist() == np.array([0.1], np.float32).tolist()


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 8])
def test_every_sight_has_its_turn(step: int) -> None:
    """The best one always; each of the others, whatever the step between frames with sights."""
    whole, box = Region(0, 0, WIDTH, HEIGHT), np.zeros(4, np.float32)
    sights = [Sight(Reason.GAP, whole, worth, -1, box) for worth in (0.1, 0.5, 0.2, 0.4, 0.3)]
    assert in_turn(sights[:2], 0) == sights[:2]
    priced = [in_turn(sights, number * step) for number in range(24)]
    assert all(best is sights[1] for best, _ in priced)
    assert {other.worth for _, other in priced} == {0.1, 0.2, 0.3, 0.4}
