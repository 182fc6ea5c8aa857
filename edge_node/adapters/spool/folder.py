"""The spool's folder: that one process owns it, and what becomes of a damaged file in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edge_node.adapters.spool.database import FILE
from edge_node.folder_owner import FolderOwner

LOCK = "spool.lock"


class FolderLock(FolderOwner):
    """That one edge node owns a spool's folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, LOCK, thing="spool", setting="spool.folder")


def quarantine(folder: Path, now_ns: int, *, kept_max: int = 3) -> Path:
    """Moves a damaged spool aside, where nothing reads it; the oldest of too many are deleted."""
    aside = folder / f"quarantine-{now_ns}"
    aside.mkdir(mode=0o700)
    for suffix in ("", "-wal", "-shm"):
        file = folder / (FILE + suffix)
        if file.exists():
            os.replace(file, aside / file.name)  # noqa: PTH105 - as atomic as it gets, and says so
    for old in sorted(folder.glob("quarantine-*"))[:-kept_max]:
        # Whatever somebody has put there; that it cannot be deleted is no failure of the spool.
        shutil.rmtree(old, ignore_errors=True)
    return aside
