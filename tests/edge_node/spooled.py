"""A spool on disk with a listener that remembers what it heard."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from edge_node.adapters.spool.cipher import Cipher
from edge_node.adapters.spool.keeper import SpoolKeeper
from edge_node.config import EgressSettings, SpoolSettings
from edge_node.logic.egress import digest_of
from edge_node.metrics import EdgeMetrics
from edge_node.values import Cause, Ending, EscalationOutcome, Kept
from foundation.clock import SystemClock
from foundation.escalations import Answer, LabelledBoxes, Verdict
from tests.edge_node.escalations import candidate, escalation

BOUND_S = 10.0
KEY = "0f" * 32


def kept(id_: str, *, run: str = "earlier", value: float = 0.24, size: int = 100) -> Kept:
    """An escalation of an earlier run, no longer fresh."""
    crop = escalation(id_, expiry_s=-1.0, size=size)
    return Kept(crop, candidate(id_).question, value, run, digest_of(EgressSettings()))


def answered(id_: str) -> Ending:
    """It was answered: nothing is there."""
    verdict = Verdict(id_, Answer(LabelledBoxes.empty()), "c" * 64)
    now_ns = SystemClock().now_ns()
    return Ending(id_, EscalationOutcome.ANSWERED, Cause.NONE, now_ns, verdict)


class Heard:
    """Implements `ports.SpoolListener`."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.unwritten: list[str] = []
        self.backlogs: list[list[str]] = []
        self.claims: list[tuple[str, bool]] = []
        self.gone: list[Ending] = []
        self.lost: list[Ending] = []
        self.ended: list[str] = []
        self._changed = threading.Condition()

    def note_kept(self, escalation_ids: Sequence[str], *, written: bool) -> None:
        """Remembers."""
        self._note(lambda: (self.written if written else self.unwritten).extend(escalation_ids))

    def note_backlog(self, backlog: Sequence[Kept]) -> None:
        """Remembers."""
        self._note(lambda: self.backlogs.append([one.escalation.id for one in backlog]))

    def note_claimed(self, escalation_id: str, kept: Kept | None) -> None:
        """Remembers."""
        self._note(lambda: self.claims.append((escalation_id, kept is not None)))

    def note_gone(self, reason: str, ending: Ending) -> None:
        """Remembers."""
        del reason
        self._note(lambda: self.gone.append(ending))

    def note_lost(self, reason: str, ending: Ending) -> None:
        """Remembers."""
        del reason
        self._note(lambda: self.lost.append(ending))

    def note_ended(self, escalation_ids: Sequence[str]) -> None:
        """Remembers."""
        self._note(lambda: self.ended.extend(escalation_ids))

    def _note(self, remember: Callable[[], None]) -> None:
        with self._changed:
            remember()
            self._changed.notify_all()

    @property
    def appended(self) -> int:
        """Of how many it is known what became of them."""
        return len(self.written) + len(self.unwritten)

    def wait_for_append(self, known: int) -> None:
        """Until it is known of more than these."""
        self.wait(lambda: self.appended > known)

    def wait(self, reached: Callable[[], bool]) -> None:
        """Until it has been heard."""
        with self._changed:
            assert self._changed.wait_for(reached, BOUND_S)


class Spooled:
    """A running spool."""

    def __init__(self, folder: Path, *, key: str = "", **settings: float) -> None:
        self.registry = CollectorRegistry()
        self.heard = Heard()
        self.failures: list[BaseException] = []
        document = {"folder": str(folder), **settings}
        self.keeper = SpoolKeeper(
            SpoolSettings.model_validate(document),
            Cipher(bytes.fromhex(key) if key else None),
            EdgeMetrics(self.registry, "cam"),
            SystemClock(),
        )

    @contextlib.contextmanager
    def running(self, ended: Mapping[str, tuple[str, str]] | None = None) -> Iterator[None]:
        """From opening to closing."""
        with self.keeper:
            self.keeper.start(self.heard, ended or {}, self.failures.append)
            yield

    def append(self, *ids: str, value: float = 0.24, size: int = 100) -> None:
        """Appends escalations of an earlier run, and waits until it is known what became of them.

        As an edge node does, one at a time.
        """
        for id_ in ids:
            known = self.heard.appended
            assert self.keeper.append(kept(id_, value=value, size=size))
            self.heard.wait_for_append(known)

    def take(self) -> list[str]:
        """Asks for the backlog."""
        count = len(self.heard.backlogs)
        self.keeper.take()
        self.heard.wait(lambda: len(self.heard.backlogs) > count)
        return self.heard.backlogs[-1]

    def counted(self, name: str, **labels: str) -> float:
        """A metric."""
        return self.registry.get_sample_value(name, labels) or 0.0


def wait_for(reached: Callable[[], bool]) -> None:
    """Until it is so."""
    deadline = time.monotonic() + BOUND_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)
