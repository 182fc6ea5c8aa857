"""What a full spool lets go of."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge_node.logic.retain import CELLS, Holding, choose_evictions

HOLDINGS = st.lists(
    st.builds(
        Holding,
        id=st.uuids().map(str),
        captured_at_ns=st.integers(0, 10**15),
        size_bytes=st.integers(1, 50_000),
        value=st.floats(0, 2),
        audit=st.booleans(),
    ),
    max_size=60,
    unique_by=lambda one: one.id,
)


def holding(
    number: int, *, at: int | None = None, size: int = 1000, value: float = 0.5, audit: bool = False
) -> Holding:
    """One of a series, a second apart."""
    at = number if at is None else at
    return Holding(f"{number:04}", at * 10**9, size, value, audit)


@given(HOLDINGS, st.integers(0, 60), st.integers(0, 1_000_000))
def test_limits_hold_and_no_more_goes_than_must(
    holdings: list[Holding], count_max: int, bytes_max: int
) -> None:
    """Each at most once; without the last that went, a limit would still be exceeded."""
    gone = choose_evictions(holdings, count_max=count_max, bytes_max=bytes_max)
    assert len({one.id for one in gone}) == len(gone)

    def fits(lost: list[Holding]) -> bool:
        kept = [one for one in holdings if one not in lost]
        return len(kept) <= count_max and sum(one.size_bytes for one in kept) <= bytes_max

    assert fits(gone)
    assert not gone or not fits(gone[:-1])


@given(HOLDINGS, st.randoms(use_true_random=False))
def test_order_of_holdings_does_not_matter(holdings: list[Holding], random: object) -> None:
    """The choice is a function of the set."""
    turned = list(holdings)
    random.shuffle(turned)  # type: ignore[attr-defined]
    first = choose_evictions(holdings, count_max=20, bytes_max=200_000)
    assert first == choose_evictions(turned, count_max=20, bytes_max=200_000)


@given(HOLDINGS, st.integers(-10, 0), st.integers(-10, 0))
def test_where_others_take_all_the_room_all_go(
    holdings: list[Holding], count_max: int, bytes_max: int
) -> None:
    """Also where there are none."""
    gone = choose_evictions(holdings, count_max=count_max, bytes_max=bytes_max)
    assert {one.id for one in gone} == {one.id for one in holdings}


def test_least_value_per_byte_goes_first() -> None:
    """Within one stretch of time."""
    holdings = [holding(n, at=0, value=0.1 * (n + 1)) for n in range(10)]
    gone = choose_evictions(holdings, count_max=6, bytes_max=10**9)
    assert [one.id for one in gone] == ["0000", "0001", "0002", "0003"]
    large = [*holdings, holding(10, at=0, size=100_000, value=1.0)]
    assert choose_evictions(large, count_max=10, bytes_max=10**9)[0].id == "0010"


def test_every_stretch_of_time_keeps_its_best() -> None:
    """A dull night beside a bright hour is thinned and not lost."""
    bright = [holding(n, at=n % 60, value=1.0) for n in range(900)]
    dull = [holding(1000 + n, at=3600 + 30 * n, value=0.01) for n in range(900)]
    gone = choose_evictions([*bright, *dull], count_max=300, bytes_max=10**9)
    kept = {one.id for one in [*bright, *dull]} - {one.id for one in gone}
    left = sorted(one.captured_at_ns // 10**9 for one in dull if one.id in kept)
    stretch_s = (3600 + 30 * 900) / CELLS
    assert max(later - earlier for earlier, later in pairwise(left)) < 2 * stretch_s
    assert len(kept) == 300
    assert sum(one.value == 1.0 for one in bright if one.id in kept) > 200


def test_audits_are_thinned_evenly_and_never_all_lost() -> None:
    """However little they are worth."""
    audits = [holding(n, at=10 * n, value=0.0, audit=True) for n in range(100)]
    others = [holding(1000 + n, at=n, value=1.0) for n in range(1000)]
    gone = choose_evictions([*audits, *others], count_max=400, bytes_max=10**9)
    lost = {one.id for one in gone}
    left = [one for one in audits if one.id not in lost]
    assert len(left) >= 40
    halves = [sum(one.captured_at_ns < 500 * 10**9 for one in left), len(left)]
    assert 0.4 < halves[0] / halves[1] < 0.6
    one_left = choose_evictions([*audits, *others], count_max=1, bytes_max=10**9)
    assert len(one_left) == 1099
    assert next(one for one in [*audits, *others] if one not in one_left).audit
