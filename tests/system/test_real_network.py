"""Both services as processes on two hosts, and a wire between them that fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.real_network import Site
from benchmarks.rig.books import Books, read_entries
from benchmarks.rig.network import SOUND, Fault, Host, Wire, why_not

pytestmark = pytest.mark.slow

BOUND_S = 120.0
RATE_HZ = 15.0  # at less, a minute may pass without anything to ask about


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Both services, connected."""
    if reason := why_not():
        pytest.skip(reason)
    with Host("edge", 1) as at, Host("cloud", 2) as cloud_at, Wire(at, cloud_at, seed=1) as wire:
        found = Site(tmp_path, wire, at, cloud_at, RATE_HZ)
        with found.cloud, found.edge:
            found.start()
            yield found


def wait_until(reached: Callable[[], bool], site: Site) -> None:
    """Waits for it."""
    until = time.monotonic() + BOUND_S
    while not reached():
        assert site.edge.is_running, site.edge.last_words()
        assert time.monotonic() < until, site.edge.last_words()
        time.sleep(0.1)


def answered(site: Site) -> int:
    """How many escalations have been answered, as the spool knows."""
    entries = read_entries(site.folder / "spool").values()
    return sum(entry.outcome == "answered" for entry in entries)


def test_nothing_is_lost_or_done_twice_on_a_wire_that_fails(site: Site) -> None:
    """Answers come over a lossy wire; a cut is noticed, deferred, and made up for.

    The wire comes back with a second there and back, over which a connection takes four.
    """
    wait_until(lambda: answered(site) >= 2, site)
    site.wire.fault = Fault(loss=0.1, delay_s=0.1)
    before = answered(site)
    wait_until(lambda: answered(site) >= before + 2, site)
    site.wire.fault = Fault(cut=True)
    wait_until(lambda: site.counts()["deferred"] >= 1, site)
    assert site.wait_connected(False, BOUND_S) < BOUND_S
    site.wire.fault = Fault(delay_s=0.5)
    assert site.wait_connected(True, BOUND_S) < BOUND_S
    site.wire.fault = SOUND
    site.watch_calm()
    site.edge.stop()
    books = Books(site.folder / "spool", site.folder / "results.jsonl")
    assert site.wire.lost_packets > 0
    assert books.differences() == []
