"""Each escalation ends once, is paid each time it is sent, and leaves as it may: hard cases."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from edge_node.adapters.spool.cipher import Cipher
from edge_node.adapters.spool.database import FILE, SpoolDatabase
from edge_node.adapters.spool.keeper import SpoolKeeper
from edge_node.values import Cause, EscalationOutcome, Kept, Repeated
from foundation.escalations import Shed
from tests.edge_node.pipeline.test_deferral import BOUND_S, Node, outcomes
from tests.edge_node.pipeline.test_escalation_lane import Bench
from tests.edge_node.spooled import Heard, Spooled, kept, wait_for
from tests.support.escalator import ScriptedEscalator


async def leave(folder: Path, *ids: str, egress: dict[str, Any] | None = None) -> None:
    """A run without a link, whose escalations wait in the spool."""
    node = Node(folder, egress=egress)
    async with node.running():
        node.ask(*ids)
        await node.until_deferred(len(ids))


@pytest.mark.parametrize(
    "egress",
    [
        {"nothing": True},
        {"labels_never": ["open"]},
        {"crop_side_max_px": 50},
        {"zones_never": [[[0, 0], [1, 0], [1, 1]]]},
    ],
    ids=lambda egress: next(iter(egress)),
)
async def test_what_was_cut_under_other_egress_settings_does_not_leave(
    tmp_path: Path, egress: dict[str, Any]
) -> None:
    """It ends as withheld: nobody can cut it again."""
    await leave(tmp_path, "a", "b")
    async with ScriptedEscalator() as cloud:
        node = Node(tmp_path, cloud.address, egress=egress)
        async with node.running():
            endings = await node.until(2)
        assert not cloud.received
    assert {(one.outcome, one.cause) for one in endings} == {
        (EscalationOutcome.WITHHELD, Cause.EGRESS)
    }
    assert outcomes(tmp_path) == {"a": "withheld", "b": "withheld"}


async def test_harmless_changes_of_egress_settings_cost_nothing(tmp_path: Path) -> None:
    """Another order, and limits that these crops keep."""
    zones = [[[0, 0], [0.1, 0], [0.1, 0.1]], [[0.9, 0], [1, 0], [1, 0.1]]]
    before = {"zones_never": zones, "labels_never": ["short", "spur"], "blur": {"mouse": "head"}}
    turned = [[*zone[1:], zone[0]] for zone in reversed(zones)]
    after = {"zones_never": turned, "labels_never": ["spur", "short"], "crop_bytes_max": 10_000}
    await leave(tmp_path, "a", egress=before)
    async with ScriptedEscalator() as cloud:
        node = Node(tmp_path, cloud.address, egress={**after, "blur": {"mouse": "head"}})
        async with node.running():
            await node.until(1)
    assert outcomes(tmp_path) == {"a": "answered"}


@pytest.mark.parametrize("rollout", ["shadow", "off"])
async def test_nothing_of_an_earlier_run_leaves_where_nothing_is_sent(
    tmp_path: Path, rollout: str
) -> None:
    """It stays in the spool, for a run that enforces."""
    await leave(tmp_path, "a")
    async with ScriptedEscalator() as cloud:
        node = Node(tmp_path, cloud.address, policy={"rollout": rollout})
        async with node.running():
            await asyncio.sleep(1.5)
        assert not cloud.received
        assert outcomes(tmp_path) == {"a": ""}
        node = Node(tmp_path, cloud.address)
        async with node.running():
            await node.until(1)
    assert outcomes(tmp_path) == {"a": "answered"}


async def test_full_spool_lets_go_of_nothing_that_is_in_hand(tmp_path: Path) -> None:
    """What has been answered and is not noted yet must not end a second time, as evicted."""
    async with ScriptedEscalator() as cloud:
        node = Node(tmp_path, cloud.address, escalations_max=16)
        node.publishes = False
        async with node.running():
            ids = [f"a{number:02}" for number in range(24)]
            for id_ in ids:
                node.ask(id_, expiry_s=20.0)
                await asyncio.sleep(0.02)
            await node.until(len(ids))
            await asyncio.sleep(0.2)
    assert Counter(one.escalation_id for one in node.endings) == Counter(ids)
    assert {one.outcome for one in node.endings} == {EscalationOutcome.ANSWERED}
    assert not node.failures


class HeldUp(SpoolKeeper):
    """Whoever appends is held up before it goes on."""

    def append(self, kept: Kept) -> bool:
        """As the real one, which it is."""
        taken = super().append(kept)
        time.sleep(0.1)
        return taken


async def test_spool_may_answer_before_its_caller_goes_on(tmp_path: Path) -> None:
    """What it says finds the escalation there."""
    node = Node(tmp_path, keeper=HeldUp)
    async with node.running():
        node.ask("a", "b")
        await node.until_deferred(2)
    assert outcomes(tmp_path) == {"a": "", "b": ""}


async def test_refused_streams_cost_the_backlog_nothing(tmp_path: Path) -> None:
    """An escalator that has no stream to spare says nothing about what would be sent on it."""
    await leave(tmp_path, "a", "b")
    refusals, refused_often = 0, asyncio.Event()

    class Full(ScriptedEscalator):
        async def Escalate(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
            nonlocal refusals
            async for _ in request_iterator:
                refusals += 1
                if refusals == 3:
                    refused_often.set()
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no stream is free")
            yield None

    async with Full() as cloud:
        node = Node(tmp_path, cloud.address)
        async with node.running():
            await asyncio.wait_for(refused_often.wait(), BOUND_S)
    with SpoolDatabase.open(tmp_path, Cipher(None), read_only=True) as database:
        assert [(one.outcome, one.attempts) for one in database.entries()] == [("", 0)] * 2


async def test_sending_again_is_bounded_and_paid() -> None:
    """An escalator that sheds and sheds gets a tenth of the bytes of the budget in repetitions."""
    bench = Bench(policy={"uplink_bytes_per_s": 1.0, "uplink_bytes_burst": 26_800.0})
    await bench.admit("a", expiry_s=1.5)
    sent = 0
    while not bench.endings:
        taken = asyncio.create_task(bench.lane.next_escalation())
        await asyncio.wait({taken}, timeout=0.2)
        if not taken.done():
            taken.cancel()
            continue
        bench.lane.note_sent("a", 268)
        sent += 1
        bench.reply("a", Shed(0.001))
    paid = [one.size_bytes for one in bench.news if isinstance(one, Repeated)]
    assert sent == 1 + len(paid)
    assert sum(paid) == 268 * 10
    assert [one.outcome for one in bench.endings] == [EscalationOutcome.EXPIRED]


async def test_broken_streams_repeat_within_the_budget_too() -> None:
    """What was taken and never written costs nothing; what was written waits for its bytes."""
    bench = Bench(policy={"uplink_bytes_per_s": 13_400.0, "uplink_bytes_burst": 26_800.0})
    await bench.admit("a", expiry_s=30.0)
    for _ in range(20):
        assert await bench.send() == "a"
        bench.lane.set_connected(False, broken=True)
    assert not [one for one in bench.news if isinstance(one, Repeated)]
    begun_s = time.monotonic()
    for _ in range(16):
        assert await bench.send() == "a"
        bench.lane.note_sent("a", 268)
        bench.lane.set_connected(False, broken=True)
    assert await bench.send() == "a"
    assert time.monotonic() - begun_s > 1.0, "six of 268 bytes at 1,340 a second"
    assert not bench.endings


# --- the spool's thread ---


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Another program writes to the spool's file and takes its time."""
    other = sqlite3.connect(folder / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


def test_damage_in_a_file_that_cannot_be_written_does_not_end_the_thread(tmp_path: Path) -> None:
    """What is damaged ends once that can be written; the others go on."""
    spool = Spooled(tmp_path)
    with spool.running():
        spool.append("a", "b")
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute("UPDATE crops SET digest = x'00' WHERE id = 'a'")
    spool = Spooled(tmp_path)
    with spool.running():
        with locked(tmp_path):
            spool.take()

        def ended() -> bool:
            spool.take()
            return bool(spool.heard.gone)

        wait_for(ended)
    assert [one.cause for one in spool.heard.gone] == [Cause.DAMAGED]
    assert not spool.failures


def test_bug_in_the_thread_is_heard_of(tmp_path: Path) -> None:
    """It would otherwise take everything that is asked of the spool with it."""

    class Faulty(Heard):
        def note_kept(self, escalation_ids: Sequence[str], *, written: bool) -> None:
            raise ArithmeticError(f"a bug about {escalation_ids}, {written}")

    spool = Spooled(tmp_path)
    spool.heard = Faulty()
    with spool.running():
        assert spool.keeper.append(kept("a"))
        wait_for(lambda: bool(spool.failures))
    assert isinstance(spool.failures[0], ArithmeticError)


def test_ends_of_an_earlier_run_are_noted_when_that_can_be_written(tmp_path: Path) -> None:
    """Until then they are not handed out, and so not asked about once more."""
    first = Spooled(tmp_path)
    with first.running():
        first.append("a", "b")
    second = Spooled(tmp_path)
    with contextlib.ExitStack() as stack:
        with locked(tmp_path):
            stack.enter_context(second.running(ended={"a": ("answered", "")}))
            wait_for(lambda: second.counted("edge_spool_errors_total") > 0)
        wait_for(lambda: bool(second.take()))
    assert [ids for ids in second.heard.backlogs if ids] == [["b"]]
    assert outcomes(tmp_path) == {"a": "answered", "b": ""}
