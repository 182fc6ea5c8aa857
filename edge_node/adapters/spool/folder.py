"""The spool's folder: that one process owns it, and what becomes of a damaged file in it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from edge_node.adapters.spool.database import FILE
from foundation.errors import ConfigError

LOCK = "spool.lock"


class FolderLock:
    """That one edge node owns a folder; given up by the system when the process ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """Takes the folder, which is made where it is missing.

        Raises:
            ConfigError: It cannot be written, or another process has it.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Not blocking: a pipe of that name would wait for a reader for ever.
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            self._file = os.fdopen(os.open(self._folder / LOCK, flags, 0o644), "wb")
        except OSError as error:
            raise ConfigError(
                f"Cannot use {self._folder} as a spool: {error.strerror}",
                remedy="Choose another spool.folder, or give the edge node the right to write",
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise ConfigError(
                f"Another edge node uses the spool in {self._folder}",
                remedy="Give each camera a spool.folder of its own",
            ) from error
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()


def quarantine(folder: Path, now_ns: int, *, kept_max: int = 3) -> Path:
    """Moves a damaged spool aside, where nothing reads it; the oldest of too many are deleted."""
    aside = folder / f"quarantine-{now_ns}"
    aside.mkdir(mode=0o700)
    for suffix in ("", "-wal", "-shm"):
        file = folder / (FILE + suffix)
        if file.exists():
            os.replace(file, aside / file.name)  # noqa: PTH105 - as atomic as it gets, and says so
    for old in sorted(folder.glob("quarantine-*"))[:-kept_max]:
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
    return aside
