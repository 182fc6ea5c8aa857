"""Token buckets and the estimate of encoded sizes."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_node.logic.budget import TokenBucket, check_budget
from foundation.errors import ConfigError

START_NS = 1_700_000_000_000_000_000


def test_bucket_refills_at_its_rate_up_to_its_burst() -> None:
    """Half a second at ten a second gives five; a long time gives the burst and no more."""
    bucket = TokenBucket(10.0, 8.0)
    assert bucket.holds(8.0, START_NS)
    bucket.take(8.0)
    assert not bucket.holds(0.1, START_NS)
    assert bucket.holds(5.0, START_NS + 500_000_000)
    assert not bucket.holds(5.1, START_NS + 500_000_000)
    assert bucket.holds(8.0, START_NS + 3_600_000_000_000)


def test_amount_above_the_burst_needs_a_full_bucket() -> None:
    """A crop larger than the burst is not refused for ever."""
    bucket = TokenBucket(10.0, 8.0)
    assert bucket.holds(100.0, START_NS)
    bucket.take(100.0)
    assert not bucket.holds(100.0, START_NS + 9_000_000_000)
    assert bucket.holds(100.0, START_NS + 10_000_000_000)


def test_settlement_replaces_an_estimate() -> None:
    """What was reserved too much comes back, what was too little is a debt."""
    bucket = TokenBucket(1.0, 10.0)
    bucket.holds(0.0, START_NS)
    bucket.take(6.0)
    bucket.settle(6.0, 2.0)
    assert bucket.holds(8.0, START_NS)
    assert not bucket.holds(8.1, START_NS)
    bucket.settle(0.0, 9.0)
    assert not bucket.holds(0.1, START_NS + 1_000_000_000)


@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.floats(0.0, 5.0)), max_size=100),
    st.floats(0.1, 20.0),
    st.floats(1.0, 20.0),
)
def test_taken_never_exceeds_burst_plus_rate_times_time(
    steps: list[tuple[int, float]], rate: float, burst: float
) -> None:
    """The promise of a token bucket, over any sequence of attempts."""
    bucket = TokenBucket(rate, burst)
    now_ns, taken = START_NS, 0.0
    for wait_ns, amount in steps:
        now_ns += wait_ns
        if amount <= burst and bucket.holds(amount, now_ns):
            bucket.take(amount)
            taken += amount
        assert taken <= burst + rate * (now_ns - START_NS) / 1e9 + 1e-6


def test_clock_that_stands_still_refills_nothing() -> None:
    """Asking often does not create tokens."""
    bucket = TokenBucket(10.0, 1.0)
    bucket.holds(1.0, START_NS)
    bucket.take(1.0)
    assert not any(bucket.holds(0.5, START_NS) for _ in range(1000))


def test_step_back_of_the_clock_makes_no_tokens() -> None:
    """Not when it goes back, and no second twice when it comes forward again."""
    bucket = TokenBucket(10.0, 100.0)
    bucket.holds(0.0, START_NS)
    bucket.take(100.0)
    assert bucket.available(START_NS - 5_000_000_000) == 0.0
    assert bucket.available(START_NS) == 0.0
    assert bucket.available(START_NS + 1_000_000_000) == pytest.approx(10.0)


def test_long_step_back_starves_nobody() -> None:
    """An hour back, where filling takes ten seconds: it refills from there, without a gift."""
    bucket = TokenBucket(10.0, 100.0)
    bucket.holds(0.0, START_NS)
    bucket.take(100.0)
    back_ns = START_NS - 3_600_000_000_000
    assert bucket.available(back_ns) == 0.0
    assert bucket.available(back_ns + 1_000_000_000) == pytest.approx(10.0)


def test_jump_ahead_gives_one_burst_at_most() -> None:
    """A day."""
    bucket = TokenBucket(10.0, 100.0)
    bucket.holds(0.0, START_NS)
    bucket.take(100.0)
    assert bucket.available(START_NS + 86_400_000_000_000) == 100.0


@example([(10**9, 2.0, 2.0), (0, 5.0, 1.0)], 3.0, 5.0, 0.0)
@given(
    st.lists(
        st.tuples(st.integers(0, 10**9), st.floats(0.0, 5.0), st.floats(0.0, 2.0)), max_size=60
    ),
    st.floats(0.1, 20.0),
    st.floats(5.0, 20.0),
    st.floats(0.0, 4.0),
)
def test_no_stretch_of_time_sees_more_than_is_promised(
    steps: list[tuple[int, float, float]], rate: float, burst: float, headroom: float
) -> None:
    """Between any two instants at most burst + rate x time + what is overdrawn at the later."""
    bucket = TokenBucket(rate, burst, headroom=headroom)
    now_ns = START_NS
    charges: list[tuple[int, float]] = []
    for wait_ns, amount, error in steps:
        now_ns += wait_ns
        if amount <= burst - headroom and bucket.holds(amount, now_ns):
            bucket.take(amount)
            charges.append((now_ns, amount))
            now_ns += wait_ns // 2
            bucket.settle(amount, amount * error)
            charges.append((now_ns, amount * (error - 1.0)))
        debt = max(0.0, -bucket.level)
        spent = 0.0
        for at_ns, charge in reversed(charges):
            spent += charge
            assert spent <= burst + rate * (now_ns - at_ns) / 1e9 + debt + 1e-6


@given(
    st.lists(st.tuples(st.integers(-(10**10), 10**10), st.floats(0.0, 5.0)), max_size=60),
    st.floats(0.1, 20.0),
    st.floats(5.0, 20.0),
)
def test_only_forward_movement_of_the_clock_makes_tokens(
    steps: list[tuple[int, float]], rate: float, burst: float
) -> None:
    """On a clock that goes anywhere."""
    bucket = TokenBucket(rate, burst)
    now_ns, forward_ns, taken = START_NS, 0, 0.0
    bucket.holds(0.0, now_ns)
    for step_ns, amount in steps:
        now_ns += step_ns
        forward_ns += max(0, step_ns)
        if bucket.holds(amount, now_ns):
            bucket.take(amount)
            taken += amount
        assert taken <= burst + rate * forward_ns / 1e9 + 1e-6


def test_debt_is_paid_back_before_the_next_take() -> None:
    """A crop that turned out twenty bytes too large holds the next one up for two seconds."""
    bucket = TokenBucket(10.0, 100.0)
    bucket.holds(100.0, START_NS)
    bucket.take(100.0)
    bucket.settle(100.0, 120.0)
    assert bucket.level == -20.0
    assert not bucket.holds(0.5, START_NS + 2_000_000_000)
    assert bucket.holds(0.5, START_NS + 2_100_000_000)


@pytest.mark.parametrize(
    ("rate", "burst", "largest", "words"),
    [
        (0.0, 10.0, 1.0, "bytes_per_s is 0"),
        (-1.0, 10.0, 1.0, "bytes_per_s"),
        (math.nan, 10.0, 1.0, "bytes_per_s"),
        (1.0, 0.0, 0.0, "bytes_burst is 0"),
        (1.0, math.inf, 1.0, "bytes_burst"),
        (1.0, 10.0, 10.5, "less than the 10 of the smallest"),
    ],
)
def test_budget_that_never_pays_is_refused(
    rate: float, burst: float, largest: float, words: str
) -> None:
    """With what to do about it."""
    with pytest.raises(ConfigError, match=words) as caught:
        check_budget("policy.uplink_bytes", rate, burst, largest)
    assert caught.value.remedy


def test_budget_of_one_crop_is_enough() -> None:
    """The smallest that pays."""
    check_budget("policy.uplink_bytes", 0.001, 10.0, 10.0)
