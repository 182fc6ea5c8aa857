from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import ConfigError
from replay.curve import Fold, area, choose_within, folds_of, share_for
from replay.outcomes import Outcomes
from replay.planned import own_policies
from replay.policies import AllFrames, CoolingDown, Policy, Ranked, baselines
from replay.views import Part, View
from tests.replay.pair import CROP, LEVELS

SHARES = (0.05, 0.2, 0.5, 1.0)


def policies_of(outcomes: Outcomes) -> list[Policy]:
    """All there are, with crops."""
    own, _ = own_policies(outcomes.answers, None, LEVELS, CROP, crops=True)
    return [*own, *baselines(LEVELS, crops=True)]


def test_every_policy_keeps_within_every_budget_on_calibration(
    outcomes: Outcomes, unlabelled: Outcomes
) -> None:
    """And spends more where the budget is larger."""
    part = Part.whole(unlabelled)
    for policy in policies_of(outcomes):
        folds = [Fold(part, tuple(range(len(unlabelled))))]
        rows = choose_within(policy, unlabelled, folds, SHARES)
        sent = [part.bytes_of(row) for row in rows]
        assert sent == sorted(sent), policy.name
        for share, size in zip(SHARES, sent, strict=True):
            assert size <= share * part.base_bytes(), policy.name
        assert sent[-1] > 0, policy.name


def test_folds_never_set_a_dial_on_what_it_then_applies_to(outcomes: Outcomes) -> None:
    """Groups are not torn apart, and every frame has its turn once."""
    folds = folds_of(outcomes, None)
    assert sorted(p for fold in folds for p in fold.positions) == list(range(len(outcomes)))
    for fold in folds:
        fitted = {int(outcomes.groups[p]) for p in fold.fit.positions}
        applied = {int(outcomes.groups[p]) for p in fold.positions}
        assert fitted
        assert not fitted & applied


def test_dials_are_never_set_on_the_frames_that_they_are_judged_by(
    outcomes: Outcomes, unlabelled: Outcomes
) -> None:
    """Not even on one of them."""
    assert len(folds_of(outcomes, unlabelled)) == 1
    with pytest.raises(ConfigError, match="8 frames of val are in val too"):
        folds_of(outcomes, outcomes)


def test_all_frames_follow_the_hull_of_the_levels(outcomes: Outcomes) -> None:
    """Settings cost more and more, and never leave the levels."""
    policy, part = AllFrames(LEVELS), Part.whole(outcomes)
    sizes = [part.bytes_of(policy.choose(part.views, s)) for s in policy.settings(part)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 0


def _view(number: int, moment_s: float | None, outcomes: Outcomes) -> View:
    view = Part.whole(outcomes).views[0]
    return View(
        f"f{number}", "g", moment_s, view.size, view.seen, view.doubtful, view.proposals, (),
        view.texture,
    )  # fmt: skip


def test_a_pause_follows_a_question_in_a_video_alone(outcomes: Outcomes) -> None:
    """Two seconds; still images know no time."""
    rule = baselines(LEVELS, crops=False)[7]
    assert isinstance(rule, CoolingDown)
    moving = [_view(n, 0.5 * n, outcomes) for n in range(9)]
    asked = [n for n, asks in enumerate(rule.choose(moving, -10.0)) if asks]
    assert asked == [0, 4, 8]
    still = [_view(n, None, outcomes) for n in range(9)]
    assert all(rule.choose(still, -10.0))


def test_rules_that_need_a_box_never_ask_about_an_empty_frame(outcomes: Outcomes) -> None:
    """As published; it is their loss."""
    view = Part.whole(outcomes).views[0]
    none = view.seen.take(view.seen.scores > 2)
    empty = View("e", "g", None, view.size, none, none, none, (), view.texture)
    asked = {
        rule.name
        for rule in baselines(LEVELS, crops=True)
        if isinstance(rule, Ranked) and rule.choose([empty], -10.0) != [()]
    }
    assert asked == {"frames at random", "frames, box count", "frames, p(1-p)"}


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=9, unique=True))
def test_chance_has_half_the_area(shares: list[float]) -> None:
    """Its gap recovered is its share of the bytes."""
    shares = sorted({*shares, 1.0})
    assert area(shares, shares) == pytest.approx(0.5, abs=1e-6)
    assert share_for(shares, shares, 0.5) == pytest.approx(0.5)


def test_what_is_never_reached_has_no_share() -> None:
    """Beyond its last point a curve is flat, not rising."""
    assert share_for([0.1, 0.2], [0.3, 0.4], 0.5) is None
    assert share_for([0.1, 0.2], [0.3, 0.7], 0.5) == pytest.approx(0.15)
    assert area([0.5], [1.0]) == pytest.approx(0.75, abs=1e-3)
