"""When what was refused is offered again."""

from __future__ import annotations

from itertools import islice

from edge_node.logic.aim import BudgetAim
from edge_node.logic.spending import Reservation
from edge_node.values import Suppression
from foundation.gains import LevelCosts, variance_gains
from tests.edge_node.logic.policies import (
    FRAME_NS,
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


class HeldLock(BudgetAim):
    """Another camera has the node's budget at hand when the first offer is made."""

    free = False

    def reserve(
        self, value: float, size_bytes: float, encode_s: float, now_ns: int
    ) -> Reservation | Suppression:
        """Refuses once."""
        if not self.free:
            self.free = True
            return Suppression.BUDGET_CONTENDED
        return super().reserve(value, size_bytes, encode_s, now_ns)


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
    assert [one.region.width for one in decisions] == [WIDTH]
