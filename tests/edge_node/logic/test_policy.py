"""What is asked about, what is not, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_node.config import CropSettings, PolicySettings
from edge_node.logic.policy import Policy
from edge_node.values import Reason, Suppression
from tests.edge_node.logic.scene import HEIGHT, NOW_NS, WIDTH, rows_of

LOW = np.full(3, 0.2, np.float32)
HIGH = np.full(3, 0.8, np.float32)


def policy(**overrides: float) -> Policy:
    """A policy with the band 0.2 to 0.8 and budgets that do not matter unless overridden."""
    values = {"uplink_bytes_per_s": 1e9, "uplink_bytes_burst": 1e9, **overrides}
    return Policy(PolicySettings.model_validate(values), CropSettings(), LOW, HIGH)


def test_doubtful_settled_track_is_asked_about_once() -> None:
    """It is marked, so the next frame does not ask again."""
    rows = rows_of({})
    asking = policy()
    decisions = asking.consider(rows, 10, NOW_NS, WIDTH, HEIGHT)
    assert [(d.asked, d.reason) for d in decisions] == [((0,), Reason.UNCERTAIN)]
    assert decisions[0].region.lies_inside(WIDTH, HEIGHT)
    assert decisions[0].region.width == 192
    assert rows["pending"].tolist() == [True]
    assert asking.consider(rows, 11, NOW_NS, WIDTH, HEIGHT) == []


def test_what_the_edge_is_sure_of_is_not_asked() -> None:
    """Above the band by its mean score, or never up to it by its best."""
    rows = rows_of({"score": 0.9, "best_score": 0.95}, {"score": 0.1, "best_score": 0.15})
    asking = policy()
    assert asking.consider(rows, 10, NOW_NS, WIDTH, HEIGHT) == []
    assert asking.suppressed == {Suppression.OUTSIDE_BAND: 2}


def test_band_is_per_class() -> None:
    """Class 1 is trusted from 0.3."""
    high = HIGH.copy()
    high[1] = 0.3
    rows = rows_of({"edge_label": 1}, {"edge_label": 0, "box": (100, 100, 110, 110)})
    asking = Policy(PolicySettings(), CropSettings(), LOW, high)
    decisions = asking.consider(rows, 10, NOW_NS, WIDTH, HEIGHT)
    assert [d.asked for d in decisions] == [(1,)]


def test_young_track_waits_unless_it_leaves() -> None:
    """Votes settle first; what is about to leave is asked about while it can be."""
    young = {"first_sequence": 9}
    leaving = {**young, "box": (1260, 400, 1272, 412), "velocity": (6, 0)}
    decisions = policy().consider(rows_of(young, leaving), 10, NOW_NS, WIDTH, HEIGHT)
    assert [(d.asked, d.reason) for d in decisions] == [((1,), Reason.LEAVING)]


def test_object_cut_by_the_frame_is_not_asked() -> None:
    """Half an object misleads the cloud, too."""
    asking = policy()
    rows = rows_of({"box": (0, 400, 9, 412)})
    assert asking.consider(rows, 10, NOW_NS, WIDTH, HEIGHT) == []
    assert asking.suppressed == {Suppression.CUT_BY_FRAME: 1}


def test_track_that_is_not_seen_now_is_not_asked() -> None:
    """There would be other pixels in its place."""
    assert policy().consider(rows_of({"coasted": 1}), 10, NOW_NS, WIDTH, HEIGHT) == []


def test_answered_track_is_never_asked_again() -> None:
    """Once per physical object."""
    rows = rows_of({"answered": True})
    assert policy().consider(rows, 10, NOW_NS + 10**12, WIDTH, HEIGHT) == []


def test_unanswered_track_is_asked_again_after_the_cooldown() -> None:
    """Its escalation was shed or expired."""
    rows = rows_of({"asked_at_ns": NOW_NS})
    asking = policy(cooldown_s=3.0)
    assert asking.consider(rows, 10, NOW_NS + 2_900_000_000, WIDTH, HEIGHT) == []
    assert asking.suppressed == {Suppression.COOLDOWN: 1}
    assert len(asking.consider(rows, 11, NOW_NS + 3_000_000_000, WIDTH, HEIGHT)) == 1


def test_most_doubtful_is_asked_first_when_requests_are_short() -> None:
    """Ranked by p(1 - p); the refused one is counted once, not once per frame."""
    rows = rows_of({"score": 0.25, "box": (100, 100, 110, 110)}, {"score": 0.5})
    asking = policy(requests_burst=1.0, requests_per_s=0.001)
    assert [d.asked for d in asking.consider(rows, 10, NOW_NS, WIDTH, HEIGHT)] == [(1,)]
    assert asking.suppressed == {Suppression.BUDGET_REQUESTS: 1}
    assert asking.consider(rows, 11, NOW_NS, WIDTH, HEIGHT) == []
    assert asking.suppressed == {}


def test_bytes_are_reserved_and_settled() -> None:
    """An estimate is charged before encoding; what was not used pays for the next."""
    rows = rows_of({}, {"box": (100, 100, 110, 110)})
    asking = policy(uplink_bytes_burst=5_000.0, uplink_bytes_per_s=0.001)
    first = asking.consider(rows, 10, NOW_NS, WIDTH, HEIGHT)
    assert len(first) == 1
    assert asking.suppressed == {Suppression.BUDGET_BYTES: 1}
    asking.settle(first[0].bytes_reserved, first[0].region, 700)
    second = asking.consider(rows, 11, NOW_NS, WIDTH, HEIGHT)
    assert len(second) == 1
    assert second[0].bytes_reserved < first[0].bytes_reserved


def test_doubtful_neighbours_ride_along() -> None:
    """One crop decides about every doubtful track that lies whole in it."""
    rows = rows_of(
        {"score": 0.5},
        {"box": (640, 440, 650, 450)},
        {"box": (690, 440, 710, 460)},
        {"box": (620, 380, 630, 390), "score": 0.9, "best_score": 0.9},
    )
    decisions = policy().consider(rows, 10, NOW_NS, WIDTH, HEIGHT)
    assert [d.asked for d in decisions] == [(0, 1), (2,)]


def test_nobody_to_ask_is_counted_once_per_track() -> None:
    """Without an escalator."""
    rows = rows_of({}, {"score": 0.95, "best_score": 0.95})
    asking = policy()
    asking.suppress_all(rows)
    assert asking.suppressed == {Suppression.NO_ESCALATOR: 1}
    asking.suppress_all(rows)
    assert asking.suppressed == {}


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
        decision
        for sequence in range(10, 13)
        for decision in asking.consider(rows, sequence, NOW_NS, WIDTH, HEIGHT)
    ]
    assert len(decisions) <= burst
    for decision in decisions:
        asked += decision.asked
        assert decision.region.lies_inside(WIDTH, HEIGHT)
        assert 0 <= decision.value <= 0.2501 * len(decision.asked)
    assert len(asked) == len(set(asked))
    assert not any(rows["answered"][position] for position in asked)
