"""What the spool's thread is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from edge_node.adapters.spool.entries import Ended
from edge_node.values import Kept


@dataclass(frozen=True, slots=True)
class Append:
    """Keep an escalation."""

    kept: Kept


@dataclass(frozen=True, slots=True)
class End:
    """Note how one has ended."""

    ended: Ended


@dataclass(frozen=True, slots=True)
class GiveBack:
    """One that was handed out waits again; `attempted`: the stream broke over it."""

    id: str
    attempted: bool


@dataclass(frozen=True, slots=True)
class Take:
    """Hand out the next of the backlog."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Hand out one, if it waits."""

    id: str


Command = Append | End | GiveBack | Take | Claim
