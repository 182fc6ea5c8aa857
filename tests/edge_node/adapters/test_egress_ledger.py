"""The ledger of what has left the site, as it is written, on a real disk."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import resource
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edge_node.adapters.egress_ledger import FileLedger, find_breaks, read_ledger
from foundation.errors import ConfigError, TransientError
from foundation.escalations import Escalation
from tests.edge_node.escalations import escalation
from tests.support.clock import ManualClock

DAY_S = 86_400.0
TO = "cloud:7443"


def write(folder: Path, *ids: str, clock: ManualClock | None = None) -> ManualClock:
    """Enters crops, as one run of an edge node does."""
    clock = clock or ManualClock()
    with FileLedger(folder, TO, clock) as ledger:
        for id_ in ids:
            ledger.enter(escalation(id_))
    return clock


def entries(folder: Path) -> list[dict[str, Any]]:
    """What the lines say."""
    return [line.entry for line in read_ledger(folder) if line.entry is not None]


def entered(folder: Path) -> list[str]:
    """The ids, of a ledger whose chain holds."""
    [summary] = find_breaks(folder)
    assert ", 0 breaks" in summary
    return [entry["escalation_id"] for entry in entries(folder)]


def test_entries_say_what_left_when_where_and_why(tmp_path: Path) -> None:
    """With the hash of the very bytes."""
    clock = write(tmp_path, "a")
    [entry] = entries(tmp_path)
    image = escalation("a").image
    assert entry["escalation_id"] == "a"
    assert entry["at_ns"] == clock.now_ns()
    assert (entry["site"], entry["camera"], entry["destination"]) == ("site", "cam", TO)
    assert (entry["reason"], entry["region"], entry["frame"]) == (
        "uncertain",
        [0, 0, 64, 48],
        [64, 48],
    )
    assert entry["image_bytes"] == len(image)
    assert entry["image_sha256"] == hashlib.sha256(image).hexdigest()


def test_chain_runs_through_runs_and_days(tmp_path: Path) -> None:
    """One file a day; the check says how many there are."""
    clock = write(tmp_path, "a", "b")
    write(tmp_path, "c", clock=clock)
    clock.advance_s(DAY_S)
    write(tmp_path, "d", clock=clock)
    assert len(list(tmp_path.glob("egress-*.jsonl"))) == 2
    [summary] = find_breaks(tmp_path)
    assert summary.startswith("4 entries, 0 breaks")


def test_torn_last_line_is_cut_off_and_the_chain_goes_on(tmp_path: Path) -> None:
    """Power was lost while it was written, so its crop had not left."""
    clock = write(tmp_path, "a", "b")
    [path] = tmp_path.glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b'{"previous":"12')
    write(tmp_path, "c", clock=clock)
    assert entered(tmp_path) == ["a", "b", "c"]


# --- the clock ------------------------------------------------------------------------------------


def test_clock_that_goes_back_between_runs_keeps_the_chain(tmp_path: Path) -> None:
    """The machine came up three days behind: it has neither battery nor network."""
    clock = write(tmp_path, "a")
    clock.advance_s(-3 * DAY_S)
    write(tmp_path, "b", clock=clock)
    clock.advance_s(3 * DAY_S)
    write(tmp_path, "c", clock=clock)
    assert entered(tmp_path) == ["a", "b", "c"]
    assert len(list(tmp_path.glob("*.jsonl"))) == 1


def test_clock_that_goes_back_in_a_run_keeps_the_chain(tmp_path: Path) -> None:
    """And once it has caught up each day has its file again."""
    clock = ManualClock()
    with FileLedger(tmp_path, TO, clock) as ledger:
        ledger.enter(escalation("a"))
        clock.advance_s(-DAY_S)
        ledger.enter(escalation("b"))
        clock.advance_s(2 * DAY_S)
        ledger.enter(escalation("c"))
    assert entered(tmp_path) == ["a", "b", "c"]
    assert len(list(tmp_path.glob("*.jsonl"))) == 2


def test_file_of_no_day_is_not_written_to(tmp_path: Path) -> None:
    """A copy that somebody made beside the days, of a name that sorts behind them."""
    clock = write(tmp_path, "a")
    [path] = tmp_path.glob("*.jsonl")
    copy = tmp_path / "egress-copy.jsonl"
    copy.write_bytes(path.read_bytes())
    write(tmp_path, "b", clock=clock)
    assert entered(tmp_path) == ["a", "b"]
    assert len(copy.read_bytes().splitlines()) == 1


# --- one writer -----------------------------------------------------------------------------------


class SlowImage(bytes):
    """Its size takes its time: whoever enters it stands in the middle of an entry until then."""

    begun: threading.Event
    go_on: threading.Event

    def __len__(self) -> int:
        self.begun.set()
        assert self.go_on.wait(10.0)
        return super().__len__()


@contextlib.contextmanager
def slow_escalation(id_: str) -> Iterator[tuple[Escalation, SlowImage]]:
    """An escalation whose entry waits for `go_on`, at the latest until the block ends."""
    image = SlowImage(b"x" * 100)
    image.begun, image.go_on = threading.Event(), threading.Event()
    try:
        yield dataclasses.replace(escalation(id_), image=image), image
    finally:
        image.go_on.set()


def test_who_comes_while_another_enters_waits_for_it(tmp_path: Path) -> None:
    """The stream broke while the disk was slow, and the next stream has begun."""
    with (
        FileLedger(tmp_path, TO, ManualClock()) as ledger,
        ThreadPoolExecutor(2) as pool,
        slow_escalation("a") as (slow, image),
    ):
        abandoned = pool.submit(ledger.enter, slow)
        assert image.begun.wait(10.0)
        later = pool.submit(ledger.enter, escalation("b"))
        assert not wait([later], timeout=0.1).done
        image.go_on.set()
        abandoned.result(10.0)
        later.result(10.0)
    assert entered(tmp_path) == ["a", "b"]


def test_closing_waits_for_who_is_entering(tmp_path: Path) -> None:
    """Its line is on disk, and not in a file that another has opened under the same number."""
    with (
        contextlib.ExitStack() as stack,
        ThreadPoolExecutor(2) as pool,
        slow_escalation("a") as (slow, image),
    ):
        ledger = stack.enter_context(FileLedger(tmp_path, TO, ManualClock()))
        abandoned = pool.submit(ledger.enter, slow)
        assert image.begun.wait(10.0)
        closing = pool.submit(stack.close)
        assert not wait([closing], timeout=0.1).done
        image.go_on.set()
        abandoned.result(10.0)
        closing.result(10.0)
    assert entered(tmp_path) == ["a"]


def test_closed_ledger_takes_nothing(tmp_path: Path) -> None:
    """Not even on a new day: another edge node may own the folder by then."""
    clock = ManualClock()
    with FileLedger(tmp_path, TO, clock) as ledger:
        ledger.enter(escalation("a"))
    clock.advance_s(DAY_S)
    with pytest.raises(TransientError, match="closed"):
        ledger.enter(escalation("b"))
    assert entered(tmp_path) == ["a"]


def test_second_edge_node_on_a_folder_is_refused(tmp_path: Path) -> None:
    """Their chains would run into each other. When the first has ended the folder is free."""
    clock = ManualClock()
    with FileLedger(tmp_path, TO, clock) as ledger:
        with (
            pytest.raises(ConfigError, match=r"Give each camera an egress\.ledger of its own") as e,
            FileLedger(tmp_path, TO, clock),
        ):
            pass
        assert f"Another edge node uses the egress ledger in {tmp_path}" in str(e.value)
        ledger.enter(escalation("a"))
    write(tmp_path, "b", clock=clock)
    assert entered(tmp_path) == ["a", "b"]


# --- disks that fail ------------------------------------------------------------------------------


@contextlib.contextmanager
def full_disk(file_bytes_max: int) -> Iterator[None]:
    """Writing a file beyond that size fails."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)


def test_full_disk_lets_nothing_leave_until_there_is_room(tmp_path: Path) -> None:
    """The error says so; nothing is written in part."""
    with FileLedger(tmp_path, TO, ManualClock()) as ledger:
        ledger.enter(escalation("a"))
        with full_disk(600), pytest.raises(TransientError, match="nothing leaves"):
            ledger.enter(escalation("b"))
        ledger.enter(escalation("b"))
    assert entered(tmp_path) == ["a", "b"]


def test_part_of_a_line_that_cannot_be_cut_off_is_not_written_behind(tmp_path: Path) -> None:
    """Nothing leaves until it can: the next line would be none."""
    clock = ManualClock()
    file = os.memfd_create("ledger", os.MFD_ALLOW_SEALING)
    try:
        day = datetime.fromtimestamp(clock.now_ns() / 1e9, UTC)
        (tmp_path / f"egress-{day:%Y-%m-%d}.jsonl").symlink_to(f"/proc/self/fd/{file}")
        with FileLedger(tmp_path, TO, clock) as ledger:
            ledger.enter(escalation("a"))
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
            with full_disk(600), pytest.raises(TransientError, match="File too large"):
                ledger.enter(escalation("b"))
            with pytest.raises(TransientError, match="nothing leaves"):
                ledger.enter(escalation("c"))
            assert os.fstat(file).st_size == 600
    finally:
        os.close(file)


def test_folder_that_cannot_be_written_is_a_setting_to_correct(tmp_path: Path) -> None:
    """It lies below a file."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match="egress ledger"),
        FileLedger(tmp_path / "file" / "x", TO, ManualClock()),
    ):
        pass


def test_start_that_fails_gives_the_folder_up(tmp_path: Path) -> None:
    """A folder has the name of the day's file."""
    clock = write(tmp_path, "a")
    clock.advance_s(DAY_S)
    day = datetime.fromtimestamp(clock.now_ns() / 1e9, UTC)
    obstacle = tmp_path / f"egress-{day:%Y-%m-%d}.jsonl"
    obstacle.mkdir()
    failing = FileLedger(tmp_path, TO, clock)
    with pytest.raises(ConfigError, match="Cannot write the egress ledger"), failing:
        pass
    obstacle.rmdir()
    write(tmp_path, "b", clock=clock)
    assert entered(tmp_path) == ["a", "b"]
