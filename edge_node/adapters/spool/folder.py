"""The spool's folder: that one process owns it, and what becomes of a damaged file in it."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from edge_node.adapters.spool.database import FILE
from edge_node.folder_owner import FolderOwner

LOCK = "spool.lock"
_UNTOLD = "untold"
"""Lies beside what was moved aside until it is told how what waited in it ended."""


class FolderLock(FolderOwner):
    """That one edge node owns a spool's folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, LOCK, thing="spool", setting="spool.folder")


def quarantine(folder: Path, now_ns: int, *, kept_max: int = 3) -> Path:
    """Moves a damaged spool aside, where nothing reads it; the oldest of too many are deleted."""
    aside = folder / f"quarantine-{now_ns}"
    aside.mkdir(mode=0o700)
    with contextlib.suppress(OSError):  # a full disk does not keep the damaged file in the way
        (aside / _UNTOLD).touch()
    for suffix in ("", "-wal", "-shm"):
        file = folder / (FILE + suffix)
        if file.exists():
            os.replace(file, aside / file.name)  # noqa: PTH105 - as atomic as it gets, and says so
    # A clock that stepped back does not make this one the oldest.
    found = sorted(folder.glob("quarantine-*"), key=lambda each: (each == aside, each))
    for old in found[:-kept_max]:
        # Whatever somebody has put there; that it cannot be deleted is no failure of the spool.
        shutil.rmtree(old, ignore_errors=True)
    return aside


def find_untold(folder: Path) -> list[Path]:
    """What was moved aside and is not told of, since the process ended before it could."""
    return sorted(mark.parent for mark in folder.glob(f"quarantine-*/{_UNTOLD}"))


def note_told(aside: Path) -> None:
    """How each ended that waited in what was moved aside is told, and is on disk."""
    with contextlib.suppress(OSError):  # told again by the next run, but for what its results say
        (aside / _UNTOLD).unlink(missing_ok=True)
