"""Prices and buckets together, as the frame lane asks them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.logic.budget import NS_PER_S
from edge_node.logic.spending import Ledger, Limits, Price, Refusal, Reservation

LIMITS = Limits(2_000.0, 120_000.0, 10.0, 100.0, bytes_headroom=10_000.0)


def offer_for(ledger: Ledger, seconds: int, offers: list[tuple[float, float]]) -> list[float]:
    """Makes the same offers (value, bytes) every second; returns the values that were paid."""
    paid = []
    for second in range(seconds):
        now_ns = second * NS_PER_S
        for value, size_bytes in offers:
            ledger.learn(value, size_bytes, now_ns)
            if isinstance(ledger.reserve(value, size_bytes, now_ns), Reservation):
                paid.append(value)
    return paid


def test_dear_is_sent_where_bytes_are_scarce() -> None:
    """Of a 2 kB crop worth 5 and four worth 1 every second the bucket pays for the first."""
    paid = offer_for(Ledger(LIMITS), 1_000, [(1.0, 2_000.0)] * 4 + [(5.0, 2_000.0)])
    assert paid.count(5.0) > 950
    assert len(paid) < 1_070


def test_smaller_of_two_equals_is_sent() -> None:
    """The price is one of bytes."""
    ledger = Ledger(LIMITS)
    offer_for(ledger, 600, [(1.0, 8_000.0), (1.0, 2_000.0)])
    now_ns = 600 * NS_PER_S
    assert ledger.reserve(1.0, 8_000.0, now_ns) is Refusal.PRICE
    assert isinstance(ledger.reserve(1.0, 1_500.0, now_ns), Reservation)


def test_requests_have_a_price_of_their_own() -> None:
    """Where requests are scarce and bytes are not, size does not matter but value does."""
    ledger = Ledger(Limits(1e6, 1e8, 1.0, 60.0))
    paid = offer_for(ledger, 1_000, [(1.0, 1_000.0)] * 4 + [(5.0, 20_000.0)])
    price = ledger.price(1_000 * NS_PER_S)
    assert paid.count(5.0) > 950
    assert price.per_request > 1.0
    assert price.per_byte * 20_000 < 0.1


def test_further_costs_are_paid_too() -> None:
    """What is worth no more than its other costs is not sent at any price."""
    ledger = Ledger(LIMITS)
    assert ledger.reserve(1.0, 1_000.0, 0, costs=1.0) is Refusal.PRICE
    assert isinstance(ledger.reserve(1.0, 1_000.0, 0, costs=0.9), Reservation)


def test_refusal_names_what_is_spent() -> None:
    """Before anything has a price: the bytes or the requests."""
    ledger = Ledger(LIMITS)
    assert isinstance(ledger.reserve(1.0, 110_000.0, 0), Reservation)
    assert ledger.reserve(1.0, 1.0, 0) is Refusal.BYTES
    ledger = Ledger(LIMITS)
    for _ in range(100):
        assert isinstance(ledger.reserve(1.0, 1.0, 0), Reservation)
    assert ledger.reserve(1.0, 1.0, 0) is Refusal.REQUESTS


def test_crop_that_was_never_sent_costs_nothing() -> None:
    """Bytes and request come back."""
    ledger = Ledger(LIMITS)
    for _ in range(1_000):
        reservation = ledger.reserve(1.0, 100_000.0, 0)
        assert isinstance(reservation, Reservation)
        ledger.settle(reservation, 0)


def test_price_of_an_escalation() -> None:
    """Its bytes and the request, and what can be bought for as much."""
    price = Price(0.5, 2.0)
    assert price.of(10.0) == pytest.approx(7.0)
    assert price.affords(7.0) == pytest.approx(10.0)
    assert Price(0.0, 2.0).affords(7.0) == math.inf


def test_reservation_holds_up_to_what_the_offer_is_worth() -> None:
    """Of a crop the ledger says beforehand how large it may turn out."""
    ledger = Ledger(LIMITS)
    offer_for(ledger, 600, [(1.0, 2_000.0)] * 3)
    now_ns = 600 * NS_PER_S
    price = ledger.price(now_ns)
    value = 0.1 + 1.5 * price.of(2_000.0)
    bought = ledger.reserve(value, 2_000.0, now_ns, costs=0.1)
    assert isinstance(bought, Reservation)
    assert bought.most_bytes == pytest.approx(price.affords(value - 0.1))
    assert 2_000.0 < bought.most_bytes < 3_500.0


def test_free_crop_may_take_what_is_there_and_makes_no_debt() -> None:
    """Without a price the bucket is the limit, headroom and all."""
    ledger = Ledger(LIMITS)
    bought = ledger.reserve(1.0, 50_000.0, 0)
    assert isinstance(bought, Reservation)
    assert bought.most_bytes == pytest.approx(120_000.0)
    ledger.settle(bought, bought.most_bytes)
    assert ledger.bytes.bucket.available(0) == pytest.approx(-LIMITS.bytes_headroom)


def test_crop_above_the_burst_may_be_still_larger() -> None:
    """It waits for a full bucket and makes a debt as it is."""
    bought = Ledger(LIMITS).reserve(1.0, 200_000.0, 0)
    assert isinstance(bought, Reservation)
    assert bought.most_bytes == math.inf


@given(
    st.lists(
        st.tuples(st.integers(-(10**10), 10**11), st.floats(0.0, 10.0), st.floats(0.0, 150_000.0)),
        max_size=60,
    )
)
def test_buckets_are_never_taken_below_the_headroom(
    steps: list[tuple[int, float, float]],
) -> None:
    """Whatever is offered on whatever clock."""
    ledger = Ledger(LIMITS)
    now_ns = 0
    for step_ns, value, size_bytes in steps:
        now_ns += step_ns
        ledger.learn(value, size_bytes, now_ns)
        answer = ledger.reserve(value, size_bytes, now_ns)
        if isinstance(answer, Reservation):
            assert answer.most_bytes >= size_bytes
        if isinstance(answer, Reservation) and size_bytes <= 110_000.0:
            assert ledger.bytes.bucket.level >= LIMITS.bytes_headroom - 1e-6
            assert ledger.requests.bucket.level >= -1e-9
