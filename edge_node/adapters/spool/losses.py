"""How escalations end that the spool lets go of, or that a damaged file takes with it.

A damaged file is moved aside whole. What waited in it is not sent any more, so each of those that
can be read there ends; what somebody has in hand is told of, readable or not, and its holder knows
how it ends. Until all that is published, the file is marked: a process that was killed leaves the
rest to the next one. The spool's thread only.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections import deque
from collections.abc import Collection, Mapping
from pathlib import Path

from edge_node.adapters.spool.cipher import Cipher
from edge_node.adapters.spool.database import SpoolDatabase
from edge_node.adapters.spool.entries import Entry
from edge_node.adapters.spool.folder import find_untold, note_told, quarantine
from edge_node.adapters.spool.room import check_disk
from edge_node.metrics import EdgeMetrics
from edge_node.values import Cause, Ending, EscalationOutcome
from foundation.clock import Clock, elapsed_s
from foundation.errors import HardcaseError, IntegrityError

log = logging.getLogger(__name__)

_AT_ONCE = 32
PAUSE_S = 0.02
"""So many are told at once and no sooner: a hundred thousand would hold up the frame lane."""

How = tuple[EscalationOutcome, Cause]
"""How an escalation ends."""
DAMAGED: How = (EscalationOutcome.FAILED, Cause.DAMAGED)

Loss = tuple[str, Ending]
"""The reason for which an escalation was made, and its ending."""


def loss_of(database: SpoolDatabase, entry: Entry, how: How, run: str, now_ns: int) -> Loss:
    """The end of one that nobody will answer; with what was asked, if in this run and readable.

    Args:
        database: Where it is.
        entry: Which.
        how: It ends.
        run: This run.
        now_ns: When it ends.

    Raises:
        sqlite3.Error: The disk or the file fails.
    """
    late = None
    if entry.run == run:
        try:
            late = database.kept(entry).question
        except IntegrityError as error:
            log.error("spool: %s", error)
    return entry.reason, Ending(entry.id, *how, now_ns, late=late)


class Wrecks:
    """The damaged files that were moved aside, and what of them is not told yet."""

    def __init__(
        self, folder: Path, cipher: Cipher, run: str, metrics: EdgeMetrics, clock: Clock
    ) -> None:
        self._folder = folder
        self._cipher = cipher
        self._run = run
        self._metrics = metrics
        self._clock = clock
        self._unread: list[tuple[Path, Mapping[str, str]]] = []
        self._read: list[Path] = []
        self._waiting: deque[tuple[SpoolDatabase, Entry]] = deque()
        self._unpublished: set[str] = set()
        self._opened = contextlib.ExitStack()
        self._told_at_ns = 0

    def recall(self) -> None:
        """Takes up what an earlier run moved aside and could not tell of to the end."""
        self._unread.extend((aside, {}) for aside in find_untold(self._folder))

    def add(self, error: Exception, in_hand: Mapping[str, str]) -> None:
        """Moves a damaged file aside.

        Args:
            error: What is wrong with it.
            in_hand: Of what was handed out of it and is not given back, the reason by id.

        Raises:
            OSError: The disk does not let it be moved.
        """
        aside = quarantine(self._folder, self._clock.now_ns())
        self._metrics.storage.quarantines.inc()
        log.error("spool: %s; moved to %s, a new one begins", error, aside)
        self._unread.append((aside, in_hand))

    def read(self, ended: Collection[str]) -> list[Loss]:
        """Reads what was moved aside since the last time; what waited there is told by `next`.

        Args:
            ended: Ids of what has ended, though the file does not say so.

        Returns:
            Of all that somebody has in hand, how it ends if that is not known better there.
        """
        found: list[Loss] = []
        for aside, in_hand in self._unread:
            waiting = self._open(aside)
            self._unpublished.update((waiting.keys() | in_hand.keys()) - set(ended))
            for id_, reason in in_hand.items():
                where = waiting.pop(id_, None)
                found.append((reason, self._unread_end(id_)) if where is None else self._end(where))
            lost = [where for id_, where in waiting.items() if id_ not in ended]
            if lost:
                log.error("spool: %d that waited in %s end as damaged", len(lost), aside)
            self._waiting.extend(lost)
            self._read.append(aside)
        self._unread.clear()
        self._let_go()
        return found

    def next(self) -> list[Loss]:
        """How the next of those that waited end; none where it is too early to tell them."""
        now_ns = self._clock.now_ns()
        if not self._waiting or 0 <= elapsed_s(self._told_at_ns, now_ns) < PAUSE_S:
            return []
        self._told_at_ns = now_ns
        found = [self._end(self._waiting.popleft()) for _ in range(min(_AT_ONCE, len(self)))]
        self._let_go()
        return found

    def note_published(self, id_: str) -> None:
        """How one has ended is on disk, whoever said so."""
        if id_ in self._unpublished:
            self._unpublished.discard(id_)
            self._let_go()

    def close(self) -> None:
        """Says what has not been told."""
        if self._waiting:
            log.error("spool: of %d damaged ones the next run will say that they ended", len(self))
        self._opened.close()

    def __len__(self) -> int:
        return len(self._waiting)

    def _let_go(self) -> None:
        """Closes what has been told, and takes the mark away from what is published too."""
        if self._waiting:
            return
        self._opened.close()
        if not (self._unread or self._unpublished):
            for aside in self._read:
                note_told(aside)
            self._read.clear()

    def _open(self, aside: Path) -> dict[str, tuple[SpoolDatabase, Entry]]:
        """What waited in a file, as far as it can be read, by id."""
        try:
            check_disk(aside)
            database = SpoolDatabase.open(aside, self._cipher, read_only=True)
            self._opened.callback(database.close)
            found = database.salvage()
        except (HardcaseError, sqlite3.Error, OSError) as error:
            log.error("spool: what waited in %s cannot be read: %s", aside, error)
            return {}
        if not found.whole:
            log.error("spool: more may have waited in %s than can be read", aside)
        return {entry.id: (database, entry) for entry in found.entries if not entry.outcome}

    def _end(self, where: tuple[SpoolDatabase, Entry]) -> Loss:
        database, entry = where
        try:
            return loss_of(database, entry, DAMAGED, self._run, self._clock.now_ns())
        except sqlite3.Error as error:
            log.error("spool: the crop of %s cannot be read: %s", entry.id, error)
            return entry.reason, self._unread_end(entry.id)

    def _unread_end(self, id_: str) -> Ending:
        return Ending(id_, *DAMAGED, self._clock.now_ns())
