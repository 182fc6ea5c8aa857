"""The ledger of what has left the site: one line a crop, each chained to the one before.

A line is JSON with the SHA-256 of the line before it, so that none can be changed, removed or put
in without breaking the chain from there on; what the last line's hash is can be noted elsewhere. A
line is on disk before its crop leaves, so the ledger holds everything that left, and perhaps a crop
that was about to when the process ended or the stream broke. One file for each day in UTC; the
chain runs through all, in the order of their names. The oldest may be taken away.

One process writes, and one thread of it at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edge_node.folder_owner import FolderOwner
from foundation.clock import Clock
from foundation.errors import ConfigError, TransientError
from foundation.escalations import Escalation

LOCK = "egress.lock"

_DAY = "[0-9][0-9]"
_PATTERN = f"egress-{_DAY}{_DAY}-{_DAY}-{_DAY}.jsonl"
_START = "0" * 64
"""What the first line names as the one before."""
_HASH = re.compile(r"[0-9a-f]{64}")


class FileLedger:
    """Implements `ports.EgressLedger`. Used with `with`.

    Invariant: the last line of the last file is the one that the next line names.
    """

    def __init__(self, folder: Path, destination: str, clock: Clock) -> None:
        """Takes where it lies and to whom crops go."""
        self._folder = folder
        self._destination = destination
        self._clock = clock
        self._owner = FolderOwner(folder, LOCK, thing="egress ledger", setting="egress.ledger")
        # Who waits for an entry may be cancelled while its thread waits for the disk: the next
        # caller comes beside it.
        self._turn = threading.Lock()
        self._previous = _START
        self._file = -1
        self._path: Path | None = None
        self._cut_at: int | None = None

    def __enter__(self) -> Self:
        """Takes the folder and finds the end of the chain.

        A last line that power loss cut short is cut off.

        Raises:
            ConfigError: The folder cannot be used, or another edge node uses it.
        """
        with ExitStack() as stack:
            stack.enter_context(self._owner)
            try:
                files = sorted(self._folder.glob(_PATTERN))
                if files:
                    self._previous = _cut_and_hash(files)
                    self._path = files[-1]
                self._open(self._path_at(self._clock.now_ns()))
            except OSError as error:
                raise ConfigError(
                    f"Cannot write the egress ledger in {self._folder}: {error.strerror}",
                    remedy="Choose another egress.ledger, or give the edge node the right to write",
                ) from error
            stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Waits for the entry that is being written, and gives the folder up."""
        with self._turn:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
            self._owner.__exit__(None, None, None)

    def enter(self, escalation: Escalation) -> None:
        """Enters a crop that is about to leave, after those that others are entering.

        Raises:
            TransientError: It cannot be written now, or the ledger is closed.
        """
        with self._turn:
            if self._file < 0:
                raise TransientError(f"The egress ledger in {self._folder} is closed")
            try:
                now_ns = self._clock.now_ns()
                self._cut()
                path = self._path_at(now_ns)
                if path != self._path:
                    self._open(path)
                self._write(self._line(escalation, now_ns))
            except OSError as error:
                raise TransientError(
                    f"The egress ledger in {self._folder} cannot be written ({error.strerror}): "
                    "nothing leaves",
                    remedy="Make room on its disk",
                ) from error

    def _write(self, line: bytes) -> None:
        """Writes a line to disk, or nothing."""
        end = os.fstat(self._file).st_size
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fdatasync(self._file)
        except OSError:
            self._cut_at = end
            with suppress(OSError):  # then before the next entry, without which none is made
                self._cut()
            raise
        self._previous = hashlib.sha256(line[:-1]).hexdigest()

    def _cut(self) -> None:
        """Takes away what a failed write has left."""
        if self._cut_at is not None:
            os.ftruncate(self._file, self._cut_at)
            self._cut_at = None

    def _line(self, escalation: Escalation, now_ns: int) -> bytes:
        region = escalation.region
        entry = {
            "previous": self._previous,
            "at_ns": now_ns,
            "site": escalation.site,
            "camera": escalation.camera,
            "destination": self._destination,
            "escalation_id": escalation.id,
            "reason": escalation.reason,
            "captured_at_ns": escalation.captured_at_ns,
            "frame": [escalation.frame_width, escalation.frame_height],
            "region": [region.x1, region.y1, region.x2, region.y2],
            "encoding": escalation.encoding.value,
            "image_bytes": len(escalation.image),
            "image_sha256": hashlib.sha256(escalation.image).hexdigest(),
        }
        return json.dumps(entry, separators=(",", ":")).encode() + b"\n"

    def _path_at(self, now_ns: int) -> Path:
        """The day's file, or the last one where the clock has gone back."""
        day = datetime.fromtimestamp(now_ns / 1e9, UTC)
        path = self._folder / f"egress-{day:%Y-%m-%d}.jsonl"
        # The chain is read in the order of names, so none is written to that is an earlier one.
        return path if self._path is None else max(path, self._path)

    def _open(self, path: Path) -> None:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._path = file, path


def _cut_and_hash(files: list[Path]) -> str:
    """The hash of the last complete line of the files; what follows it is cut off."""
    for path in reversed(files):
        text = path.read_bytes()
        end = text.rfind(b"\n") + 1
        if end < len(text):
            os.truncate(path, end)
        if end:
            begin = text.rfind(b"\n", 0, end - 1) + 1
            return hashlib.sha256(text[begin : end - 1]).hexdigest()
    return _START


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a ledger.

    Attributes:
        place: Its file and number.
        entry: What it says; None where it is no JSON object.
        hash: What the next line names as the one before.
        complete: False for a last line that was not written to its end: nothing left for it.
    """

    place: str
    entry: dict[str, Any] | None
    hash: str
    complete: bool = True


def read_ledger(folder: Path) -> Iterator[Line]:
    """Every line, in order.

    Raises:
        ConfigError: There is no ledger, or it cannot be read.
    """
    try:
        files = sorted(folder.glob(_PATTERN))
        if not files:
            raise ConfigError(f"There is no egress ledger in {folder}", remedy="Name egress.ledger")
        files = [path for path in files if path.stat().st_size]
        for path in files:
            with path.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    complete = line.endswith(b"\n") or path != files[-1]
                    digest = hashlib.sha256(line.removesuffix(b"\n")).hexdigest()
                    yield Line(f"{path.name}:{number}", _parse(line), digest, complete)
    except OSError as error:
        raise ConfigError(
            f"Cannot read the egress ledger in {folder}: {error.strerror}",
            remedy="Run this as the user of the edge node",
        ) from error


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def find_breaks(folder: Path) -> Iterator[str]:
    """Where the chain is broken, and then, last, what it is.

    The last line tells how many entries there are, the last hash, after which entry they begin
    where the oldest were taken away, and whether the last of all is not complete.

    Raises:
        ConfigError: There is no ledger, or it cannot be read.
    """
    previous, count, broken = "", 0, 0
    notes = []
    for line in read_ledger(folder):
        if not line.complete:
            notes.append(
                f"{line.place} is not complete, the edge node cuts it off at its next start"
            )
            continue
        if line.entry is None:
            broken += 1
            yield f"{line.place}: it is no entry of a ledger"
        else:
            count += 1
            named = line.entry.get("previous")
            if not previous and named != _START and _is_hash(named):
                notes.append(
                    f"it begins after an entry with hash {named}; what stood before was taken away"
                )
            elif named != (previous or _START):
                broken += 1
                yield (
                    f"{line.place}: what stands before it is not what stood there "
                    "when it was written"
                )
        previous = line.hash
    summary = f"{count} entries, {broken} breaks; the last hash is {previous or _START}"
    yield "; ".join([summary, *notes])


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


@dataclass(frozen=True, slots=True, order=True)
class _Row:
    day: str
    site: str
    camera: str
    reason: str


def report(folder: Path) -> tuple[list[str], int]:
    """Crops and bytes by day, camera and reason, and how many lines could not be read.

    Those are left out, and the last line says so.

    Raises:
        ConfigError: There is no ledger, or it cannot be read.
    """
    crops: Counter[_Row] = Counter()
    sizes: Counter[_Row] = Counter()
    unread = []
    for line in read_ledger(folder):
        if not line.complete:
            continue
        row = _row_of(line.entry)
        if row is None:
            unread.append(line.place)
        else:
            crops[row[0]] += 1
            sizes[row[0]] += row[1]
    lines = [f"{'day (UTC)':<11}{'site':<16}{'camera':<16}{'reason':<12}{'crops':>8}{'bytes':>14}"]
    lines += [
        f"{row.day:<11}{_shown(row.site):<16.15}{_shown(row.camera):<16.15}"
        f"{_shown(row.reason):<12}"
        f"{crops[row]:>8,}{sizes[row]:>14,}"
        for row in sorted(crops)
    ]
    lines.append(f"{'':<55}{crops.total():>8,}{sizes.total():>14,}")
    if unread:
        lines.append(
            f"Lines that could not be read and are left out: {len(unread)}, "
            f"the first of them {unread[0]}"
        )
    return lines, len(unread)


def _row_of(entry: dict[str, Any] | None) -> tuple[_Row, int] | None:
    """The row that an entry counts in and its bytes; None where it does not say."""
    match entry:
        case {
            "at_ns": int(at_ns),
            "site": str(site),
            "camera": str(camera),
            "reason": str(reason),
            "image_bytes": int(size),
        } if 0 <= size < 1 << 63:
            try:
                day = datetime.fromtimestamp(at_ns / 1e9, UTC).strftime("%Y-%m-%d")
            except (OverflowError, ValueError, OSError):  # no instant that a calendar has
                return None
            return _Row(day, site, camera, reason), size
    return None


def _shown(text: str) -> str:
    """As a terminal may show it: a changed ledger may hold anything."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
