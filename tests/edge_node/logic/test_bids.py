"""When what was refused is offered again."""

from __future__ import annotations

from itertools import islice

import pytest

from edge_node.values import Suppression
from foundation.gains import LevelCosts, variance_gains
from tests.edge_node.logic.policies import (
    FRAME_NS,
    HeldLock,
    PostedPrice,
    consider,
    ledger_of,
    policy,
)
from tests.edge_node.logic.scene import NOW_NS, WIDTH, rows_of


def test_what_was_refused_is_offered_once_the_price_falls_below_its_bid() -> None:
    """Within some frames; while the price is above it, most frames do not even ask for it."""
    posted = PostedPrice()
    posted.per_byte = 1.0
    asking, rows = policy(aim=posted.of), rows_of({})
    assert consider(asking, rows) == []
    assert asking.suppressed == {Suppression.PRICE: 1}
    frames = iter(range(11, 200))

    def asked(frames_max: int) -> list[tuple[int, ...]]:
        return [
            one.asked
            for frame in islice(frames, frames_max)
            for one in consider(asking, rows, frame, now_ns=NOW_NS + frame * FRAME_NS)
        ]

    posted.asked = 0
    assert asked(60) == []
    assert posted.asked <= 20
    posted.per_byte = 1e-9
    assert asked(8) == [(0,)]


def test_heavy_track_bids_less() -> None:
    """Twice the bytes at the same value are offered at half the price, as long as that is known."""
    offered = []
    for heaviness in (1.0, 2.0):
        posted = PostedPrice()
        posted.per_byte = 1.0
        asking, rows = policy(aim=posted.of), rows_of({})
        assert consider(asking, rows) == []
        frames = iter(range(11, 2_000))
        rows["heaviness"] = heaviness
        while True:
            frame = next(frames)
            rows["forgone_at_ns"] = now_ns = NOW_NS + frame * FRAME_NS
            posted.per_byte *= 0.99
            if consider(asking, rows, frame, now_ns=now_ns):
                break
        offered.append(posted.per_byte)
    assert offered[1] == pytest.approx(offered[0] / 2, rel=0.1)


def test_chores_wait_while_there_are_verdicts_to_fuse() -> None:
    """A frame that has paid for that does not compare bids as well, unless it is high time."""
    posted = PostedPrice()
    posted.per_byte = 1.0
    asking, rows = policy(aim=posted.of), rows_of({})
    consider(asking, rows)
    posted.asked = 0
    for frame in range(1, 10):
        consider(asking, rows, 10 + frame, now_ns=NOW_NS + frame * FRAME_NS, busy=True)
    assert posted.asked == 0
    consider(asking, rows, 20, now_ns=NOW_NS + 10 * FRAME_NS)
    assert posted.asked == 1


def test_what_met_a_held_lock_is_offered_with_the_next_frame() -> None:
    """It may be gone before its bid is made anew."""
    asking = policy(aim=lambda values: HeldLock(values, ledger_of(values)))
    assert consider(asking, rows_of({"score": 0.9, "best_score": 0.9}), 9) == []
    rows = rows_of({})
    assert consider(asking, rows, 10, now_ns=NOW_NS + 1) == []
    assert asking.suppressed == {Suppression.BUDGET_CONTENDED: 1}
    assert len(consider(asking, rows, 11, now_ns=NOW_NS + FRAME_NS)) == 1


def test_whole_frame_that_was_refused_is_offered_again() -> None:
    """Where crops are never worth it, a track by itself bids nothing; the frame does."""
    whole = variance_gains([LevelCosts(level="webp80")], crop_share=0.0, frame_share=1.0)
    asking = policy(model=whole, requests_burst=1.0, requests_per_s=1.0, cooldown_s=0.0)
    assert len(consider(asking, rows_of({}))) == 1
    rows = rows_of({})
    decisions = [
        decision
        for frame in range(1, 60)
        for decision in consider(asking, rows, 10 + frame, now_ns=NOW_NS + frame * FRAME_NS)
    ]
    assert [one.ask.region.width for one in decisions] == [WIDTH]


def test_what_comes_into_view_is_asked_about_as_soon_as_it_is_whole() -> None:
    """Busy frames or fast ones: it may be cut again before anything is considered anew."""
    asking, rows = policy(), rows_of({"box": (0, 400, 300, 700)})
    assert consider(asking, rows) == []
    assert asking.suppressed == {Suppression.CUT_BY_FRAME: 1}
    assert consider(asking, rows, 11, now_ns=NOW_NS + FRAME_NS, busy=True) == []
    rows["box"] = rows["seen_box"] = (40, 400, 340, 700)
    decisions = consider(asking, rows, 12, now_ns=NOW_NS + 2 * FRAME_NS, busy=True)
    assert [one.asked for one in decisions] == [(0,)]


def test_what_cools_down_rides_in_the_crop_of_another() -> None:
    """Its last escalation ended without an answer: a crop beside it decides about it, too."""
    asking, rows = policy(cooldown_s=3.0), rows_of({}, {"box": (630, 400, 642, 412)})
    rows["confirmed"] = True, False
    assert [one.asked for one in consider(asking, rows)] == [(0,)]
    rows["pending"] = False
    for frame in range(1, 9):
        assert consider(asking, rows, 10 + frame, now_ns=NOW_NS + frame * FRAME_NS) == []
    assert rows["suppression"][0] == Suppression.COOLDOWN
    rows["confirmed"] = True
    decisions = consider(asking, rows, 19, now_ns=NOW_NS + 9 * FRAME_NS, busy=True)
    assert [one.asked for one in decisions] == [(1, 0)]
