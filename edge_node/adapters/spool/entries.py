"""What the spool tells of its escalations, and what it is told of their ends.

SQLite lets a column hold anything, and a bit that has flipped on the disk makes anything of it. So
what is read is looked at here before it is believed.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from edge_node.logic.retain import Holding
from edge_node.values import Cause, EscalationOutcome, Reason
from foundation.errors import IntegrityError
from foundation.escalations import Verdict
from foundation.wire import ID_LENGTH_MAX


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


COLUMNS = ", ".join(Entry.__slots__)
"""Of the table of escalations, as `read_entry` takes them."""
_TYPES = (str, str, int, int, str, float, int, int, str, str, int)
_ID = re.compile(rf"[0-9A-Za-z_-]{{1,{ID_LENGTH_MAX}}}")
"""An id becomes the name of a file that is exported, so it must not lead elsewhere."""
_ILLEGIBLE = "\ufffd"
_REASONS = {reason.value for reason in Reason}
_OUTCOMES = {"", *(outcome.value for outcome in EscalationOutcome)}


def decode(text: bytes) -> str:
    """A text as SQLite holds it; what is not UTF-8 is replaced, and then `read_entry` finds it.

    Left to itself, sqlite3 raises OperationalError for it, as it does for a disk that fails.
    """
    return text.decode(errors="replace")


def read_entry(row: tuple[object, ...]) -> Entry:
    """A row of `COLUMNS`, decoded by `decode`.

    Raises:
        sqlite3.DatabaseError: No edge node has written that.
    """
    entry = Entry(*row)  # type: ignore[arg-type] # checked on the next line
    sound = (
        all(isinstance(value, kind) for value, kind in zip(row, _TYPES, strict=True))
        and _ID.fullmatch(entry.id)
        and entry.reason in _REASONS
        and entry.outcome in _OUTCOMES
        and entry.size_bytes >= 0
        and _ILLEGIBLE not in entry.run + entry.cause
    )
    if not sound:
        raise sqlite3.DatabaseError(f"the row of {entry.id!s:.80} is none of an edge node's")
    return entry


def read_blobs(row: tuple[object, ...], what: str) -> list[bytes]:
    """Columns that hold blobs; `what` they are is for the message.

    Raises:
        IntegrityError: One holds something else.
    """
    blobs = [value for value in row if isinstance(value, bytes)]
    if len(blobs) < len(row):
        raise IntegrityError(f"{what} in the spool is damaged: it is no blob")
    return blobs


@dataclass(frozen=True, slots=True)
class Totals:
    """How many escalations wait and how many have ended, and bytes of crops."""

    waiting: int
    waiting_bytes: int
    ended: int
    ended_bytes: int
