"""What can be read of a spool that is damaged, for the commands that look into one.

An edge node moves a damaged spool aside whole. Whoever looks into it then wants what is left.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edge_node.adapters.spool.entries import COLUMNS, Entry, read_entry
from foundation.errors import IntegrityError


def leaves_something(error: sqlite3.DatabaseError) -> bool:
    """Whether something else of the file may still be read after this error.

    Not where the disk fails, the file is locked, or it is no SQLite database at all.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    if isinstance(error, sqlite3.OperationalError):
        return bool(code & 0xFF == sqlite3.SQLITE_ERROR)  # a damaged schema lacks a table
    return bool(code != sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True)
class Salvage:
    """What can be read of a spool that may be damaged.

    Attributes:
        entries: The oldest first.
        bad_rows: Of each row that is none of an edge node's, which it is.
        broken: Why the file could not be read to its end; empty: it could.
    """

    entries: list[Entry]
    bad_rows: list[str]
    broken: str

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return not (self.bad_rows or self.broken)


def salvage(connection: sqlite3.Connection) -> Salvage:
    """Reads all entries that can be read.

    Raises:
        sqlite3.OperationalError: The disk lets nothing be read, or somebody has locked the file.
    """
    select = f"SELECT {COLUMNS} FROM escalations"  # noqa: S608 - no text of a stranger
    rows, broken = _read_as_it_lies(connection, select, "id")
    entries, bad_rows = [], []
    for row in rows:
        try:
            entries.append(read_entry(row))
        except sqlite3.DatabaseError as error:
            bad_rows.append(str(error))
    entries.sort(key=lambda entry: (entry.captured_at_ns, entry.id))
    return Salvage(entries, bad_rows, broken)


class Lookup:
    """Finds rows by their id, where it salvages also those that the index no longer leads to."""

    def __init__(self, connection: sqlite3.Connection, *, salvages: bool) -> None:
        self._connection = connection
        self._salvages = salvages
        self._places: dict[str, dict[object, object]] = {}

    def row(self, table: str, columns: str, id_: str) -> tuple[object, ...] | None:
        """Columns of a row; None where there is none.

        Raises:
            sqlite3.DatabaseError: It cannot be read.
        """
        select = f"SELECT {columns} FROM {table} WHERE"  # noqa: S608 - no text of a stranger
        failure: sqlite3.DatabaseError | None = None
        row: tuple[object, ...] | None = None
        try:
            row = self._connection.execute(f"{select} id = ?", (id_,)).fetchone()
        except sqlite3.DatabaseError as error:
            failure = error
        if row is None and self._salvages:
            if table not in self._places:
                self._places[table] = self._find_places(table)
            if id_ in self._places[table]:
                # Another may lie there by now, if an edge node writes meanwhile.
                row = self._connection.execute(
                    f"{select} rowid = ? AND +id = ?", (self._places[table][id_], id_)
                ).fetchone()
                failure = None
        if failure is not None:
            raise failure
        return row

    def _find_places(self, table: str) -> dict[object, object]:
        select = f"SELECT id, {table}.rowid FROM {table} NOT INDEXED"  # noqa: S608 - as above
        rows, _ = _read_as_it_lies(self._connection, select, f"{table}.rowid")
        return {row[0]: row[1] for row in rows}


def _read_as_it_lies(
    connection: sqlite3.Connection, select: str, key: str
) -> tuple[list[tuple[object, ...]], str]:
    """All rows of a table that can be read, and why not all could; empty: all could.

    By the key by which they lie there and not by an index, which may be damaged as well. Where that
    comes to a page that cannot be read, from the other end too: one bad page costs what is on it,
    and several cost what lies between them.

    Raises:
        sqlite3.DatabaseError: The disk lets nothing be read, or somebody has locked the file.
    """
    rows: dict[tuple[object, ...], None] = {}
    broken = ""
    for direction in ("ASC", "DESC"):
        try:
            # sqlite3 looks for the next row before it hands one out, and the last before a bad page
            # would be lost. So each comes twice.
            for row in connection.execute(
                f"{select} CROSS JOIN (SELECT 1 UNION ALL SELECT 1) ORDER BY {key} {direction}"
            ):
                rows[row] = None
        except sqlite3.DatabaseError as error:
            if not (rows or leaves_something(error)):
                raise
            broken = str(error)
        else:
            return list(rows), ""
    return list(rows), broken


def find_damages(
    connection: sqlite3.Connection, look_at: Callable[[Entry], object]
) -> Iterator[str]:
    """What is wrong, thoroughly: the file's structure, every row, and every crop and verdict.

    Args:
        connection: Of the spool.
        look_at: Reads what is held of an escalation; raises IntegrityError or
            sqlite3.DatabaseError.

    Raises:
        sqlite3.OperationalError: The disk lets nothing be read, or somebody has locked the file.
    """
    try:
        for (text,) in connection.execute("PRAGMA integrity_check"):
            if text != "ok":
                yield str(text)
    except sqlite3.DatabaseError as error:
        yield f"The file cannot be checked: {error}"
    found = salvage(connection)
    yield from found.bad_rows
    if found.broken:
        yield f"Not every escalation can be read: {found.broken}"
    for entry in found.entries:
        try:
            if entry.size_bytes:
                look_at(entry)
        except IntegrityError as error:
            yield str(error)
        except sqlite3.DatabaseError as error:
            yield f"The crop of {entry.id} cannot be read: {error}"
    try:
        for (each,) in connection.execute(
            "SELECT id FROM crops WHERE id NOT IN (SELECT id FROM escalations)"
        ):
            yield f"A crop of {each} belongs to no escalation"
    except sqlite3.DatabaseError as error:
        yield f"Not every crop can be read: {error}"
