"""The spool's database: one SQLite file in a folder that one process owns.

Promises: when a call that writes returns inside `transaction` and that has been left, it is on disk
(write-ahead log, full synchronization); an escalation is held as waiting until it has ended, and
ends once, whatever is tried afterwards. What is damaged is said so and never guessed at. Used by
one thread at a time.

SQLite shares the index of the write-ahead log through a file that it maps into memory, and whose
blocks it does not always claim: where the disk is full, the kernel then kills the process that
touches one (SIGBUS; seen on ext4 with blocks of a kilobyte). So its blocks are claimed here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import quote

from edge_node.adapters.spool.cipher import Cipher
from edge_node.adapters.spool.entries import (
    COLUMNS,
    Ended,
    Entry,
    Totals,
    decode,
    read_blobs,
    read_entry,
)
from edge_node.adapters.spool.salvage import (
    Lookup,
    Salvage,
    find_damages,
    leaves_something,
    salvage,
)
from edge_node.adapters.spool.schema import APPLICATION, SCHEMA, VERSION
from edge_node.adapters.spool.texts import (
    escalation_from_bytes,
    escalation_to_bytes,
    question_from_bytes,
    question_to_bytes,
    verdict_from_bytes,
    verdict_to_bytes,
)
from edge_node.values import Kept
from foundation.errors import ConfigError, IntegrityError
from foundation.escalations import Verdict

FILE = "spool.sqlite3"
_KEY_PLACE, _KEY_TEXT = "key", b"hardcase spool"
_BUSY_S = 5.0
_INDEX_BYTES = 8 << 15
"""Eight parts of the index, each for 16 MB of the log; the log is brought in at 4 MB."""


class SpoolDatabase:
    """An open spool. Every method may raise sqlite3.Error where the disk or the file fails."""

    def __init__(self, connection: sqlite3.Connection, cipher: Cipher, *, salvages: bool) -> None:
        self._connection = connection
        self._lookup = Lookup(connection, salvages=salvages)
        self._cipher = cipher
        self._index: BinaryIO | None = None
        self._flaw = ""

    @classmethod
    def open(
        cls, folder: Path, cipher: Cipher, *, read_only: bool = False, make: bool = True
    ) -> Self:
        """Opens the spool in a folder.

        Args:
            folder: Where it is.
            cipher: Of its key.
            read_only: It is not written to, and opened even if it is damaged: what cannot be read
                says so when it is read.
            make: Makes it where there is none, unless it is only read.

        Raises:
            ConfigError: There is none, it needs another key, or it was written by a newer version.
            IntegrityError: It is damaged, or if it is only read: it is no SQLite database.
            sqlite3.OperationalError, OSError: The disk does not let it be read or written.
        """
        path = folder / FILE
        if (read_only or not make) and not path.is_file():
            raise ConfigError(
                f"There is no spool in {folder}", remedy="Name the folder of spool.folder"
            )
        existed = path.is_file() and path.stat().st_size > 0
        mode = "ro" if read_only else "rwc" if make else "rw"
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode={mode}",
            uri=True,
            timeout=_BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        with contextlib.ExitStack() as stack:
            database = cls(connection, cipher, salvages=read_only)
            stack.callback(database.close)
            connection.text_factory = decode
            try:
                if read_only:
                    # SQLite then reads a file that was cut short, or whose schema is damaged.
                    connection.execute("PRAGMA writable_schema = ON")
                if existed:
                    database._verify(path, whole=not read_only)
                if not read_only:
                    database._prepare(existed=existed)
                    database._claim_index(path)
            except sqlite3.DatabaseError as error:
                if not (read_only and leaves_something(error)):
                    if isinstance(error, sqlite3.OperationalError):
                        raise
                    raise IntegrityError(
                        f"{path} is damaged: {error}",
                        remedy="An edge node moves it aside when it starts, and begins a new one",
                    ) from error
                database._flaw = f"{path} is damaged: {error}"
            stack.pop_all()
        return database

    def _verify(self, path: Path, *, whole: bool) -> None:
        """Whether it is a spool of this key; if `whole`, whether its structure is sound too."""
        connection = self._connection
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise ConfigError(
                f"{path} was written by a newer edge node (version {version})",
                remedy="Run that version, or move the folder away to begin a new spool",
            )
        if whole:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not tables:  # the process ended while it was being made
            return
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
            raise ConfigError(
                f"{path} is another program's database",
                remedy="Give a spool.folder that nothing else uses",
            )
        row = connection.execute("SELECT value FROM meta WHERE name = 'key'").fetchone()
        sealed = b"" if row is None else row[0]
        if not isinstance(sealed, bytes):
            raise sqlite3.DatabaseError("what its key is known by is no blob")
        try:
            right = self._cipher.open(sealed, _KEY_PLACE) == _KEY_TEXT
        except IntegrityError:
            right = False
        if not right:
            raise ConfigError(
                f"{path} was not written with this key",
                remedy="Give the spool.key_file it was written with, or another spool.folder",
            )

    def _prepare(self, *, existed: bool) -> None:
        connection = self._connection
        # As FULL, and the folder is synchronized too when a file in it is removed: the journal of
        # the very first write would otherwise come back after a power loss and undo what followed.
        connection.execute("PRAGMA synchronous = EXTRA")
        if not existed:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            with self.transaction():
                for statement in SCHEMA.split(";"):
                    connection.execute(statement)
                key = self._cipher.seal(_KEY_TEXT, _KEY_PLACE)
                connection.execute("INSERT INTO meta VALUES ('key', ?)", (key,))
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {VERSION}")

    def _claim_index(self, path: Path) -> None:
        """Claims what is mapped into memory, for as long as this is open.

        The file stays open as long: to close it would give up the locks that this process has on
        it through SQLite (POSIX), and the next to open the spool would think itself alone and cut
        the index to nothing, under this process's feet (SIGBUS again).
        """
        self._index = path.with_name(f"{FILE}-shm").open("r+b")
        os.posix_fallocate(self._index.fileno(), 0, _INDEX_BYTES)

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()
        if self._index is not None:
            self._index.close()

    def __enter__(self) -> Self:
        """The open spool."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside is on disk afterwards, or none of it is."""
        self._connection.execute("BEGIN IMMEDIATE")
        with contextlib.ExitStack() as stack:
            stack.callback(self._roll_back)
            yield
            stack.pop_all()
        self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is read inside is of one moment, whatever an edge node writes meanwhile."""
        self._connection.execute("BEGIN")
        with contextlib.ExitStack() as stack:
            stack.callback(self._roll_back)
            yield

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # some failures have rolled back already
            self._connection.execute("ROLLBACK")

    # --- inside a transaction ---

    def append(self, kept: Kept) -> int:
        """Holds an escalation as waiting; one that is known stays as it is.

        Returns:
            Bytes by which more is held.
        """
        escalation, seal = kept.escalation, self._cipher.seal
        text = seal(escalation_to_bytes(escalation), f"{escalation.id}/escalation")
        question = seal(question_to_bytes(kept.question, kept.egress), f"{escalation.id}/question")
        known = self._connection.execute(
            "INSERT OR IGNORE INTO escalations "
            "(id, run, captured_at_ns, fresh_until_ns, reason, value, size_bytes) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                escalation.id,
                kept.run,
                escalation.captured_at_ns,
                escalation.expires_at_ns,
                escalation.reason,
                kept.value,
                len(text) + len(question),
            ),
        )
        if not known.rowcount:
            return 0
        digest = hashlib.sha256(question + text).digest()
        self._connection.execute(
            "INSERT INTO crops VALUES (?, ?, ?, ?)", (escalation.id, digest, question, text)
        )
        return len(text) + len(question)

    def end(self, ended: Ended) -> bool:
        """Writes down how one that waits has ended; False where none with its id waits."""
        changed = self._connection.execute(
            "UPDATE escalations SET outcome = ?, cause = ?, ended_at_ns = ? "
            "WHERE id = ? AND outcome = ''",
            (ended.outcome.value, ended.cause.value, ended.ended_at_ns, ended.id),
        ).rowcount
        if changed and ended.verdict is not None:
            text = self._cipher.seal(verdict_to_bytes(ended.verdict), f"{ended.id}/verdict")
            self._connection.execute("INSERT INTO verdicts VALUES (?, ?)", (ended.id, text))
        return bool(changed)

    def drop_crops(self, ids: Iterable[str]) -> None:
        """Lets go of crops and opinions; that they were, and how they ended, stays."""
        for each in ids:
            for statement in (
                "DELETE FROM crops WHERE id = ?",
                "DELETE FROM verdicts WHERE id = ?",
                "UPDATE escalations SET size_bytes = 0 WHERE id = ?",
            ):
                self._connection.execute(statement, (each,))

    def forget(self, ids: Iterable[str]) -> None:
        """Forgets escalations altogether."""
        ids = list(ids)
        self.drop_crops(ids)
        self._connection.executemany("DELETE FROM escalations WHERE id = ?", [(i,) for i in ids])

    def note_attempts(self, ids: Iterable[str]) -> None:
        """The stream broke while these were on their way."""
        self._connection.executemany(
            "UPDATE escalations SET attempts = attempts + 1 WHERE id = ?", [(i,) for i in ids]
        )

    def compact(self, pages: int) -> None:
        """Gives so many unused pages back to the disk, outside a transaction."""
        self._connection.execute(f"PRAGMA incremental_vacuum({int(pages)})").fetchall()

    # --- reading ---

    def entries(self, where: str = "", values: Sequence[object] = ()) -> Iterator[Entry]:
        """Entries that satisfy a condition on the columns of `Entry`, oldest first.

        Raises:
            sqlite3.DatabaseError: The file is damaged, or a row is none of an edge node's. What
                comes after it is not read: the file is one to move aside.
        """
        condition = f"WHERE {where}" if where else ""
        rows = self._connection.execute(
            f"SELECT {COLUMNS} FROM escalations {condition} ORDER BY captured_at_ns, id",  # noqa: S608 - no text of a stranger
            tuple(values),
        )
        yield from map(read_entry, rows)

    def backlog(self, run: str, now_ns: int) -> Iterator[Entry]:
        """What waits and is no longer fresh, or is of another run; the densest in value first.

        Raises:
            sqlite3.DatabaseError: As `entries`.
        """
        rows = self._connection.execute(
            f"SELECT {COLUMNS} FROM escalations WHERE outcome = '' "  # noqa: S608 - as above
            "AND (fresh_until_ns <= ? OR run <> ?) ORDER BY value / max(size_bytes, 1) DESC",
            (now_ns, run),
        )
        yield from map(read_entry, rows)

    def kept(self, entry: Entry) -> Kept:
        """An escalation with its crop.

        Raises:
            IntegrityError: It is damaged, or was let go of.
        """
        row = self._lookup.row("crops", "digest, question, escalation", entry.id)
        if row is None:
            raise IntegrityError(f"The spool holds no crop of {entry.id}")
        digest, question, text = read_blobs(row, f"The crop of {entry.id}")
        if hashlib.sha256(question + text).digest() != digest:
            raise IntegrityError(f"The crop of {entry.id} in the spool is damaged")
        unseal = self._cipher.open
        asked, egress = question_from_bytes(unseal(question, f"{entry.id}/question"))
        escalation = escalation_from_bytes(unseal(text, f"{entry.id}/escalation"))
        if escalation.id != entry.id:  # an index that is damaged leads elsewhere
            raise IntegrityError(f"The crop of {entry.id} in the spool is another's")
        return Kept(escalation, asked, entry.value, entry.run, egress, entry.attempts)

    def verdict(self, escalation_id: str) -> Verdict | None:
        """The verdict about an escalation, if it is held.

        Raises:
            IntegrityError: It is damaged.
        """
        row = self._lookup.row("verdicts", "verdict", escalation_id)
        if row is None:
            return None
        [text] = read_blobs(row, f"The verdict about {escalation_id}")
        verdict = verdict_from_bytes(self._cipher.open(text, f"{escalation_id}/verdict"))
        if verdict.escalation_id != escalation_id:  # as above
            raise IntegrityError(f"The verdict about {escalation_id} in the spool is another's")
        return verdict

    def totals(self) -> Totals:
        """How much it holds."""
        # `sum` raises OperationalError where a damaged row says too much; this lets it be let go.
        rows = self._connection.execute(
            "SELECT outcome = '', count(*), total(size_bytes) FROM escalations GROUP BY 1"
        )
        found = {bool(waits): (count, int(size)) for waits, count, size in rows}
        return Totals(*found.get(True, (0, 0)), *found.get(False, (0, 0)))

    def salvage(self) -> Salvage:
        """All that can be read, as `salvage.salvage`; raises what that raises."""
        return salvage(self._connection)

    def damages(self) -> Iterator[str]:
        """What is wrong, as `salvage.find_damages`; raises what that raises."""

        def look_at(entry: Entry) -> None:
            self.kept(entry)
            self.verdict(entry.id)

        if self._flaw:
            yield self._flaw
        with self.snapshot():
            yield from find_damages(self._connection, look_at)
