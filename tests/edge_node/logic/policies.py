"""Policies for tests, with budgets that do not matter unless a test says so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge_node.config import CropSettings, PolicySettings
from edge_node.logic.aim import Aim, BudgetAim, RiskAim
from edge_node.logic.plan import Planner, Prices
from edge_node.logic.policy import Decision, Policy
from edge_node.logic.risk import Promise, RiskTarget, RiskThreshold
from edge_node.logic.rows import Floats, Rows
from edge_node.logic.spending import Ledger, Limits, Reservation
from edge_node.logic.view import View
from edge_node.logic.worth import Worth
from edge_node.values import Suppression
from foundation.frames import Pixels
from foundation.gains import GainModel, LevelCosts, variance_gains
from tests.edge_node.logic.scene import HEIGHT, NOW_NS, REPORT, WIDTH

LOW = np.full(3, 0.2, np.float32)
HIGH = np.full(3, 0.8, np.float32)
EVEN = np.ones(3, np.float32)
FRAME_NS = 33_333_333
GREY = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)


def never(track_id: int) -> bool:
    """No track is drawn for the audit."""
    del track_id
    return False


def ledger_of(values: PolicySettings) -> Ledger:
    """The budgets of the settings, for one camera by itself."""
    limits = Limits(
        values.uplink_bytes_per_s,
        values.uplink_bytes_burst,
        values.requests_per_s,
        values.requests_burst,
    )
    return Ledger(limits)


def aim_of(values: PolicySettings) -> BudgetAim:
    """The most gain for those budgets."""
    return BudgetAim(values, ledger_of(values))


class PostedPrice:
    """A price of a byte that the test sets, and how often it was asked for."""

    def __init__(self) -> None:
        self.per_byte = 0.0
        self.asked = 0

    def of(self, values: PolicySettings) -> BudgetAim:
        """An aim with that price, and the budgets of the settings."""
        return _Posted(values, self)


class _Posted(BudgetAim):
    def __init__(self, values: PolicySettings, posted: PostedPrice) -> None:
        super().__init__(values, ledger_of(values))
        self._posted = posted

    def prices(self, now_ns: int) -> Prices:
        """What was set."""
        del now_ns
        self._posted.asked += 1
        return Prices(self._posted.per_byte)


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


class Diary(BudgetAim):
    """Notes when prices are drawn anew."""

    def __init__(self, values: PolicySettings) -> None:
        super().__init__(values, ledger_of(values))
        self.refreshed_at_ns: list[int] = []

    def refresh(self, now_ns: int, early_s: float) -> None:
        """Notes it."""
        self.refreshed_at_ns.append(now_ns)
        super().refresh(now_ns, early_s)


def risk_aim(threshold: float) -> Callable[[PolicySettings], Aim]:
    """An aim that may keep what is doubted less than this."""
    target = RiskTarget(0.1, Promise.CONFIDENCE)

    def make(values: PolicySettings) -> Aim:
        allowed = RiskThreshold(threshold, target, 100, 0.05, 0.5)
        return RiskAim(values, ledger_of(values), allowed)

    return make


def policy(
    *,
    model: GainModel | None = None,
    high: Floats = HIGH,
    class_costs: Floats = EVEN,
    aim: Callable[[PolicySettings], Aim] = aim_of,
    foresees: Callable[[int], bool] = never,
    **overrides: float,
) -> Policy:
    """A policy with the band 0.2 to 0.8 and budgets that do not matter unless overridden."""
    ample = {"uplink_bytes_per_s": 1e9, "uplink_bytes_burst": 1e9, "encode_share": 16.0}
    values = PolicySettings.model_validate({**ample, **overrides})
    gains = model or variance_gains([LevelCosts(level="webp80")])
    return Policy(
        values,
        gains,
        Planner(gains, CropSettings()),
        aim(values),
        Worth(values, class_costs),
        (LOW, high, REPORT),
        foresees,
    )


def view(sequence: int = 10, *, now_ns: int = NOW_NS, pixels: Pixels = GREY) -> View:
    """A frame that was captured just now."""
    return View(sequence, now_ns, now_ns, pixels)


def consider(
    asking: Policy,
    rows: Rows,
    sequence: int = 10,
    *,
    now_ns: int = NOW_NS,
    pixels: Pixels = GREY,
    busy: bool = False,
) -> list[Decision]:
    """What is decided with the tracks' own scores."""
    frame = view(sequence, now_ns=now_ns, pixels=pixels)
    return asking.consider(rows, frame, rows["score"], busy=busy)


def textured(left: int, top: int, right: int, bottom: int, *, contrast: int) -> Pixels:
    """A grey frame with noise of this contrast in one place."""
    pixels = GREY.copy()
    noise = np.random.default_rng(1).integers(0, contrast + 1, (bottom - top, right - left, 3))
    pixels[top:bottom, left:right] = (128 + noise).astype(np.uint8)
    return pixels
