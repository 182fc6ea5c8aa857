"""A spool that is found damaged: each escalation that it held ends exactly once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from edge_node.adapters.spool.database import FILE
from edge_node.adapters.spool.folder import find_untold, quarantine
from edge_node.values import Cause, EscalationOutcome
from foundation.escalations import Shed, Verdict
from foundation.wire import verdict_to_proto
from tests.edge_node.pipeline.test_deferral import BOUND_S, Node
from tests.edge_node.spooled import Spooled, answered, kept, wait_for
from tests.support.escalator import ScriptedEscalator

DAMAGED = (EscalationOutcome.FAILED, Cause.DAMAGED)


def damage(folder: Path, *, whole: bool = False) -> None:
    """Spoils a row that nobody misses, or everything."""
    with sqlite3.connect(folder / FILE) as other:
        other.execute(
            "INSERT INTO escalations (id, run, captured_at_ns, fresh_until_ns, reason, value, "
            "size_bytes) VALUES ('bad', 'x', 1, 1, 'nonsense', 9.0, 1)"
        )
        other.commit()
        if whole:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if whole:
        size = (folder / FILE).stat().st_size
        with (folder / FILE).open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (size - 4096))


async def until_moved_aside(node: Node) -> None:
    """The damage has been found."""
    node.keeper.take()
    moved = partial(node.registry.get_sample_value, "edge_spool_quarantines_total")
    await asyncio.to_thread(wait_for, lambda: bool(moved()))


def ends(node: Node) -> dict[str, tuple[EscalationOutcome, Cause]]:
    """How each has ended, once."""
    assert max(Counter(one.escalation_id for one in node.endings).values(), default=1) == 1
    return {one.escalation_id: (one.outcome, one.cause) for one in node.endings}


class Silent(ScriptedEscalator):
    """Takes everything and answers nothing, until it is told to shed it or break the stream."""

    def __init__(self, *, sheds: bool = False) -> None:
        super().__init__()
        self.sheds = sheds
        self.asked = ""
        self.breaks = asyncio.Event()
        self.taken = asyncio.Event()

    async def Escalate(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        """As it says."""
        async for message in request_iterator:
            self.asked = message.id
            self.taken.set()
            await self.breaks.wait()
            if self.sheds:
                yield verdict_to_proto(Verdict(message.id, Shed(0.01), "c" * 64))
                continue
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the link breaks")


@pytest.mark.parametrize("whole", [False, True])
async def test_fresh_one_in_flight_ends_when_its_time_is_over(tmp_path: Path, whole: bool) -> None:
    """It was kept, so it would wait in a file that nobody reads; it is counted as not kept."""
    async with Silent() as cloud:
        node = Node(tmp_path, cloud.address)
        async with node.running():
            node.ask("a", expiry_s=1.5)
            await asyncio.wait_for(cloud.taken.wait(), BOUND_S)
            await asyncio.sleep(0.2)  # it is on disk
            await asyncio.to_thread(damage, tmp_path, whole=whole)
            await until_moved_aside(node)
            await node.until(1)
    assert ends(node) == {"a": (EscalationOutcome.EXPIRED, Cause.NONE)}
    assert not node.deferred
    assert node.registry.get_sample_value("edge_spool_losses_total", {"reason": "disk"}) == 1


@pytest.mark.parametrize(("whole", "sheds"), [(False, False), (True, False), (False, True)])
async def test_backlog_in_flight_ends_where_it_would_wait_again(
    tmp_path: Path, whole: bool, sheds: bool
) -> None:
    """So does what had been handed out with it, and what waits."""
    first = Node(tmp_path)
    async with first.running():
        first.ask("a", "b")
        await first.until_deferred(2)
    async with Silent(sheds=sheds) as cloud:
        node = Node(tmp_path, cloud.address, backlog_share=0.9)
        async with node.running():
            await asyncio.wait_for(cloud.taken.wait(), BOUND_S)
            await asyncio.to_thread(damage, tmp_path, whole=whole)
            await until_moved_aside(node)
            await asyncio.sleep(0.2)
            assert cloud.asked not in ends(node), "it may still be answered"
            cloud.breaks.set()
            await node.until(2)
            await asyncio.sleep(0.2)
    assert ends(node) == {"a": DAMAGED, "b": DAMAGED}
    [lost] = [one for one in node.endings if one.escalation_id == cloud.asked]
    assert lost.late is not None
    assert lost.other_run


async def test_what_waited_ends_with_what_was_asked(tmp_path: Path) -> None:
    """Each is counted, once, though there are more than are told at a time."""
    ids = [f"a{number:03}" for number in range(150)]
    node = Node(tmp_path)
    async with node.running():
        node.ask(*ids, expiry_s=0.01)
        await node.until_deferred(len(ids))
        await asyncio.to_thread(damage, tmp_path)
        await until_moved_aside(node)
        await node.until(len(ids))
        await asyncio.sleep(0.2)
        labels = {"camera": "cam", "cause": "damaged"}
        counted = node.registry.get_sample_value("edge_escalation_failures_total", labels)
    assert ends(node) == dict.fromkeys(ids, DAMAGED)
    assert counted == len(ids)
    assert not find_untold(tmp_path)
    assert all(one.late is not None and one.late.id == one.escalation_id for one in node.endings)


async def test_answer_on_its_way_is_not_lost(tmp_path: Path) -> None:
    """Nor is what it answers ended twice."""
    async with ScriptedEscalator(delay_s=1.0) as cloud:
        node = Node(tmp_path, cloud.address)
        async with node.running():
            node.ask("a", expiry_s=BOUND_S)
            await asyncio.sleep(0.4)
            await asyncio.to_thread(damage, tmp_path)
            await until_moved_aside(node)
            await node.until(1)
            await asyncio.sleep(0.2)
    assert ends(node) == {"a": (EscalationOutcome.ANSWERED, Cause.NONE)}
    assert not find_untold(tmp_path)


def test_damage_found_at_the_start_ends_what_waited(tmp_path: Path) -> None:
    """But for what the results say has ended, and what had ended in the file."""
    first = Spooled(tmp_path)
    with first.running():
        first.append("a", "b", "c", "d")
        first.keeper.end(answered("c"))
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute("UPDATE meta SET value = 'no blob'")
    again = Spooled(tmp_path)
    with again.running({"b": ("answered", "")}):
        again.heard.wait(lambda: len(again.heard.lost) >= 2)
        again.append("new")
    assert [one.escalation_id for one in again.heard.lost] == ["a", "d"]
    assert {(one.outcome, one.cause) for one in again.heard.lost} == {DAMAGED}


def test_what_a_run_could_not_tell_the_next_one_tells(tmp_path: Path) -> None:
    """It was killed before the results had all; what they have is not told again."""
    first = Spooled(tmp_path)
    with first.running():
        first.append("a", "b", "c")
        assert sorted(first.take()) == ["a", "b", "c"]
        damage(tmp_path)
        first.take()
        first.heard.wait(lambda: len(first.heard.lost) == 3)
        [known] = [one for one in first.heard.lost if one.escalation_id == "a"]
        first.keeper.end(known)
    again = Spooled(tmp_path)
    with again.running({"a": ("failed", "damaged")}):
        again.heard.wait(lambda: len(again.heard.lost) == 2)
        for one in again.heard.lost:
            again.keeper.end(one)
    assert [one.escalation_id for one in again.heard.lost] == ["b", "c"]
    last = Spooled(tmp_path)
    with last.running():
        last.append("new")
    assert not last.heard.lost
    assert again.counted("edge_spool_quarantines_total") == 0


def test_what_was_just_moved_aside_is_not_the_oldest(tmp_path: Path) -> None:
    """Though the clock says so: it began anew at its epoch."""
    for number in range(3):
        (tmp_path / f"quarantine-{2_000_000_000 + number}").mkdir()
    aside = quarantine(tmp_path, 1_000_000_000)
    assert aside.is_dir()
    assert not (tmp_path / "quarantine-2000000000").exists()


def test_what_is_in_hand_is_told_though_it_cannot_be_read(tmp_path: Path) -> None:
    """What was given back in between, too: whoever had it has forgotten it."""
    spool = Spooled(tmp_path)
    with spool.running():
        spool.append("a", "b")
        assert sorted(spool.take()) == ["a", "b"]
        damage(tmp_path, whole=True)
        spool.keeper.give_back("b", attempted=True)
        assert spool.keeper.append(kept("c"))
        spool.heard.wait(lambda: len(spool.heard.lost) >= 2)
    assert sorted(one.escalation_id for one in spool.heard.lost) == ["a", "b"]
    assert spool.counted("edge_spool_quarantines_total") == 1


def test_what_lies_in_an_older_quarantine_is_in_no_ones_way(tmp_path: Path) -> None:
    """Somebody has exported to it. The damage is counted, and what waited ends."""
    for number in range(4):
        (tmp_path / f"quarantine-{1000 + number}" / "saved" / "images").mkdir(parents=True)
    (tmp_path / "quarantine-0").write_text("a note")
    spool = Spooled(tmp_path)
    with spool.running():
        spool.append("a")
        damage(tmp_path)
        spool.take()
        spool.append("b")
        spool.heard.wait(lambda: len(spool.heard.lost) == 1)
    assert spool.heard.written == ["a", "b"]
    assert spool.counted("edge_spool_quarantines_total") == 1
    assert not (tmp_path / "quarantine-1000").exists()


def test_nothing_is_said_of_a_file_that_holds_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """That what waited there cannot be read is said, and the spool goes on."""
    (tmp_path / FILE).write_bytes(b"not a database at all" * 500)
    spool = Spooled(tmp_path)
    with spool.running():
        spool.append("a")
    assert not spool.heard.lost
    assert "cannot be read" in caplog.text
