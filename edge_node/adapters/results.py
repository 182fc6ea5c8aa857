"""Result records as JSON lines, to a file or standard output, by a thread of its own.

A slow disk or pipe must not hold up the frame lane: the queue between them is bounded, what does
not fit is dropped and counted in edge_results_dropped_total, and a warning says so once. Lines are
written whenever the queue runs empty, so that a reader sees them at once.

A file is continued, not replaced: a node that was killed and starts again adds to what it wrote. It
never holds half a line: what a failed write left is cut off again, and so is a last line that power
loss cut short. A full file is set aside; where somebody else moved it away, it is made anew. The
records of an ended escalation are reported as published once they are on disk. They are tried again
until they are; only where the disk takes nothing for so long that they become too many, the oldest
are dropped like other lines, and reported all the same.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import queue
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prometheus_client import Counter, Histogram

from edge_node.config import ResultSettings
from edge_node.ports import JsonRecord
from edge_node.values import Cause, EscalationOutcome
from foundation.clock import Clock, after_s, elapsed_s
from foundation.errors import ConfigError
from foundation.supervision import start_thread

log = logging.getLogger(__name__)

_CLOSE_S = 10.0
_RETRY_S = 1.0
_CHUNK_BYTES = 1 << 16
_ENDS_AT_ONCE = 256
"""Ended escalations that are synchronized together."""
_ENDS_BYTES_MAX = 4 << 20
"""What ended escalations say, kept in memory while the disk does not take it. The spool holds their
crops as long."""
_TAIL_BYTES = 32 << 20
"""What is read of a continued file: at 30 frames a second with 20 tracks, more than a minute."""
# Built once: `json.dumps` with separators builds an encoder per call.
_ENCODE = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_END_MARK = b'"type":"escalation"'
_BEGIN = b'{"type":"'
"""Of every record: what begins otherwise, JSON or not, is somebody's and is not cut."""

_Record = JsonRecord | Mapping[str, Any]
_Item = tuple[int, Sequence[_Record], Callable[[], None] | None]


class ResultWriter:
    """Owns the output and its thread; used as a context manager.

    A write that fails (disk full, reader gone) is counted as dropped, and later records are still
    tried: a full disk may be emptied.
    """

    def __init__(
        self,
        settings: ResultSettings,
        dropped: Counter,
        write_seconds: Histogram,
        clock: Clock,
        failed: Callable[[BaseException], None],
    ) -> None:
        """Takes where to write, what to count, and who hears of a bug that ends the thread."""
        self._path = settings.path
        self._file_bytes_max = settings.file_bytes_max
        self._files_max = settings.files_max
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._queue_max = settings.queue_max
        self._dropped = dropped
        self._write_seconds = write_seconds
        self._clock = clock
        self._said: set[str] = set()
        self._target = Path(settings.path)
        self._file = -1
        self._is_regular = False
        self._lines: list[bytes] = []
        self._lines_bytes = 0
        self._unpublished: deque[tuple[bytes, Callable[[], None]]] = deque()
        self._unpublished_bytes = 0
        self._retry_at_ns = 0
        self._failed = failed
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Opens the output.

        Raises:
            ConfigError: The file cannot be written.
        """
        try:
            if self._path == "-":
                if sys.stdout is None:
                    raise OSError(errno.EBADF, "it is closed")
                self._file = os.dup(sys.stdout.fileno())
            else:
                _cut_torn_line(Path(self._path))
                self._file, self._is_regular = _open(Path(self._path))
                self._target = _target_of(self._path)
        except OSError as error:
            raise ConfigError(
                f"Cannot write results to {self._path}: {error.strerror}",
                remedy="Choose another results.path, or - for standard output",
            ) from error
        self._thread = start_thread("results", self._write_all, self._failed)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Writes what is queued, at most for some seconds, and closes."""
        self._queue.put(None)
        if self._thread is None:
            return
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            log.error("results: %d records are given up", self._queue.qsize())
            self._dropped.inc(self._queue.qsize())

    def publish(self, record: _Record) -> None:
        """Queues a record, or drops and counts it; never blocks."""
        if self._queue.qsize() >= self._queue_max:
            self._drop(1, "the queue is full, the output does not keep up")
            return
        self._queue.put((self._clock.now_ns(), (record,), None))

    def publish_end(self, records: Sequence[_Record], published: Callable[[], None]) -> None:
        """Queues all records of an ended escalation, however full the queue is; never blocks.

        Their number is bounded by the escalations that are open, and by how much is kept while the
        disk takes nothing.

        Args:
            records: To be written together.
            published: Called from the results thread once they are on disk, or are given up.
        """
        self._queue.put((self._clock.now_ns(), records, published))

    def _drop(self, count: int, why: str) -> None:
        self._dropped.inc(count)
        self._say_once(f"are being dropped: {why}")

    def _say_once(self, what: str) -> None:
        kind = what.partition(":")[0]
        if kind not in self._said:
            self._said.add(kind)
            log.warning("results to %s %s", self._path, what)

    def _write_all(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=_RETRY_S if self._unpublished else None)
            except queue.Empty:
                self._publish_ends()
                continue
            if item is None:
                break
            queued_at_ns, records, published = item
            text = b"".join(
                _ENCODE(each if isinstance(each, Mapping) else each.to_json()).encode() + b"\n"
                for each in records
            )
            if published is None:
                self._lines.append(text)
                self._lines_bytes += len(text)
            else:
                self._keep_unpublished(text, published)
            many = self._lines_bytes > _CHUNK_BYTES or len(self._unpublished) >= _ENDS_AT_ONCE
            if many or self._queue.empty():
                self._write_lines()
                self._publish_ends()
            self._write_seconds.observe(elapsed_s(queued_at_ns, self._clock.now_ns()))
        self._write_lines()
        self._retry_at_ns = 0
        self._publish_ends()
        if self._unpublished:
            log.error("results: what %d verdicts say is not written", len(self._unpublished))
        os.close(self._file)

    def _write_lines(self) -> None:
        if not self._lines:
            return
        lines, self._lines, self._lines_bytes = self._lines, [], 0
        try:
            self._write(b"".join(lines))
        except OSError as error:
            self._drop(len(lines), str(error))

    def _publish_ends(self) -> None:
        """Writes what ended escalations say, and tells once it is on disk.

        Where that fails it is tried again after a while, not with every record: what waits may be
        much.
        """
        while self._unpublished and self._clock.now_ns() >= self._retry_at_ns:
            chunk: list[bytes] = []
            for text, _ in self._unpublished:
                chunk.append(text)
                if len(chunk) >= _ENDS_AT_ONCE:
                    break
            try:
                self._write(b"".join(chunk), synchronize=True)
            except OSError as error:
                self._retry_at_ns = after_s(self._clock.now_ns(), _RETRY_S)
                self._drop(0, f"{error}; what verdicts say is kept and tried again")
                return
            for _ in chunk:
                text, published = self._unpublished.popleft()
                self._unpublished_bytes -= len(text)
                published()

    def _keep_unpublished(self, text: bytes, published: Callable[[], None]) -> None:
        """Keeps what an ended escalation says; of too much the oldest goes, as other lines do.

        The spool hears of it all the same: it would otherwise hold the crop for ever.
        """
        self._unpublished.append((text, published))
        self._unpublished_bytes += len(text)
        while self._unpublished_bytes > _ENDS_BYTES_MAX and len(self._unpublished) > 1:
            oldest, give_up = self._unpublished.popleft()
            self._unpublished_bytes -= len(oldest)
            self._drop(1, "what verdicts say has waited too long for the disk")
            give_up()

    def _write(self, text: bytes, *, synchronize: bool = False) -> None:
        """Writes all of it, or nothing; to the disk itself, where that is asked for.

        Raises:
            OSError: It could not be written.
        """
        if self._is_regular:
            self._follow()
        end = os.lseek(self._file, 0, os.SEEK_END) if self._is_regular else 0
        rest = memoryview(text)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            if synchronize and self._is_regular:
                os.fsync(self._file)
        except OSError:
            if self._is_regular:
                os.ftruncate(self._file, end)
            raise

    def _follow(self) -> None:
        """Goes on in a new file where the present one is full, or is not at its path any more.

        Raises:
            OSError: There is none at its path, and none can be made.
        """
        path, present = self._target, os.fstat(self._file)
        if path.exists() and os.path.samestat(path.stat(), present):
            if not 0 < self._file_bytes_max <= present.st_size:
                return
            try:
                _set_aside(path, self._files_max)
            except OSError as error:
                self._say_once(f"cannot be set aside and grow on: {error}")
                return
        file, self._is_regular = _open(path)
        os.close(self._file)
        self._file = file


def _open(path: Path) -> tuple[int, bool]:
    """The file or pipe at a path, to be added to, and whether it is a file.

    Raises:
        OSError: It cannot be opened, or is a pipe without a reader.
    """
    # A pipe must have its reader already: waiting for one would hold up everything.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    file = os.open(path, flags, 0o644)
    os.set_blocking(file, True)
    is_regular = stat.S_ISREG(os.fstat(file).st_mode)
    if is_regular:
        # What is synchronized later must be found by its name after a power loss.
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        os.fsync(folder)
        os.close(folder)
    return file, is_regular


def _target_of(path: str) -> Path:
    """The file itself where a path is a link to it: that is what is set aside."""
    return Path(os.path.realpath(path))


def _set_aside(path: Path, files_max: int) -> None:
    """Gives a full file the number 1, and the earlier ones the next higher up to one that is free.

    Where none is, the last one goes.
    """
    numbered = [path.with_name(f"{path.name}.{number}") for number in range(1, files_max)]
    free = next((at for at, each in enumerate(numbered) if not each.exists()), files_max - 2)
    for at in range(free, 0, -1):
        numbered[at - 1].replace(numbered[at])
    path.replace(numbered[0])


def _cut_torn_line(path: Path) -> None:
    """Cuts off what follows the last complete line of a file of results; others are refused."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        # A power cut may leave zeros where the first record was, and may have cut it short.
        head = os.pread(file.fileno(), _CHUNK_BYTES, 0).lstrip(b"\0")[: len(_BEGIN)]
        if not _BEGIN.startswith(head):
            raise ConfigError(
                f"{path} holds something else than results",
                remedy="Choose another results.path, or remove the file",
            )
        size = end = os.fstat(file.fileno()).st_size
        while end > 0:
            begin = max(0, end - _CHUNK_BYTES)
            found = os.pread(file.fileno(), end - begin, begin).rfind(b"\n")
            if found >= 0:
                end = begin + found + 1
                break
            end = begin
        if end < size:
            log.warning("results in %s: a last line of %d bytes is cut off", path, size - end)
            file.truncate(end)


def read_ends(path: str) -> dict[str, tuple[str, str]]:
    """Outcome and cause of the escalations that ended last, by id, as the results file tells.

    What a process wrote here and could no longer note in the spool is found in the end of the file,
    and of those that were set aside last; of standard output and of pipes nothing can be read back.
    """
    file = _target_of(path)
    if path == "-" or not file.parent.is_dir():
        return {}
    found: dict[str, tuple[str, str]] = {}
    left_bytes = _TAIL_BYTES
    for each in (file, *_set_aside_lately(file)):
        with contextlib.suppress(OSError):  # another's, or gone by now
            size = each.stat().st_size if each.is_file() else 0
            if size and left_bytes > 0:
                found.update(_read_tail(each, left_bytes))
                left_bytes -= size
    return found


def _set_aside_lately(file: Path) -> list[Path]:
    """What was set aside, by this process or another, the newest first."""
    beside = []
    for each in file.parent.iterdir():
        if each.name.startswith((f"{file.name}.", f"{file.name}-")):
            with contextlib.suppress(OSError):
                beside.append((each.stat().st_mtime_ns, each))
    return [each for _, each in sorted(beside, reverse=True)]


def _read_tail(file: Path, size_bytes: int) -> Iterator[tuple[str, tuple[str, str]]]:
    """Ids with outcome and cause from the end of one file."""
    with file.open("rb") as lines:
        lines.seek(max(0, file.stat().st_size - size_bytes))
        for line in lines:
            if _END_MARK not in line:
                continue
            try:
                record = json.loads(line)
                outcome, cause = EscalationOutcome(record["outcome"]), Cause(record["cause"])
                yield str(record["escalation_id"]), (outcome.value, cause.value)
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # half a line at the beginning of what was read, or another's record
