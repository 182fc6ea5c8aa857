"""Token buckets: how many requests and bytes the escalation lane may spend.

The clock that is handed in may stand still, step back or jump ahead: only its forward movement past
the last fill makes tokens.
"""

from __future__ import annotations

import math

from foundation.errors import ConfigError

NS_PER_S = 1_000_000_000


class TokenBucket:
    """Refills at a steady rate up to a burst; overdrawn by settlements, which are paid back first.

    The promise: what is taken (of at most the burst at once) and what settlements add to it comes,
    between any two instants, to at most burst + rate x time + debt, where the debt is what the
    bucket is overdrawn by at the later one. A debt arises only from settlements above their
    estimates; as long as those stay within the headroom there is none, so burst + rate x time
    holds. Single-threaded.
    """

    def __init__(self, rate_per_s: float, burst: float, *, headroom: float = 0.0) -> None:
        """Starts full.

        Args:
            rate_per_s: Tokens made a second.
            burst: The most it holds.
            headroom: Of the burst, what is left to settlements: a take goes no lower.
        """
        self.rate_per_s = rate_per_s
        self.burst = burst
        self.headroom = headroom
        self._level = burst
        self._excess = 0.0
        self._filled_at_ns: int | None = None

    @property
    def level(self) -> float:
        """What it held when it was last filled or spent from; negative is a debt."""
        return self._level - self._excess

    @property
    def filled_at_ns(self) -> int | None:
        """The instant up to which it has been filled; None before the first."""
        return self._filled_at_ns

    def restore(self, level: float, filled_at_ns: int) -> None:
        """Takes over what another bucket held at an instant."""
        self._level = min(self.burst, level)
        self._excess = 0.0
        self._filled_at_ns = filled_at_ns

    def available(self, now_ns: int) -> float:
        """What can be taken now."""
        self._refill(now_ns)
        return self._level - self.headroom

    def holds(self, amount: float, now_ns: int) -> bool:
        """Whether this much could be taken now; an amount above the burst needs a full bucket."""
        return self.available(now_ns) >= min(amount, self.burst - self.headroom)

    def take(self, amount: float) -> None:
        """Takes what `holds` has just allowed."""
        self._level -= amount

    def settle(self, reserved: float, spent: float) -> None:
        """Replaces an estimate by what was really spent; a refund above the burst is lost.

        What was spent beyond the estimate is taken after the next filling: it is spent now, and
        tokens that would have spilled before must not pay for it.
        """
        self._level = min(self.burst, self._level + max(0.0, reserved - spent))
        self._excess += max(0.0, spent - reserved)

    def _refill(self, now_ns: int) -> None:
        self._fill(now_ns)
        self._level -= self._excess
        self._excess = 0.0

    def _fill(self, now_ns: int) -> None:
        if self._filled_at_ns is None:
            self._filled_at_ns = now_ns
            return
        elapsed_s = (now_ns - self._filled_at_ns) / NS_PER_S
        if elapsed_s > 0:
            self._level = min(self.burst, self._level + elapsed_s * self.rate_per_s)
        # A small step back is waited out, so that no second is counted twice; after one that is
        # longer than a filling takes, nothing would be sent for as long, so it counts from there.
        if elapsed_s > 0 or -elapsed_s * self.rate_per_s > self.burst:
            self._filled_at_ns = now_ns


def check_budget(name: str, rate_per_s: float, burst: float, smallest: float) -> None:
    """Refuses a budget that could never pay for anything.

    Args:
        name: What the keys of the settings begin with: of `name_per_s` and `name_burst`.
        rate_per_s: Units made a second.
        burst: The most units that may leave at once.
        smallest: Units that the burst must hold, for the smallest single escalation.

    Raises:
        ConfigError: The rate or the burst is no positive number, or the burst is below `smallest`.
    """
    for key, amount in ((f"{name}_per_s", rate_per_s), (f"{name}_burst", burst)):
        if not (math.isfinite(amount) and amount > 0):
            raise ConfigError(
                f"{key} is {amount:g}, so nothing could ever be asked",
                remedy="Give it a positive number; to ask nothing, set policy.rollout to off",
            )
    if burst < smallest:
        raise ConfigError(
            f"{name}_burst is {burst:g}, less than the {smallest:.0f} of the smallest escalation",
            remedy=f"Let it be at least {math.ceil(smallest)}, or let crop.side_min_px be smaller",
        )
