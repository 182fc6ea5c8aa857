"""Result records as JSON lines, to a file or standard output, by a thread of its own.

A slow disk or pipe must not hold up the frame lane: the queue between them is bounded, what does
not fit is dropped and counted in edge_results_dropped_total, and a warning says so once. Lines are
written whenever the queue runs empty, so that a reader sees them at once.

A file is continued, not replaced: a node that was killed and starts again adds to what it wrote. It
never holds half a line: what a failed write left is cut off again, and so is a last line that power
loss cut short. The records of an ended escalation are reported as published only once they are on
disk, and are tried again until they are.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prometheus_client import Counter, Histogram

from edge_node.config import ResultSettings
from edge_node.ports import JsonRecord
from edge_node.values import Cause, EscalationOutcome
from foundation.clock import Clock, elapsed_s
from foundation.errors import ConfigError

log = logging.getLogger(__name__)

_CLOSE_S = 10.0
_RETRY_S = 1.0
_CHUNK_BYTES = 1 << 16
_TAIL_BYTES = 32 << 20
"""What is read of a continued file: at 30 frames a second with 20 tracks, more than a minute."""
# Built once: `json.dumps` with separators builds an encoder per call.
_ENCODE = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_END_MARK = b'"type":"escalation"'

_Record = JsonRecord | Mapping[str, Any]
_Item = tuple[int, Sequence[_Record], Callable[[], None] | None]


class ResultWriter:
    """Owns the output and its thread; used as a context manager.

    A write that fails (disk full, reader gone) is counted as dropped, and later records are still
    tried: a full disk may be emptied.
    """

    def __init__(
        self, settings: ResultSettings, dropped: Counter, write_seconds: Histogram, clock: Clock
    ) -> None:
        self._path = settings.path
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._queue_max = settings.queue_max
        self._dropped = dropped
        self._write_seconds = write_seconds
        self._clock = clock
        self._warned = False
        self._file = -1
        self._is_regular = False
        self._lines: list[bytes] = []
        self._lines_bytes = 0
        self._unpublished: deque[tuple[bytes, Callable[[], None]]] = deque()
        self._thread = threading.Thread(target=self._write_all, name="results", daemon=True)

    def __enter__(self) -> Self:
        """Opens the output.

        Raises:
            ConfigError: The file cannot be written.
        """
        try:
            if self._path == "-":
                self._file = os.dup(sys.stdout.fileno())
            else:
                _cut_torn_line(Path(self._path))
                # A pipe must have its reader already: waiting for one would hold up everything.
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
                self._file = os.open(self._path, flags, 0o644)
                os.set_blocking(self._file, True)
                self._is_regular = stat.S_ISREG(os.fstat(self._file).st_mode)
        except OSError as error:
            raise ConfigError(
                f"Cannot write results to {self._path}: {error.strerror}",
                remedy="Choose another results.path, or - for standard output",
            ) from error
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Writes what is queued, at most for some seconds, and closes."""
        self._queue.put(None)
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

        Their number is bounded by the escalations that are open.

        Args:
            records: To be written together.
            published: Called from the results thread once they are on disk.
        """
        self._queue.put((self._clock.now_ns(), records, published))

    def _drop(self, count: int, why: str) -> None:
        self._dropped.inc(count)
        if not self._warned:
            self._warned = True
            log.warning("results to %s are being dropped: %s", self._path, why)

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
                self._unpublished.append((text, published))
            if self._queue.empty() or self._lines_bytes > _CHUNK_BYTES:
                self._write_lines()
                self._publish_ends()
            self._write_seconds.observe(elapsed_s(queued_at_ns, self._clock.now_ns()))
        self._write_lines()
        self._publish_ends()
        if self._unpublished:
            log.error("results: what %d verdicts say is not written", len(self._unpublished))
        os.close(self._file)

    def _write_lines(self) -> None:
        lines, self._lines, self._lines_bytes = self._lines, [], 0
        try:
            self._write(b"".join(lines))
        except OSError as error:
            self._drop(len(lines), str(error))

    def _publish_ends(self) -> None:
        """Writes what ended escalations say, and tells once it is on disk."""
        if not self._unpublished:
            return
        try:
            self._write(b"".join(text for text, _ in self._unpublished), synchronize=True)
        except OSError as error:
            self._drop(0, f"{error}; what verdicts say is kept and tried again")
            return
        while self._unpublished:
            self._unpublished.popleft()[1]()

    def _write(self, text: bytes, *, synchronize: bool = False) -> None:
        """Writes all of it, or nothing; to the disk itself, where that is asked for.

        Raises:
            OSError: It could not be written.
        """
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


def _cut_torn_line(path: Path) -> None:
    """Cuts off what follows the last complete line of a file."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
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

    What a process wrote here and could no longer note in the spool is found in the end of the file;
    of standard output and of pipes nothing can be read back.
    """
    file = Path(path)
    if path == "-" or not file.is_file():
        return {}
    found = {}
    with file.open("rb") as lines:
        lines.seek(max(0, file.stat().st_size - _TAIL_BYTES))
        for line in lines:
            if _END_MARK not in line:
                continue
            try:
                record = json.loads(line)
                outcome, cause = EscalationOutcome(record["outcome"]), Cause(record["cause"])
                found[str(record["escalation_id"])] = (outcome.value, cause.value)
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # half a line at the beginning of what was read, or another's record
    return found
