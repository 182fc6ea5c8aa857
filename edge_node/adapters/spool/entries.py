"""What the spool tells of its escalations, and what it is told of their ends."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from edge_node.logic.retain import Holding
from edge_node.values import Cause, EscalationOutcome, Reason
from foundation.escalations import Verdict


@dataclass(frozen=True, slots=True)
class Ended:
    """How an escalation has ended, to be written down."""

    id: str
    outcome: EscalationOutcome
    cause: Cause
    ended_at_ns: int
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What the spool tells of an escalation without opening its crop; outcome empty: it waits."""

    id: str
    run: str
    captured_at_ns: int
    fresh_until_ns: int
    reason: str
    value: float
    size_bytes: int
    attempts: int
    outcome: str
    cause: str
    ended_at_ns: int

    @property
    def holding(self) -> Holding:
        """As the policy that lets go of some sees it."""
        audit = self.reason == Reason.AUDIT.value
        return Holding(self.id, self.captured_at_ns, self.size_bytes, self.value, audit)


_TYPES = (str, str, int, int, str, float, int, int, str, str, int)
_REASONS = {reason.value for reason in Reason}
_OUTCOMES = {"", *(outcome.value for outcome in EscalationOutcome)}


def read_entry(row: tuple[object, ...]) -> Entry:
    """A row, whose columns SQLite lets hold anything.

    Raises:
        sqlite3.DatabaseError: No edge node has written that.
    """
    entry = Entry(*row)  # type: ignore[arg-type] # checked on the next line
    sound = all(isinstance(value, kind) for value, kind in zip(row, _TYPES, strict=True))
    if not (sound and entry.reason in _REASONS and entry.outcome in _OUTCOMES):
        raise sqlite3.DatabaseError(f"the row of {entry.id!s:.80} is none of an edge node's")
    return entry


@dataclass(frozen=True, slots=True)
class Totals:
    """How many escalations wait and how many have ended, and bytes of crops."""

    waiting: int
    waiting_bytes: int
    ended: int
    ended_bytes: int
