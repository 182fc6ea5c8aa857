"""What the aims let pass, and that the budgets hold whatever the aim."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_node.config import PolicySettings
from edge_node.logic.aim import OUTBIDS, Aim, BudgetAim, RateAim, RiskAim
from edge_node.logic.risk import Promise, RiskTarget, RiskThreshold
from edge_node.logic.spending import Ledger, Limits, Reservation
from edge_node.values import Suppression

NS_PER_S = 1_000_000_000
AMPLE = Limits(1e12, 1e12, 1e9, 1e9)
THRESHOLD = RiskThreshold(0.3, RiskTarget(0.1, Promise.CONFIDENCE), 100, 0.05, 0.5)
AIMS = ("budget", "rate", "risk")


def make(kind: str, limits: Limits = AMPLE, **values: float) -> Aim:
    """An aim of this kind with one camera's budgets."""
    chosen = PolicySettings.model_validate({"encode_share": 16.0, **values})
    if kind == "budget":
        return BudgetAim(chosen, Ledger(limits))
    if kind == "rate":
        return RateAim(chosen, Ledger(limits))
    return RiskAim(chosen, Ledger(limits), THRESHOLD)


def offer(aim: Aim, values: list[float], now_ns: int) -> list[Reservation | Suppression]:
    """Tracks that are heard of and offered in the same frame, one after another."""
    worth = np.array(values)
    sizes, seconds = np.full(len(worth), 2_000.0), np.full(len(worth), 0.002)
    aim.learn(worth, sizes, seconds, now_ns)
    return [aim.reserve(value, 2_000.0, 0.002, now_ns) for value in values]


@pytest.mark.parametrize(("share", "least"), [(0.05, 0.84), (0.2, 0.93), (0.6, 0.99)])
@pytest.mark.parametrize("per_frame", [1, 7])
def test_rate_aim_reaches_its_share_with_the_most_valuable(
    share: float, least: float, per_frame: int
) -> None:
    """Within a tenth of the share after the start, and worth nearly as much as the best choice.

    Six thousand tracks of exponential value, of which the first two thousand are the start.
    """
    random = np.random.default_rng(7)
    aim = make("rate", ask_share=share)
    values = random.exponential(1.0, 6_000)
    taken = np.zeros(len(values), np.bool_)
    for first in range(0, len(values), per_frame):
        part = values[first : first + per_frame].tolist()
        answers = offer(aim, part, first * NS_PER_S // 20)
        for number, answer in enumerate(answers):
            taken[first + number] = isinstance(answer, Reservation)
    late, chosen = values[2_000:], taken[2_000:]
    assert chosen.mean() == pytest.approx(share, rel=0.1)
    best = np.sort(late)[::-1][: int(chosen.sum())].sum()
    assert late[chosen].sum() > least * best


def test_rate_aim_counts_tracks_and_not_time() -> None:
    """A quiet hour makes no tokens."""
    aim = make("rate", ask_share=0.1)
    granted = 0
    for number in range(2_000):
        granted += isinstance(offer(aim, [1.0], number * 3_600 * NS_PER_S)[0], Reservation)
    assert granted == pytest.approx(200, abs=10)


def test_aims_want_what_they_are_for() -> None:
    """The band, or whatever the promise does not let the edge keep."""
    in_band, doubts = np.array([True, False, True, False]), np.array([0.1, 0.4, 0.4, 0.29])
    for kind in ("budget", "rate"):
        assert make(kind).wants(in_band, lambda: doubts).tolist() == in_band.tolist()
    assert make("risk").wants(in_band, lambda: doubts).tolist() == [False, True, True, False]


def test_prices_of_aims() -> None:
    """All that costs, tokens alone, or nothing."""
    tight = Limits(100.0, 4_000.0, 1e9, 1e9)
    for kind in AIMS:
        aim = make(kind, tight, ask_share=0.1)
        per_byte, per_request = [], []
        for second in range(200):
            offer(aim, [1.0, 0.5, 0.25], second * NS_PER_S)
            prices = aim.prices(second * NS_PER_S)
            per_byte.append(prices.per_byte)
            per_request.append(prices.per_request)
        assert (max(per_byte) > 0) is (kind == "budget")
        assert (max(per_request) > 0) is (kind == "rate")


def test_refusals_have_their_cause() -> None:
    """Each resource names itself."""
    cases = {
        Suppression.BUDGET_BYTES: Limits(1.0, 1_000.0, 1e9, 1e9),
        Suppression.BUDGET_REQUESTS: Limits(1e12, 1e12, 1e-3, 1.0),
    }
    for cause, limits in cases.items():
        aim = make("budget", limits)
        answers = [aim.reserve(OUTBIDS, 600.0, 0.001, 0) for _ in range(2)]
        assert isinstance(answers[0], Reservation)
        assert answers[1] is cause
    busy = make("budget", encode_share=0.01)
    assert isinstance(busy.reserve(OUTBIDS, 600.0, 0.03, 0), Reservation)
    assert busy.reserve(OUTBIDS, 600.0, 0.03, 0) is Suppression.ENCODER_BUSY
    assert make("budget").reserve(0.0, 600.0, 0.001, 0) is Suppression.PRICE


def test_refund_of_what_is_never_sent_pays_for_the_next() -> None:
    """Bytes and request."""
    aim = make("budget", Limits(1e-3, 1_000.0, 1e-3, 1.0))
    first = aim.reserve(1.0, 1_000.0, 0.001, 0)
    assert isinstance(first, Reservation)
    assert aim.reserve(1.0, 1_000.0, 0.001, 0) is not None
    aim.settle(first, 0)
    assert isinstance(aim.reserve(1.0, 1_000.0, 0.001, 0), Reservation)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(AIMS),
    st.lists(
        st.tuples(st.floats(-1e3, 1e6), st.floats(1.0, 9e3), st.integers(-(10**10), 10**10)),
        max_size=60,
    ),
)
def test_budgets_hold_whatever_the_aim_and_the_clock(
    kind: str, offers: list[tuple[float, float, int]]
) -> None:
    """What is granted is never more than the burst and what time has made."""
    limits = Limits(1_000.0, 10_000.0, 2.0, 5.0)
    aim = make(kind, limits, ask_share=1.0)
    now_ns = forward_ns = 10**18
    spent = requests = 0.0
    for value, size, step_ns in offers:
        now_ns += step_ns
        forward_ns += max(0, step_ns)
        aim.learn(np.array([value]), np.array([size]), np.array([0.001]), now_ns)
        answer = aim.reserve(value, size, 0.001, now_ns)
        if isinstance(answer, Reservation):
            spent, requests = spent + size, requests + 1
        passed_s = (forward_ns - 10**18) / NS_PER_S
        assert spent <= limits.bytes_burst + limits.bytes_per_s * passed_s + 1e-3
        assert requests <= limits.requests_burst + limits.requests_per_s * passed_s + 1e-6


def test_share_of_the_tracks_is_kept_where_crops_are_never_sent() -> None:
    """A token that bought nothing comes back, as bytes and requests do; one that did does not."""
    aim = make("rate", ask_share=0.2)
    offer(aim, [1.0] * 4, NS_PER_S)

    def buys() -> list[Reservation]:
        answers = [aim.reserve(2.0, 2_000.0, 0.002, 60 * NS_PER_S) for _ in range(20)]
        return [answer for answer in answers if isinstance(answer, Reservation)]

    bought = buys()
    assert 0 < len(bought) < 20
    aim.settle(bought[0], 0.0)
    aim.settle(bought[1], 1_000.0)
    aim.settle(Reservation(0.0), 500.0)  # it leaves once more
    assert len(buys()) == 1
