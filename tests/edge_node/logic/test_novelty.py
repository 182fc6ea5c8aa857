"""Novelty on frames whose statistics are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_node.logic.cells import small_picture
from edge_node.logic.novelty import (
    DISTANCES_MAX,
    FEATURES,
    FRAMES_MIN,
    NoveltyModel,
    NoveltyRules,
    NoveltyWatch,
    describe_frame,
    fit_novelty,
    temper,
)
from foundation.errors import ConfigError
from foundation.settings import parse_settings

WIDTH = len(FEATURES)
RULES = NoveltyRules()


def ordinary(count: int, seed: int = 0) -> np.ndarray:
    """Features (count, F) that hang together, on scales that differ a thousandfold."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(count, WIDTH)) @ np.random.default_rng(99).normal(
        size=(WIDTH, WIDTH)
    )
    return mixed * np.logspace(-2, 1, WIDTH) + np.linspace(-3, 40, WIDTH)


@pytest.fixture(scope="module")
def model() -> NoveltyModel:
    """Fitted on plenty."""
    return fit_novelty(ordinary(1000))


@pytest.mark.parametrize("count", [FRAMES_MIN, 300, 1000])
def test_p_values_of_ordinary_frames_are_uniform(count: int) -> None:
    """Within what so few frames allow: neither crying wolf nor asleep (Kolmogorov-Smirnov)."""
    fitted = fit_novelty(ordinary(count, seed=5))
    values = np.sort([fitted.score(one) for one in ordinary(2000, seed=6)])
    apart = np.abs(values - (np.arange(2000) + 0.5) / 2000).max()
    assert apart < 1.63 * np.sqrt(1 / 2000 + 1 / min(count, DISTANCES_MAX))


@pytest.mark.parametrize("feature", range(WIDTH))
def test_a_feature_that_is_far_off_is_novel(model: NoveltyModel, feature: int) -> None:
    """Whichever it is, and whatever its unit."""
    frames = ordinary(1000)
    far = frames.mean(axis=0)
    assert model.score(far) > 0.5
    far[feature] += 10 * frames[:, feature].std()
    assert model.score(far) == 1 / (1 + DISTANCES_MAX)


def test_an_unusual_combination_is_novel() -> None:
    """Each feature by itself is ordinary; together they never were."""
    frames = np.random.default_rng(0).normal(size=(500, WIDTH))
    frames[:, 1] = frames[:, 0] + 0.1 * frames[:, 1]
    fitted = fit_novelty(frames)
    usual, strange = np.zeros(WIDTH), np.zeros(WIDTH)
    usual[:2], strange[:2] = (2, 2), (2, -2)
    assert fitted.score(usual) > 0.3
    assert fitted.score(strange) < 0.01


def test_the_farther_the_smaller(model: NoveltyModel) -> None:
    """Never zero, never more than one."""
    frames = ordinary(1000)
    middle, step = frames.mean(axis=0), frames.std(axis=0)
    values = [model.score(middle + far * step) for far in np.linspace(0, 20, 50)]
    assert values == sorted(values, reverse=True)
    assert values[0] == 1
    assert values[-1] == 1 / (1 + DISTANCES_MAX)


def test_no_number_is_novel(model: NoveltyModel) -> None:
    """A failure never looks like an ordinary frame."""
    assert model.score(np.full(WIDTH, np.nan)) == 1 / (1 + DISTANCES_MAX)


def test_it_survives_json(model: NoveltyModel) -> None:
    """Which is how it is stored."""
    again = NoveltyModel.model_validate_json(model.model_dump_json())
    assert again == model
    assert len(model.model_dump_json()) < 20_000
    for frame in ordinary(20, seed=3):
        assert again.score(frame) == model.score(frame)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"features": ("brightness",)}, "features"),
        ({"mean": (0.0,)}, "mean and precision"),
        ({"precision": ((1.0,) * WIDTH,) * WIDTH}, "positive definite"),
        ({"distances": tuple(np.linspace(9, 1, 100).tolist())}, "rise"),
        ({"distances": (1.0, 2.0)}, "100 at least"),
    ],
)
def test_a_stored_model_that_cannot_be_right_is_refused(
    model: NoveltyModel, change: dict[str, object], names: str
) -> None:
    """By name."""
    with pytest.raises(ConfigError, match=names):
        parse_settings({**model.model_dump(), **change}, NoveltyModel, origin="novelty.json")


def test_too_few_frames_are_refused() -> None:
    """With the number that is wanted."""
    with pytest.raises(ConfigError, match=rf"{FRAMES_MIN}.*got {FRAMES_MIN - 1}"):
        fit_novelty(ordinary(FRAMES_MIN - 1))


def test_what_is_no_number_is_refused() -> None:
    """With the frame."""
    frames = ordinary(200)
    frames[17, 3] = np.nan
    with pytest.raises(ConfigError, match="frame 17"):
        fit_novelty(frames)


def test_a_feature_that_never_changes_is_refused() -> None:
    """By name: a video of one still frame is no reference."""
    frames = ordinary(200)
    frames[:, 4] = 17.3
    with pytest.raises(ConfigError, match=FEATURES[4]):
        fit_novelty(frames)


def test_other_features_are_refused() -> None:
    """A program's mistake, said as such."""
    with pytest.raises(ConfigError, match="features a frame"):
        fit_novelty(ordinary(200)[:, :-1])


def test_features_that_repeat_each_other_can_be_inverted() -> None:
    """In a hundred frames some may; shrinkage is what keeps the inverse finite."""
    frames = ordinary(FRAMES_MIN)
    frames[:, 2] = frames[:, 1]
    assert 0 < fit_novelty(frames).score(frames[0]) <= 1


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(32, 99), st.integers(32, 99), st.just(3))),
    hnp.arrays(np.float32, st.integers(0, 30), elements=st.floats(0, 1, width=32)),
)
def test_any_frame_has_finite_features(pixels: np.ndarray, scores: np.ndarray) -> None:
    """Black, white, without a candidate."""
    features = describe_frame(scores, small_picture(pixels), pixels)
    assert features.shape == (WIDTH,)
    assert np.isfinite(features).all()


def test_features_tell_what_they_are_named_after() -> None:
    """Each picture differs from the first in one way."""
    random = np.random.default_rng(1)
    usual = np.kron(random.integers(60, 180, (30, 40, 1)), np.ones((16, 16, 3)))
    usual = usual + random.normal(0, 3, usual.shape)
    scores = np.array([0.9, 0.5, 0.1], np.float32)

    def features(pixels: np.ndarray, found: np.ndarray = scores) -> dict[str, float]:
        frame = np.clip(pixels, 0, 255).astype(np.uint8)
        values = describe_frame(found, small_picture(frame), frame)
        return dict(zip(FEATURES, values.tolist(), strict=True))

    first = features(usual)
    np.testing.assert_allclose(
        [first[name] for name in FEATURES[:4]], [np.log(4), 0.5, 0.9, 1 / 3], rtol=1e-6
    )
    assert features(usual + 40)["brightness"] > first["brightness"] + 30
    assert features(usual * 0.5)["contrast_log"] < first["contrast_log"] - 0.5
    assert features(usual * 0.5)["gradient_log"] < first["gradient_log"] - 0.5
    noisy = features(usual + random.normal(0, 20, usual.shape))
    assert noisy["detail_log"] > first["detail_log"] + 0.5
    assert features(usual * [1.3, 1, 1])["blueness"] > first["blueness"] + 0.03
    assert features(usual * [1, 1, 1.3])["redness"] > first["redness"] + 0.03
    assert features(usual, scores[:0])["score_max"] == 0


def watch(values: list[float]) -> list[bool]:
    """What is due after each frame, when nobody is asked."""
    watching = NoveltyWatch(RULES)
    return [watching.observe(value) for value in values]


def test_an_episode_begins_after_some_frames_in_a_row() -> None:
    """One ordinary frame in a hundred has a p-value of 0.01."""
    assert watch([0.01] * 4 + [0.02] + [0.01] * 4) == [False] * 9
    assert watch([0.01] * 6) == [False] * 4 + [True] * 2


def test_an_episode_is_asked_about_once() -> None:
    """What lies between the two limits neither begins nor ends it."""
    watching = NoveltyWatch(RULES)
    for _ in range(5):
        watching.observe(0.001)
    watching.settle()
    for _ in range(50):
        assert not watching.observe(0.05)
        assert watching.novel
    for _ in range(5):
        watching.observe(0.5)
    assert not watching.novel
    due = [watching.observe(0.001) for _ in range(5)]
    assert due == [False] * 4 + [True]


def test_an_episode_that_ends_unasked_is_not_due_any_more() -> None:
    """There is nothing left to ask about."""
    assert watch([0.001] * 6 + [0.9] * 5)[-2:] == [True, False]


@given(
    hnp.arrays(np.float32, 8, elements=st.floats(0, 1, width=32)),
    st.floats(1 / 257, 1),
    st.floats(0, 1),
)
def test_scores_are_trusted_less(scores: np.ndarray, p_value: float, base_rate: float) -> None:
    """Between what they were and the base rate, in their order; untouched in ordinary frames."""
    tempered = temper(scores, p_value, base_rate=base_rate, rules=RULES)
    assert tempered.dtype == np.float32
    low, high = np.minimum(scores, base_rate), np.maximum(scores, base_rate)
    assert ((tempered >= low - 1e-6) & (tempered <= high + 1e-6)).all()
    order = np.argsort(scores, kind="stable")
    assert (np.diff(tempered[order]) >= -1e-6).all()
    if p_value >= RULES.ordinary:
        np.testing.assert_array_equal(tempered, scores)


def test_the_most_novel_frame_takes_half_of_the_confidence() -> None:
    """As far as the rules allow, and by class where classes differ."""
    scores = np.array([0.9, 0.9], np.float32)
    tempered = temper(scores, 0.0, base_rate=np.array([0.1, 0.5], np.float32), rules=RULES)
    np.testing.assert_allclose(tempered, [0.5, 0.7], rtol=1e-6)
