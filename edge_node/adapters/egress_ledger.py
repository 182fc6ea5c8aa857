"""The ledger of what has left the site: one line a crop, each chained to the one before.

A line is JSON with the SHA-256 of the line before it, so that none can be changed, removed or put
in without breaking the chain from there on; what the last line's hash is can be noted elsewhere. A
line is on disk before its crop leaves, so the ledger holds everything that left, and perhaps a crop
that was about to when the process ended. One file for each day in UTC; the chain runs through all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from foundation.clock import Clock
from foundation.errors import ConfigError, TransientError
from foundation.escalations import Escalation

_PATTERN = "egress-*.jsonl"
_START = "0" * 64
"""What the first line names as the one before."""


class FileLedger:
    """Implements `ports.EgressLedger`; one caller at a time. Used with `with`."""

    def __init__(self, folder: Path, destination: str, clock: Clock) -> None:
        """Takes where it lies and to whom crops go."""
        self._folder = folder
        self._destination = destination
        self._clock = clock
        self._previous = _START
        self._file = -1
        self._path: Path | None = None

    def __enter__(self) -> Self:
        """Finds the end of the chain; a last line that power loss cut short is cut off.

        Raises:
            ConfigError: The folder cannot be used.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            files = sorted(self._folder.glob(_PATTERN))
            if files:
                self._previous = _cut_and_hash(files)
            self._open(self._today())
        except OSError as error:
            raise ConfigError(
                f"Cannot write the egress ledger in {self._folder}: {error.strerror}",
                remedy="Choose another egress.ledger, or give the edge node the right to write",
            ) from error
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def enter(self, escalation: Escalation) -> None:
        """Enters a crop that is about to leave.

        Raises:
            TransientError: It cannot be written now.
        """
        try:
            path = self._today()
            if path != self._path:
                self._open(path)
            line = self._line(escalation)
            end = os.fstat(self._file).st_size
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(self._file, rest) :]
                os.fdatasync(self._file)
            except OSError:
                os.ftruncate(self._file, end)
                raise
        except OSError as error:
            raise TransientError(
                f"The egress ledger in {self._folder} cannot be written ({error.strerror}): "
                "nothing leaves",
                remedy="Make room on its disk",
            ) from error
        self._previous = hashlib.sha256(line[:-1]).hexdigest()

    def _line(self, escalation: Escalation) -> bytes:
        region = escalation.region
        entry = {
            "previous": self._previous,
            "at_ns": self._clock.now_ns(),
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

    def _today(self) -> Path:
        day = datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC)
        return self._folder / f"egress-{day:%Y-%m-%d}.jsonl"

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


def read_ledger(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every entry with where it stands, in order.

    Raises:
        ConfigError: There is no ledger, or a line of it is none.
    """
    files = sorted(folder.glob(_PATTERN))
    if not files:
        raise ConfigError(f"There is no egress ledger in {folder}", remedy="Name egress.ledger")
    for path in files:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                place = f"{path.name}:{number}"
                try:
                    entry = json.loads(line)
                    entry["hash"] = hashlib.sha256(line.rstrip(b"\n")).hexdigest()
                    yield place, entry
                except (ValueError, TypeError) as error:
                    raise ConfigError(
                        f"{place} in {folder} is no entry of a ledger",
                        remedy="Compare it with a copy: the ledger has been changed or is damaged",
                    ) from error


def find_breaks(folder: Path) -> Iterator[str]:
    """Where the chain is broken; the last line tells how many entries there are and the last hash.

    Raises:
        ConfigError: There is no ledger, or a line of it is none.
    """
    previous, count, broken = _START, 0, 0
    for place, entry in read_ledger(folder):
        if entry.get("previous") != previous:
            broken += 1
            yield f"{place}: what stands before it is not what stood there when it was written"
        previous, count = str(entry["hash"]), count + 1
    yield f"{count} entries, {broken} breaks; the last hash is {previous}"


@dataclass(frozen=True, slots=True)
class _Row:
    day: str
    site: str
    camera: str
    reason: str


def report(folder: Path) -> Iterator[str]:
    """Crops and bytes by day, camera and reason.

    Raises:
        ConfigError: There is no ledger, or a line of it is none.
    """
    crops: Counter[_Row] = Counter()
    sizes: Counter[_Row] = Counter()
    for _, entry in read_ledger(folder):
        day = datetime.fromtimestamp(entry["at_ns"] / 1e9, UTC).strftime("%Y-%m-%d")
        row = _Row(day, entry["site"], entry["camera"], entry["reason"])
        crops[row] += 1
        sizes[row] += entry["image_bytes"]
    yield f"{'day (UTC)':<11}{'site':<16}{'camera':<16}{'reason':<12}{'crops':>8}{'bytes':>14}"
    order = sorted(crops, key=lambda row: (row.day, row.site, row.camera, row.reason))
    for row in order:
        yield (
            f"{row.day:<11}{row.site:<16.15}{row.camera:<16.15}{row.reason:<12}"
            f"{crops[row]:>8,}{sizes[row]:>14,}"
        )
    yield f"{'':<55}{crops.total():>8,}{sizes.total():>14,}"
