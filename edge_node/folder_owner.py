"""That one process owns a folder, whichever adapter keeps something in it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from foundation.errors import ConfigError


class FolderOwner:
    """That one edge node owns a folder; given up by the system when the process ends."""

    def __init__(self, folder: Path, file: str, *, thing: str, setting: str) -> None:
        """Takes the lock file's name, what the folder is, and which setting names it."""
        self._folder = folder
        self._name = file
        self._thing = thing
        self._setting = setting
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
            self._file = os.fdopen(os.open(self._folder / self._name, flags, 0o644), "wb")
        except OSError as error:
            raise ConfigError(
                f"Cannot use {self._folder} as {_article(self._thing)} {self._thing}: "
                f"{error.strerror}",
                remedy=f"Choose another {self._setting}, or give the edge node the right to write",
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise ConfigError(
                f"Another edge node uses the {self._thing} in {self._folder}",
                remedy=f"Give each camera {_article(self._setting)} {self._setting} of its own",
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


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"
