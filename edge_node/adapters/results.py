"""Result records as JSON lines, to a file or standard output, by a thread of its own.

A slow disk or pipe must not hold up the frame lane: the queue between them is bounded, what does
not fit is dropped and counted in edge_results_dropped_total, and a warning says so once. Lines are
flushed whenever the queue runs empty, so that a reader sees them at once.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from prometheus_client import Counter, Histogram

from edge_node.config import ResultSettings
from edge_node.ports import JsonRecord
from foundation.clock import Clock, elapsed_s
from foundation.errors import ConfigError

log = logging.getLogger(__name__)

_CLOSE_S = 10.0
# Built once: `json.dumps` with separators builds an encoder per call.
_ENCODE = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class ResultWriter:
    """Owns the output and its thread; used as a context manager.

    A write that fails (disk full, reader gone) is counted as dropped, and later records are still
    tried: a full disk may be emptied.
    """

    def __init__(
        self, settings: ResultSettings, dropped: Counter, write_seconds: Histogram, clock: Clock
    ) -> None:
        self._path = settings.path
        self._queue: queue.SimpleQueue[tuple[int, JsonRecord | Mapping[str, Any]] | None]
        self._queue = queue.SimpleQueue()
        self._queue_max = settings.queue_max
        self._dropped = dropped
        self._write_seconds = write_seconds
        self._clock = clock
        self._warned = False
        self._file: IO[str] | None = None
        self._thread = threading.Thread(target=self._write_all, name="results", daemon=True)

    def __enter__(self) -> Self:
        """Opens the output.

        Raises:
            ConfigError: The file cannot be written.
        """
        if self._path == "-":
            self._file = sys.stdout
        else:
            try:
                self._file = Path(self._path).open("w", encoding="utf-8")
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

    def publish(self, record: JsonRecord | Mapping[str, Any]) -> None:
        """Queues a record, or drops and counts it; never blocks."""
        if self._queue.qsize() >= self._queue_max:
            self._drop("the queue is full, the output does not keep up")
            return
        self._queue.put((self._clock.now_ns(), record))

    def _drop(self, why: str) -> None:
        self._dropped.inc()
        if not self._warned:
            self._warned = True
            log.warning("results to %s are being dropped: %s", self._path, why)

    def _write_all(self) -> None:
        output = self._file
        if output is None:
            raise RuntimeError("the writer runs only once it is opened")
        while (item := self._queue.get()) is not None:
            queued_at_ns, record = item
            document = record if isinstance(record, Mapping) else record.to_json()
            try:
                output.write(_ENCODE(document) + "\n")
                if self._queue.empty():
                    output.flush()
            except (OSError, ValueError) as error:
                self._drop(str(error))
            self._write_seconds.observe(elapsed_s(queued_at_ns, self._clock.now_ns()))
        try:
            output.flush()
            if output is not sys.stdout:
                output.close()
        except OSError as error:
            self._drop(str(error))
