"""Room in a full spool: what has ended goes first, the oldest; then what the policy chooses."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from pathlib import Path

from edge_node.adapters.spool.database import SpoolDatabase
from edge_node.adapters.spool.entries import Entry
from edge_node.config import SpoolSettings
from edge_node.logic.retain import choose_evictions

_ROOM = 0.95
"""A full spool makes this much room at once, for letting go is dearer than holding."""
COMPACT_PAGES = 256
"""Unused pages that are given back to the disk at a time: a megabyte."""

_DISK_BYTES_MIN = 1 << 20


def check_disk(folder: Path) -> None:
    """Before a spool is opened: whether its disk has room for the index that SQLite maps.

    Raises:
        OSError: It is full, or cannot be looked at.
    """
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize < _DISK_BYTES_MIN:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def make_room(
    database: SpoolDatabase, settings: SpoolSettings, handed_out: Collection[str]
) -> list[Entry]:
    """Forgets what has ended, as far as it must, and chooses what else is to go.

    Args:
        database: The spool.
        settings: Its limits.
        handed_out: Ids that are on their way and stay.

    Returns:
        Waiting ones that have to be let go of.
    """
    totals = database.totals()
    count, size = totals.waiting + totals.ended, totals.waiting_bytes + totals.ended_bytes
    count_max, bytes_max = int(settings.escalations_max * _ROOM), int(settings.bytes_max * _ROOM)
    with database.transaction():
        for entry in list(database.entries("outcome <> ''")):
            if count <= count_max and size <= bytes_max:
                break
            if count > count_max:
                database.forget([entry.id])
                count -= 1
            else:
                database.drop_crops([entry.id])
            size -= entry.size_bytes
    database.compact(COMPACT_PAGES)
    if count <= count_max and size <= bytes_max:
        return []
    waiting = {entry.id: entry for entry in database.entries("outcome = ''")}
    busy = [entry for entry in waiting.values() if entry.id in handed_out]
    chosen = choose_evictions(
        [entry.holding for entry in waiting.values() if entry.id not in handed_out],
        count_max=count_max - len(busy),
        bytes_max=bytes_max - sum(entry.size_bytes for entry in busy),
    )
    return [waiting[one.id] for one in chosen]
