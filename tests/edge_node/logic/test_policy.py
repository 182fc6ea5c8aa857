"""What is asked about, what is not, when, with which crop, and why."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_node.values import Reason, Suppression
from foundation.escalations import Region
from foundation.gains import GainModel, LevelCosts, variance_gains
from tests.edge_node.logic.policies import (
    HIGH,
    consider,
    policy,
    risk_aim,
    view,
)
from tests.edge_node.logic.scene import HEIGHT, NOW_NS, WIDTH, rows_of


def test_doubtful_settled_track_is_asked_about_once() -> None:
    """It is marked, so the next frame does not ask again."""
    rows = rows_of({})
    asking = policy()
    decisions = consider(asking, rows)
    assert [(d.asked, d.reason) for d in decisions] == [((0,), Reason.UNCERTAIN)]
    assert decisions[0].ask.region.lies_inside(WIDTH, HEIGHT)
    assert decisions[0].ask.region.width == 192
    assert rows["pending"].tolist() == [True]
    assert consider(asking, rows, 11) == []


def test_what_the_edge_is_sure_of_is_not_asked() -> None:
    """Above the band by its mean score, or never up to it by its best."""
    rows = rows_of({"score": 0.9, "best_score": 0.95}, {"score": 0.1, "best_score": 0.15})
    asking = policy()
    assert consider(asking, rows) == []
    assert asking.suppressed == {Suppression.OUTSIDE_BAND: 2}


def test_band_is_per_class() -> None:
    """Class 1 is trusted from 0.3."""
    high = HIGH.copy()
    high[1] = 0.3
    rows = rows_of({"edge_label": 1}, {"edge_label": 0, "box": (100, 100, 110, 110)})
    assert [d.asked for d in consider(policy(high=high), rows)] == [(1,)]


def test_young_track_waits_unless_it_leaves() -> None:
    """Votes settle first; what is about to leave is asked about while it can be."""
    young = {"first_sequence": 9}
    leaving = {**young, "box": (1260, 400, 1272, 412), "velocity": (6, 0)}
    decisions = consider(policy(), rows_of(young, leaving))
    assert [(d.asked, d.reason) for d in decisions] == [((1,), Reason.LEAVING)]


def test_track_that_lies_in_two_crops_is_asked_about_in_one() -> None:
    """A crop that shows nothing else is not sent as well."""
    rows = rows_of({"box": (2, 2, 22, 22)}, {"box": (2, 135, 22, 155)})
    assert sorted(one for d in consider(policy(), rows) for one in d.asked) == [0, 1]


def test_unlike_frame_is_worth_as_much_where_crops_are_never_worth_it() -> None:
    """It is no crop; and what is drawn by lot is seen as well as can be."""
    levels = [LevelCosts(level="avif30", log_bytes=-6.0), LevelCosts(level="webp80")]
    table = {"score_knots": (0.0, 0.5, 1.0), "gains": (((0, 0.1, 0),), ((0, 0.2, 0),))}
    shares = {"crop_share": 0.0, "frame_share": 1.0}
    asking = policy(model=GainModel(levels=levels, **table, **shares))
    paid = asking.pay(Region(0, 0, WIDTH, HEIGHT), 0.25, view())
    assert not isinstance(paid, Suppression)
    assert paid[0].value == pytest.approx(0.25)
    assert asking.pay(Region(0, 0, 192, 192), 0.25, view()) is Suppression.PRICE
    drawn = asking.pay(Region(0, 0, 192, 192), 1.0, view(), by_lot=True)
    assert not isinstance(drawn, Suppression)
    assert drawn[0].level == 1


def test_object_cut_by_the_frame_is_not_asked() -> None:
    """Half an object misleads the cloud, too."""
    asking = policy()
    rows = rows_of({"box": (0, 400, 9, 412)})
    assert consider(asking, rows) == []
    assert asking.suppressed == {Suppression.CUT_BY_FRAME: 1}


def test_track_that_is_not_seen_now_is_not_asked() -> None:
    """There would be other pixels in its place."""
    assert consider(policy(), rows_of({"coasted": 1})) == []


def test_answered_track_is_not_asked_again_while_the_evidence_is_the_same() -> None:
    """Once per physical object."""
    rows = rows_of({"answered": True, "cloud_label": 1, "cloud_score": 0.9})
    assert consider(policy(), rows, now_ns=NOW_NS + 10**12) == []


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({}, 0),
        ({"score": 0.6}, 0),
        ({"score": 0.75}, 1),
        ({"box": (600, 400, 620, 420)}, 0),
        ({"box": (600, 400, 626, 426)}, 1),
        ({"score": 0.75, "refuted": False, "cloud_label": 1}, 0),
    ],
    ids=["same", "little-surer", "surer", "little-larger", "larger", "stands"],
)
def test_refuted_track_is_asked_again_only_when_the_evidence_changed(
    change: dict[str, Any], asked: int
) -> None:
    """Clearly surer or twice as large than when the cloud looked, and nothing stands."""
    answered = {"answered": True, "refuted": True, "asked_score": 0.4, "asked_area": 144.0}
    decisions = consider(policy(), rows_of({**answered, **change}))
    assert [d.reason for d in decisions] == [Reason.CHANGED] * asked


def test_unanswered_track_is_asked_again_after_the_cooldown() -> None:
    """Its escalation was shed or expired."""
    rows = rows_of({"asked_at_ns": NOW_NS})
    asking = policy(cooldown_s=3.0)
    assert consider(asking, rows, 10, now_ns=NOW_NS + 2_900_000_000) == []
    assert asking.suppressed == {Suppression.COOLDOWN: 1}
    assert len(consider(asking, rows, 11, now_ns=NOW_NS + 3_000_000_000)) == 1


def test_clock_that_steps_back_ends_the_cooldown() -> None:
    """Else a track would cool for as long as the step."""
    rows = rows_of({"asked_at_ns": NOW_NS + 3_600_000_000_000})
    assert len(consider(policy(cooldown_s=3.0), rows)) == 1


def test_most_doubtful_is_asked_first_when_requests_are_short() -> None:
    """Ranked by p(1 - p); the refused one is counted once, not once per frame."""
    rows = rows_of({"score": 0.25, "box": (100, 100, 110, 110)}, {"score": 0.5})
    asking = policy(requests_burst=1.0, requests_per_s=0.001)
    assert [d.asked for d in consider(asking, rows)] == [(1,)]
    assert sum(asking.suppressed.values()) == 1
    assert consider(asking, rows, 11) == []
    assert asking.suppressed == {}


def test_bytes_are_reserved_and_settled() -> None:
    """An estimate is charged before encoding; what was not used pays for the next."""
    rows = rows_of({}, {"box": (100, 100, 110, 110)})
    asking = policy(uplink_bytes_burst=4_000.0, uplink_bytes_per_s=0.001)
    first = consider(asking, rows)
    assert len(first) == 1
    assert asking.suppressed == {Suppression.BUDGET_BYTES: 1}
    predicted = first[0].reservation.size_bytes
    asking.settle(first[0].reservation, 700)
    asking.planner.learn_size(first[0].ask.level, 1.0, 700 / predicted)
    assert consider(asking, rows, 11) == [], "what was refused rests for a moment"
    second = consider(asking, rows, 12, now_ns=NOW_NS + 100_000_000)
    assert len(second) == 1
    assert second[0].reservation.size_bytes < predicted


def test_encoder_without_time_is_a_cause_of_its_own() -> None:
    """A crop that takes longer than the encoder's share allows is not queued behind others."""
    slow = variance_gains([LevelCosts(level="webp80", encode_s_per_megapixel=60.0)])
    asking = policy(model=slow, encode_share=0.25)
    rows = rows_of({}, {"box": (100, 100, 110, 110)}, {"box": (900, 700, 910, 710)})
    assert len(consider(asking, rows)) == 1
    assert asking.suppressed == {Suppression.ENCODER_BUSY: 2}


def test_doubtful_neighbours_ride_along() -> None:
    """One crop decides about every doubtful track that lies whole in it."""
    rows = rows_of(
        {"score": 0.5},
        {"box": (640, 440, 650, 450)},
        {"box": (690, 440, 710, 460)},
        {"box": (620, 380, 630, 390), "score": 0.9, "best_score": 0.9},
    )
    decisions = consider(policy(requests_per_s=0.001), rows)
    assert [tuple(sorted(d.asked)) for d in decisions] == [(0, 1, 2)]
    assert decisions[0].asked[0] == 0
    assert rows["pending"].tolist() == [True, True, True, False]
    assert decisions[0].gain == pytest.approx(0.25 + 0.24 + 0.24)


def test_nobody_to_ask_is_counted_once_per_track() -> None:
    """Without an escalator."""
    rows = rows_of({}, {"score": 0.95, "best_score": 0.95})
    asking = policy()
    asking.suppress_all(rows)
    assert asking.suppressed == {Suppression.NO_ESCALATOR: 1}
    asking.suppress_all(rows)
    assert asking.suppressed == {}


def test_what_costs_more_to_be_wrong_about_is_asked_first() -> None:
    """The more doubtful one is of a class that hardly matters; one of a class at 0 is never."""
    costs = np.array([0.1, 10.0, 0.0], np.float32)
    rows = rows_of(
        {"score": 0.5, "edge_label": 0},
        {"score": 0.25, "edge_label": 1, "box": (100, 100, 110, 110)},
        {"score": 0.5, "edge_label": 2, "box": (900, 700, 910, 710)},
    )
    asking = policy(class_costs=costs)
    decisions = consider(asking, rows)
    assert [d.asked for d in decisions] == [(1,), (0,)]
    assert decisions[0].ask.value > 40 * decisions[1].ask.value
    assert asking.suppressed == {Suppression.PRICE: 1}


def test_level_follows_the_price() -> None:
    """A free byte buys the level that keeps most; where bytes are dear the small one is taken."""
    model = GainModel(
        levels=(
            LevelCosts(level="webp80", fixed_bytes=0, log_bytes=math.log(0.1)),
            LevelCosts(level="avif30", fixed_bytes=0, log_bytes=math.log(0.005)),
        ),
        score_knots=(0.0, 0.5, 1.0),
        gains=(((0.0, 0.25, 0.0),), ((0.0, 0.2, 0.0),)),
    )
    rich = policy(model=model)
    assert [d.ask.level for d in consider(rich, rows_of({}))] == [0]
    poor = policy(model=model, uplink_bytes_per_s=200.0, uplink_bytes_burst=20_000.0)
    levels = []
    for number in range(60):
        now_ns = NOW_NS + number * 500_000_000
        levels += [d.ask.level for d in consider(poor, rows_of({}), 10 + number, now_ns=now_ns)]
    assert set(levels[-10:]) == {1}


def test_level_that_the_escalator_does_not_decode_is_never_chosen() -> None:
    """Not for tracks, nor for places, nor for what is drawn by lot."""
    levels = [LevelCosts(level="avif30", log_bytes=-6.0), LevelCosts(level="webp80")]
    asking = policy(model=variance_gains(levels))
    asking.planner.use(np.array([False, True]))
    decisions = consider(asking, rows_of({}))
    assert [d.ask.level for d in decisions] == [1]
    for by_lot in (False, True):
        paid = asking.pay(decisions[0].ask.region, 1.0, view(), by_lot=by_lot)
        assert not isinstance(paid, Suppression)
        assert paid[0].level == 1


@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)), max_size=8),
    st.floats(0.05, 0.45),
)
def test_risk_aim_keeps_what_the_threshold_keeps_and_nothing_else(
    scores: list[tuple[float, float]], threshold: float
) -> None:
    """Whatever the band, and however little is expected of the answer."""
    rows = rows_of(
        *(
            {
                "score": min(mean, best),
                "best_score": best,
                "box": (150 * n + 20, 80, 150 * n + 30, 90),
            }
            for n, (mean, best) in enumerate(scores)
        )
    )
    asking = policy(aim=risk_aim(threshold))
    asked = {position for d in consider(asking, rows) for position in d.asked}
    score, best = rows["score"], rows["best_score"]
    doubt = np.where(best >= 0.5, 1 - score, score)
    assert asked == set(np.flatnonzero(doubt >= threshold).tolist())
    kept = len(rows) - len(asked)
    assert asking.suppressed == ({Suppression.WITHIN_RISK: kept} if kept else {})


def test_budget_holds_where_the_aim_is_a_risk() -> None:
    """What could not be asked is counted by the budget that forbade it."""
    asking = policy(aim=risk_aim(0.1), requests_burst=1.0, requests_per_s=0.001)
    rows = rows_of({}, {"box": (100, 100, 110, 110)})
    assert len(consider(asking, rows)) == 1
    assert asking.suppressed == {Suppression.BUDGET_REQUESTS: 1}


TRACKS = st.lists(
    st.fixed_dictionaries(
        {
            "box": st.tuples(st.floats(0, 1200), st.floats(0, 900)).map(
                lambda at: (at[0], at[1], at[0] + 20, at[1] + 20)
            ),
            "score": st.floats(0, 1),
            "best_score": st.floats(0, 1),
            "coasted": st.integers(0, 1),
            "answered": st.booleans(),
            "cloud_label": st.just(0),
            "offered": st.booleans(),
        }
    ),
    max_size=15,
)


@settings(max_examples=50)
@given(TRACKS, st.integers(1, 8))
def test_any_scene_is_asked_within_budget_and_once(
    tracks: list[dict[str, Any]], burst: int
) -> None:
    """Never above the burst, no track in two questions, every crop inside the frame."""
    rows = rows_of(*tracks)
    asking = policy(requests_burst=float(burst), requests_per_s=0.001)
    asked: list[int] = []
    decisions = [
        decision for sequence in range(10, 13) for decision in consider(asking, rows, sequence)
    ]
    assert len(decisions) <= burst
    for decision in decisions:
        asked += decision.asked
        assert decision.ask.region.lies_inside(WIDTH, HEIGHT)
        assert 0 <= decision.ask.value <= 0.2501 * len(decision.asked)
        assert 0 <= decision.gain <= 0.2501 * len(decision.asked)
    assert len(asked) == len(set(asked))
    assert not any(rows["answered"][position] for position in asked)
