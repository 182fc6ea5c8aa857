"""Token buckets and the estimate of encoded sizes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_node.logic.budget import SizeEstimate, TokenBucket

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


def test_estimate_learns_from_the_encoder() -> None:
    """After many crops of one kind the next one is predicted well."""
    estimate = SizeEstimate(0.5)
    for _ in range(60):
        estimate.learn(10_000, 2_512)
    assert abs(estimate.predict(10_000) - 2_512) < 50
