"""What a full spool lets go of, so that what stays is worth the most and still tells of all times.

Pure: values in, ids out. The least expected gain per byte goes first, with two exceptions that keep
what a ranking by gain alone would lose. Audits are an unbiased sample, so they are thinned evenly
and never all given up. And every stretch of time keeps some of its best, because an outage of a day
that left only its brightest hour would say nothing of the night.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CELLS = 48
"""Stretches into which the spooled time is divided at most."""
CELL_MIN_NS = 60_000_000_000
"""What was captured within a minute is of one time."""
COVERED_SHARE = 0.25
"""Of what is kept, the share that is divided evenly among the stretches of time."""
AUDIT_SHARE = 0.1
"""Of what is kept, the share that audits may hold against more valuable escalations."""


@dataclass(frozen=True, slots=True)
class Holding:
    """One escalation in the spool, without its pixels.

    Attributes:
        id: Whose.
        captured_at_ns: When its frame was captured.
        size_bytes: What it takes.
        value: What an answer is worth.
        audit: Whether it was drawn by lot.
    """

    id: str
    captured_at_ns: int
    size_bytes: int
    value: float
    audit: bool

    @property
    def density(self) -> float:
        """Value per byte."""
        return self.value / max(1, self.size_bytes)


def choose_evictions(
    holdings: Sequence[Holding], *, count_max: int, bytes_max: int
) -> list[Holding]:
    """Which must go so that no more than so many, and so many bytes, stay.

    Args:
        holdings: All that is held, in any order.
        count_max: How many may stay.
        bytes_max: How many bytes may stay.

    Returns:
        The least that satisfies both limits in the order of this policy: unprotected ones by their
        value per byte, then those that cover time, then audits. Where a limit is below 0, because
        others than these take all the room, all of them; of none, none.
    """
    count, size = len(holdings), sum(one.size_bytes for one in holdings)
    if not holdings or (count <= count_max and size <= bytes_max):
        return []
    audits = _spread_audits(holdings, count_max * AUDIT_SHARE, bytes_max * AUDIT_SHARE)
    covering = _covering(holdings, count_max * COVERED_SHARE, bytes_max * COVERED_SHARE)
    ranks = {
        one.id: (2 if one.id in audits else 1 if one.id in covering else 0) for one in holdings
    }
    order = sorted(
        holdings, key=lambda one: (ranks[one.id], one.density, one.captured_at_ns, one.id)
    )
    gone = []
    for one in order:
        if count <= count_max and size <= bytes_max:
            break
        gone.append(one)
        count -= 1
        size -= one.size_bytes
    return gone


def _spread_audits(holdings: Iterable[Holding], count: float, size_bytes: float) -> set[str]:
    """Audits that fit a share, evenly over their order in time; at least one, if there is any.

    Evenly and blind to value, because a sample that favours some is none.
    """
    audits = sorted(
        (one for one in holdings if one.audit), key=lambda one: (one.captured_at_ns, one.id)
    )
    if not audits:
        return set()
    mean = sum(one.size_bytes for one in audits) / len(audits)
    room = max(1, int(min(count, size_bytes / max(1.0, mean))))
    if room >= len(audits):
        return {one.id for one in audits}
    step = len(audits) / room
    return {audits[int((number + 0.5) * step)].id for number in range(room)}


def _covering(holdings: Sequence[Holding], count: float, size_bytes: float) -> set[str]:
    """The densest of each stretch of time, up to an even share of this much, at least one each."""
    first = min(one.captured_at_ns for one in holdings)
    span = max(one.captured_at_ns for one in holdings) - first + 1
    number_of = max(1, min(CELLS, span // CELL_MIN_NS))
    cells: list[list[Holding]] = [[] for _ in range(number_of)]
    for one in holdings:
        cells[(one.captured_at_ns - first) * number_of // span].append(one)
    kept: set[str] = set()
    for cell in cells:
        own_count, own_bytes = count / number_of, size_bytes / number_of
        for number, one in enumerate(sorted(cell, key=lambda one: (-one.density, one.id))):
            own_count -= 1
            own_bytes -= one.size_bytes
            if number and (own_count < 0 or own_bytes < 0):
                break
            kept.add(one.id)
    return kept
