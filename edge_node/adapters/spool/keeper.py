"""Keeps escalations on disk, in a thread of its own: nobody else waits for the disk.

Writes are gathered: all that has come while the disk was busy becomes one transaction. Where the
disk is full, read-only or failing, escalations go on without being kept, each is counted, and the
spool is tried again; where the file is damaged it is moved aside, and a new one begins. What waited
in it ends.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_node.adapters.spool.cipher import Cipher
from edge_node.adapters.spool.commands import Append, Claim, Command, End, GiveBack, Take
from edge_node.adapters.spool.database import SpoolDatabase
from edge_node.adapters.spool.entries import Ended, Entry, Totals
from edge_node.adapters.spool.folder import FolderLock
from edge_node.adapters.spool.losses import DAMAGED, PAUSE_S, How, Wrecks, loss_of
from edge_node.adapters.spool.room import COMPACT_PAGES, check_disk, make_room
from edge_node.config import SpoolSettings
from edge_node.metrics import EdgeMetrics
from edge_node.ports import SpoolListener
from edge_node.values import Cause, Ending, EscalationOutcome, Kept, SpoolLoss
from foundation.clock import Clock, after_s, elapsed_s
from foundation.errors import ConfigError, IntegrityError
from foundation.supervision import start_thread

log = logging.getLogger(__name__)

_TICK_S = 1.0
_CLOSE_S = 10.0
_BATCH_MAX = 64
_TAKE_MAX = 16
_ENDS_MAX = 65_536
_TIDY_S = 10.0


class SpoolKeeper:
    """Implements `ports.Spool`; owns the folder, the file and the thread. Used with `with`.

    Invariant: an escalation that somebody has in hand, because this run appended it or because it
    has been handed out by `take` or `claim`, is neither handed out nor let go of before it is given
    back or has ended.

    Attributes:
        run_id: This run of the edge node, which the tracks of its questions belong to.
    """

    def __init__(
        self,
        settings: SpoolSettings,
        cipher: Cipher,
        metrics: EdgeMetrics,
        clock: Clock,
    ) -> None:
        self._folder = Path(settings.folder)
        self._settings = settings
        self._cipher = cipher
        self.run_id = uuid.uuid4().hex
        self._metrics = metrics
        self._clock = clock
        self._queue: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._database: SpoolDatabase | None = None
        self._tried_at_ns = 0
        self._tidied_at_ns = 0
        self._said: set[str] = set()
        self._lock = FolderLock(self._folder)
        self._thread: threading.Thread | None = None
        self._out: dict[str, str] = {}
        self._wrecks = Wrecks(self._folder, cipher, self.run_id, metrics, clock)
        self._ends: dict[str, Ended] = {}
        self._held_count = 0
        self._held_bytes = 0

    # --- any thread ---

    def append(self, kept: Kept) -> bool:
        """Takes an escalation to be kept; False where the disk is too far behind."""
        if self._queue.qsize() >= self._settings.write_queue_max:
            self._metrics.storage.losses[SpoolLoss.BUSY].inc()
            return False
        self._queue.put(Append(kept))
        return True

    def end(self, ending: Ending) -> None:
        """Notes how one has ended, once that has been published."""
        ended = Ended(
            ending.escalation_id, ending.outcome, ending.cause, ending.ended_at_ns, ending.verdict
        )
        self._queue.put(End(ended))

    def give_back(self, escalation_id: str, *, attempted: bool = False) -> None:
        """Lets one that was handed out wait again; `attempted`: the stream broke over it."""
        self._queue.put(GiveBack(escalation_id, attempted))

    def take(self) -> None:
        """Asks for the most valuable that are no longer fresh; the listener gets them."""
        self._queue.put(Take())

    def claim(self, escalation_id: str) -> None:
        """Asks for one, whose verdict has come after all; the listener gets it, if it waits."""
        self._queue.put(Claim(escalation_id))

    def __enter__(self) -> Self:
        """Takes the folder and opens the spool.

        Raises:
            ConfigError: The folder cannot be used, or it needs another key or a newer version.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._lock)
            self._wrecks.recall()
            self._reopen()
            stack.pop_all()
        return self

    def start(
        self,
        listener: SpoolListener,
        ended: Mapping[str, tuple[str, str]],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Starts the thread.

        Args:
            listener: Hears of what is kept, handed out and let go of.
            ended: Outcome and cause by id of what is known to have ended and may not be noted.
            failed: Hears of a bug that ends the thread, in that thread.
        """
        # They are noted when the disk takes them, and are not handed out before.
        now_ns = self._clock.now_ns()
        for id_, (outcome, cause) in ended.items():
            self._ends[id_] = Ended(id_, EscalationOutcome(outcome), Cause(cause), now_ns)
        self._thread = start_thread("spool", partial(self._run, listener), failed)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Writes what has come, for some seconds at most, and gives the folder up."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(_CLOSE_S)
            if self._thread.is_alive():
                log.error("spool %s: the disk hangs, its thread is left behind", self._folder)
        self._lock.__exit__(None, None, None)

    # --- the thread ---

    def _run(self, listener: SpoolListener) -> None:
        open_ = True
        while open_:
            batch: list[Command] = []
            try:
                command = self._queue.get(timeout=PAUSE_S if self._wrecks else _TICK_S)
                while command is not None:
                    batch.append(command)
                    if len(batch) >= _BATCH_MAX or self._queue.empty():
                        break
                    command = self._queue.get()
                open_ = command is not None
            except queue.Empty:
                pass
            self._work(batch, listener)
        self._wrecks.close()
        if self._database is not None:
            self._database.close()

    def _work(self, batch: list[Command], listener: SpoolListener) -> None:
        if self._database is None and self._is_due(self._tried_at_ns, _TICK_S):
            self._try_again()
        self._tell_lost(listener)  # before those that are known to have ended are noted
        self._write(batch, listener)
        for command in batch:
            if isinstance(command, Take):
                listener.note_backlog(self._read_backlog(listener))
            elif isinstance(command, Claim):
                self._hand_over(command.id, listener)
        if self._is_due(self._tidied_at_ns, _TIDY_S):
            self._tidied_at_ns = self._clock.now_ns()
            self._tidy(listener)
        self._tell_lost(listener)

    def _write(self, batch: list[Command], listener: SpoolListener) -> None:
        """Writes a batch in one transaction, and tells what is kept and what is not."""
        appends = [command.kept for command in batch if isinstance(command, Append)]
        backs = [command for command in batch if isinstance(command, GiveBack)]
        for ended in [command.ended for command in batch if isinstance(command, End)]:
            self._wrecks.note_published(ended.id)
            if len(self._ends) < _ENDS_MAX:
                self._ends[ended.id] = ended
            else:  # after hours without a disk, and most were never kept
                self._out.pop(ended.id, None)
                listener.note_ended([ended.id])
        if not (appends or backs or self._ends):
            return
        written = False
        if self._database is not None:
            try:
                with self._database.transaction():
                    for kept in appends:
                        added_bytes = self._database.append(kept)
                        self._held_bytes += added_bytes
                        self._held_count += added_bytes > 0
                    self._database.note_attempts(back.id for back in backs if back.attempted)
                    for ended in self._ends.values():
                        self._database.end(ended)
                written = True
                own = [kept.escalation for kept in appends if kept.run == self.run_id]
                self._out.update((each.id, each.reason) for each in own)
                self._say_mended()
            except sqlite3.Error as error:
                self._fail(error)
        self._take_in(back.id for back in backs)
        if written:
            self._take_in(self._ends)
            listener.note_ended(list(self._ends))
            self._ends.clear()
        elif appends:
            self._metrics.storage.losses[SpoolLoss.DISK].inc(len(appends))
        if appends:
            listener.note_kept([kept.escalation.id for kept in appends], written=written)
        self._make_room(listener)

    def _read_backlog(self, listener: SpoolListener) -> list[Kept]:
        """The next of the backlog, handed out; what is damaged ends."""
        found: list[Kept] = []
        if self._database is None:
            return found
        damaged = []
        try:
            for entry in self._database.backlog(self.run_id, self._clock.now_ns()):
                if entry.id in self._out or entry.id in self._ends:
                    continue
                try:
                    found.append(self._database.kept(entry))
                    self._out[entry.id] = entry.reason
                except IntegrityError as error:
                    log.error("spool: %s", error)
                    damaged.append(entry)
                if len(found) >= _TAKE_MAX:
                    break
            self._let_go(damaged, DAMAGED, listener)
        except sqlite3.Error as error:
            self._fail(error)
        return found

    def _hand_over(self, escalation_id: str, listener: SpoolListener) -> None:
        kept = None
        if self._database is not None and escalation_id not in self._out.keys() | self._ends.keys():
            try:
                waiting = self._database.entries("id = ? AND outcome = ''", (escalation_id,))
                for entry in list(waiting):
                    kept = self._database.kept(entry)
                    self._out[escalation_id] = entry.reason
            except IntegrityError as error:
                log.error("spool: %s", error)
            except sqlite3.Error as error:
                self._fail(error)
        listener.note_claimed(escalation_id, kept)

    def _make_room(self, listener: SpoolListener) -> None:
        """Lets go of what no longer fits."""
        database, settings = self._database, self._settings
        full = self._held_count > settings.escalations_max or self._held_bytes > settings.bytes_max
        if database is None or not full:
            return
        try:
            gone = make_room(database, settings, self._out)
            self._let_go(gone, (EscalationOutcome.EVICTED, Cause.SPOOL_FULL), listener)
            self._count(database)
        except sqlite3.Error as error:
            self._fail(error)

    def _tidy(self, listener: SpoolListener) -> None:
        """Ends what is too old, and forgets what ended long ago."""
        database = self._database
        if database is None:
            return
        oldest_ns = after_s(self._clock.now_ns(), -self._settings.age_max_s)
        try:
            old = list(database.entries("outcome = '' AND captured_at_ns < ?", (oldest_ns,)))
            old = [entry for entry in old if entry.id not in self._out]
            self._let_go(old, (EscalationOutcome.EXPIRED, Cause.NONE), listener)
            past = list(database.entries("outcome <> '' AND ended_at_ns < ?", (oldest_ns,)))
            if past:
                with database.transaction():
                    database.forget(entry.id for entry in past)
            database.compact(COMPACT_PAGES)
            self._count(database)
        except sqlite3.Error as error:
            self._fail(error)

    def _let_go(self, entries: list[Entry], how: How, listener: SpoolListener) -> None:
        """Ends escalations that nobody will answer; their crops are dropped.

        The listener learns of each what was asked, if it was in this run and can be read.
        """
        database = self._database
        if database is None or not entries:
            return
        now_ns = self._clock.now_ns()
        losses = [loss_of(database, entry, how, self.run_id, now_ns) for entry in entries]
        with database.transaction():
            for entry in entries:
                database.end(Ended(entry.id, *how, now_ns))
                database.drop_crops([entry.id])
        for reason, ending in losses:
            listener.note_gone(reason, ending)

    def _reopen(self) -> None:
        self._tried_at_ns = self._clock.now_ns()
        try:
            try:
                self._database = self._open()
            except IntegrityError as error:
                self._quarantine(error)
                self._database = self._open()
            if waiting := self._count(self._database).waiting:
                log.info("spool %s: %d escalations wait", self._folder, waiting)
        except (sqlite3.Error, OSError) as error:
            self._say(error)

    def _open(self) -> SpoolDatabase:
        check_disk(self._folder)
        return SpoolDatabase.open(self._folder, self._cipher)

    def _fail(self, error: Exception) -> None:
        """The disk failed, and the next tick tries again; or the file is damaged, and is left."""
        if self._database is not None:
            self._database.close()
            self._database = None
        self._metrics.storage.errors.inc()
        if isinstance(error, sqlite3.OperationalError) or not isinstance(error, sqlite3.Error):
            self._say(error)
            return
        try:
            self._quarantine(error)
        except OSError as cause:
            self._say(cause)
        else:
            self._try_again()

    def _try_again(self) -> None:
        """Opens it anew; what an operator has to mend now does not end what runs."""
        try:
            self._reopen()
        except ConfigError as error:
            self._say(error)

    def _say(self, error: Exception) -> None:
        """Logs a failure once, not once per attempt."""
        if str(error) not in self._said:
            self._said.add(str(error))
            log.error(
                "spool %s: %s; escalations are not kept until that is mended", self._folder, error
            )

    def _say_mended(self) -> None:
        """Logs the end of failures; only a write shows it, for a full disk can be opened."""
        if self._said:
            self._said.clear()
            log.info("spool %s: escalations are kept again", self._folder)

    def _quarantine(self, error: Exception) -> None:
        self._wrecks.add(error, self._out)
        self._out = {}

    def _tell_lost(self, listener: SpoolListener) -> None:
        """Tells what a file that was moved aside took with it."""
        for reason, ending in (*self._wrecks.read(self._ends), *self._wrecks.next()):
            listener.note_lost(reason, ending)

    def _take_in(self, ids: Iterable[str]) -> None:
        """Nobody has these in hand any more."""
        for each in ids:
            self._out.pop(each, None)

    def _count(self, database: SpoolDatabase) -> Totals:
        totals = database.totals()
        self._held_count = totals.waiting + totals.ended
        self._held_bytes = totals.waiting_bytes + totals.ended_bytes
        self._metrics.storage.waiting.set(totals.waiting)
        self._metrics.storage.waiting_bytes.set(totals.waiting_bytes)
        return totals

    def _is_due(self, last_ns: int, every_s: float) -> bool:
        return not 0 <= elapsed_s(last_ns, self._clock.now_ns()) < every_s
