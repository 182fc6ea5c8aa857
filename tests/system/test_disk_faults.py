"""Both services as processes, while the disks of the edge node are full, broken and slow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.disk_faults import Site, compare
from benchmarks.rig.mounts import SmallDisk, why_not
from edge_node.adapters.spool.database import FILE
from tests.edge_node.spooled import Spooled

BOUND_S = 60.0
RATE_HZ = 5.0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Both services, at work."""
    if reason := why_not():
        pytest.skip(reason)
    with (
        SmallDisk(tmp_path / "of-spool", 8 << 20) as spool,
        SmallDisk(tmp_path / "of-results", 8 << 20) as results,
    ):
        found = Site(tmp_path, spool, results, RATE_HZ)
        with found.cloud, found.edge:
            found.start()
            yield found


def wait_for(site: Site, name: str, more: int) -> None:
    """Waits until a counter has risen by so much."""
    least = site.counts()[name] + more
    until = time.monotonic() + BOUND_S
    while site.counts()[name] < least:
        assert time.monotonic() < until, site.edge.last_words()
        time.sleep(0.1)


def test_frames_go_on_and_what_is_not_kept_is_counted(site: Site) -> None:
    """Each fault shows in its counter; frames go on; afterwards the books agree."""
    wait_for(site, "ended", 2)
    signs = {
        "spool full": "not_kept",
        "spool read-only": "not_kept",
        "results full": "results_dropped",
        "slow": "ended",
    }
    for fault, counter in signs.items():
        site.begin(fault)
        wait_for(site, counter, 2)
        wait_for(site, "frames", 5)
        site.finish(fault)
        wait_for(site, "ended", 2)
    total = site.settle()
    assert total["quarantined"] == 0
    assert total["failed"] == 0
    assert compare(site.books(), total["not_kept"]) == []


def test_what_is_mapped_into_memory_has_its_room_on_the_disk(tmp_path: Path) -> None:
    """Blocks that are not claimed cost the process its life once the disk is full."""
    if reason := why_not():
        pytest.skip(reason)
    with SmallDisk(tmp_path, 8 << 20) as disk:
        spooled = Spooled(disk.folder / "spool")
        with spooled.running():
            spooled.append("a")
            index = (disk.folder / "spool" / f"{FILE}-shm").stat()
            assert index.st_blocks * 512 >= index.st_size > 32_768
            disk.fill()
        again = Spooled(disk.folder / "spool")
        with again.running():
            again.append("b")
            assert again.heard.unwritten == ["b"]
