"""Escalations that outlive their freshness, their link and their process.

The lane, the spool on disk and the uplink are the real ones; only the frame lane is played.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from edge_node.adapters.spool.cipher import Cipher
from edge_node.adapters.spool.database import SpoolDatabase
from edge_node.adapters.spool.keeper import SpoolKeeper
from edge_node.adapters.uplink import GrpcUplink
from edge_node.config import EdgeSettings
from edge_node.metrics import EdgeMetrics
from edge_node.pipeline.escalation_lane import EscalationLane
from edge_node.pipeline.spool_news import SpoolNews
from edge_node.values import Candidate, Cause, Deferred, Ending, EscalationOutcome, News
from foundation.clock import SystemClock
from foundation.escalations import Encoding, Escalation, Expired, Outcome, Shed
from tests.edge_node.escalations import candidate, escalation
from tests.edge_node.spooled import kept
from tests.support.escalator import ScriptedEscalator, confirm

BOUND_S = 20.0
NOWHERE = "127.0.0.1:9"


class Node:
    """One run of an edge node, without frames."""

    def __init__(
        self,
        folder: Path,
        address: str = NOWHERE,
        *,
        keeper: type[SpoolKeeper] = SpoolKeeper,
        egress: Mapping[str, Any] | None = None,
        policy: Mapping[str, Any] | None = None,
        **spool: Any,
    ) -> None:
        self.settings = EdgeSettings.model_validate(
            {
                "escalator": {
                    "address": address,
                    "backoff_min_s": 0.01,
                    "backoff_max_s": 0.05,
                    "connect_timeout_s": 2.0,
                },
                "spool": {"folder": str(folder), "backlog_share": 0.5, **spool},
                "egress": dict(egress or {}),
                "policy": dict(policy or {}),
            }
        )
        clock = SystemClock()
        self.registry = CollectorRegistry()
        metrics = EdgeMetrics(self.registry, "cam")
        self.news: list[News] = []
        self.failures: list[BaseException] = []
        self.publishes = True
        self._came = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.keeper = keeper(self.settings.spool, Cipher(None), metrics, clock)
        self.lane = EscalationLane(self.settings, self, self.keeper, self._post, metrics, clock)
        self._uplink = GrpcUplink(
            self.settings.escalator, frozenset({Encoding.WEBP}), metrics, clock
        )

    def offer(self, candidate: Candidate) -> bool:
        """As the encoder: room for everything."""
        del candidate
        return True

    def _post(self, news: News) -> None:
        self.news.append(news)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._came.set)
        if isinstance(news, Ending) and self.publishes:
            self.lane.note_published(news)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """From start to the end of draining."""
        with self.keeper:
            self._loop = asyncio.get_running_loop()
            self.lane.start()
            self.keeper.start(SpoolNews(self.lane), {}, self.failures.append)
            task = asyncio.create_task(self._uplink.run(self.lane))
            try:
                yield
            finally:
                await self.lane.drain(0.0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def ask(self, *ids: str, expiry_s: float = 0.05, value: float = 0.24, size: int = 100) -> None:
        """Crops have been encoded."""
        for id_ in ids:
            asked = candidate(id_, expiry_s=expiry_s, value=value)
            self.lane.deliver(asked, escalation(id_, expiry_s=expiry_s, size=size))

    async def _next(self) -> None:
        self._came.clear()
        await self._came.wait()

    @property
    def endings(self) -> list[Ending]:
        """All so far."""
        return [news for news in self.news if isinstance(news, Ending)]

    @property
    def deferred(self) -> list[str]:
        """Ids of what was deferred so far."""
        return [news.escalation_id for news in self.news if isinstance(news, Deferred)]

    async def until(self, count: int) -> list[Ending]:
        """The endings, once there are so many."""
        async with asyncio.timeout(BOUND_S):
            while len(self.endings) < count:
                await self._next()
        return self.endings

    async def until_deferred(self, count: int) -> None:
        """Until so many have been deferred."""
        async with asyncio.timeout(BOUND_S):
            while len(self.deferred) < count:
                await self._next()


def outcomes(folder: Path) -> dict[str, str]:
    """Outcome by id, as the spool has it."""
    with SpoolDatabase.open(folder, Cipher(None), read_only=True) as database:
        return {entry.id: entry.outcome for entry in database.entries()}


async def test_without_a_link_escalations_wait_and_a_later_run_has_them_answered(
    tmp_path: Path,
) -> None:
    """Each ends once, in the run in which it is answered, with what had been asked."""
    ids = [f"a{number}" for number in range(5)]
    first = Node(tmp_path)
    async with first.running():
        first.ask(*ids)
        await first.until_deferred(len(ids))
    assert not first.endings
    assert outcomes(tmp_path) == dict.fromkeys(ids, "")
    async with ScriptedEscalator() as cloud:
        second = Node(tmp_path, cloud.address)
        async with second.running():
            endings = await second.until(len(ids))
        assert sorted(one.id for one in cloud.received) == ids
    assert {ending.outcome for ending in endings} == {EscalationOutcome.ANSWERED}
    assert all(ending.late is not None and ending.other_run for ending in endings)
    assert outcomes(tmp_path) == dict.fromkeys(ids, "answered")


async def test_link_that_returns_answers_fresh_ones_before_the_backlog(tmp_path: Path) -> None:
    """A live crop never waits behind yesterday's."""
    node = Node(tmp_path)
    async with node.running():
        node.ask(*(f"old{number}" for number in range(20)), size=3000, value=0.9)
        await node.until_deferred(20)
    async with ScriptedEscalator(delay_s=0.02) as cloud:
        again = Node(tmp_path, cloud.address)
        async with again.running():
            await again.until(2)
            again.ask("fresh", expiry_s=BOUND_S, value=0.01)
            known = len(cloud.received)
            await again.until(21)
        order = [one.id for one in cloud.received]
    assert order.index("fresh") <= known + 16_000 // 3000, "more than what was on its way"
    assert Counter(order) == Counter({*order})
    late = {ending.escalation_id: ending.late is not None for ending in again.endings}
    assert not late.pop("fresh")
    assert all(late.values())


async def test_what_is_kept_at_the_end_of_a_run_is_not_ended(tmp_path: Path) -> None:
    """Fresh ones too; their end comes in a later run."""
    node = Node(tmp_path)
    async with node.running():
        node.ask("a", "b", expiry_s=60.0)
        await asyncio.sleep(0.1)
    assert not node.endings
    assert sorted(node.deferred) == ["a", "b"]
    assert outcomes(tmp_path) == {"a": "", "b": ""}


async def test_answer_that_is_not_published_is_asked_for_again_by_the_next_run(
    tmp_path: Path,
) -> None:
    """The process dies between the verdict and its publication."""
    async with ScriptedEscalator() as cloud:
        first = Node(tmp_path, cloud.address)
        first.publishes = False
        async with first.running():
            first.ask("a", expiry_s=BOUND_S)
            await first.until(1)
            await asyncio.sleep(1.2)
            assert len(cloud.received) == 1, "in one run it is asked once"
        assert outcomes(tmp_path) == {"a": ""}
        second = Node(tmp_path, cloud.address)
        async with second.running():
            await second.until(1)
    assert outcomes(tmp_path) == {"a": "answered"}
    assert [one.id for one in cloud.received] == ["a", "a"]


async def test_share_of_nothing_and_closed_windows_hold_the_backlog(tmp_path: Path) -> None:
    """Fresh ones go all the same."""
    node = Node(tmp_path)
    async with node.running():
        node.ask("old")
        await node.until_deferred(1)
    async with ScriptedEscalator() as cloud:
        for spool in ({"backlog_share": 0.0}, {"windows": [_window_elsewhere()]}):
            again = Node(tmp_path, cloud.address, **spool)
            async with again.running():
                again.ask("fresh" + "".join(spool), expiry_s=BOUND_S)
                await again.until(1)
                await asyncio.sleep(0.3)
        assert "old" not in [one.id for one in cloud.received]
    assert outcomes(tmp_path)["old"] == ""


def _window_elsewhere() -> str:
    """An hour of the local day that is six hours away."""
    hour = (SystemClock().now_ns() // (3600 * 10**9) + 6) % 24  # the tests' machines keep UTC
    return f"{hour:02}:00-{hour:02}:59"


async def test_shed_and_expired_backlog_waits_for_its_pause(tmp_path: Path) -> None:
    """The server's retry-after is obeyed, and the escalation is not lost."""
    node = Node(tmp_path)
    async with node.running():
        node.ask("a")
        await node.until_deferred(1)
    replies: list[Outcome] = [Shed(0.5), Expired()]
    asked_at: list[int] = []

    def answer(asked: Escalation) -> Outcome:
        asked_at.append(SystemClock().now_ns())
        return replies.pop(0) if replies else confirm(asked)

    async with ScriptedEscalator(answer) as cloud:
        again = Node(tmp_path, cloud.address)
        async with again.running():
            await again.until(1)
    assert len(asked_at) == 3
    assert asked_at[1] - asked_at[0] >= 5e8
    assert outcomes(tmp_path) == {"a": "answered"}


async def test_one_that_breaks_every_stream_ends_and_spares_the_others(tmp_path: Path) -> None:
    """After so many attempts, and not as the reason why others are never sent."""
    ids = ["poison", *(f"a{number}" for number in range(6))]
    node = Node(tmp_path)
    async with node.running():
        node.ask(*ids)
        await node.until_deferred(len(ids))

    class Fragile(ScriptedEscalator):
        async def Escalate(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
            async for message in request_iterator:
                if message.id == "poison":
                    await context.abort_with_status(_Unavailable())
                async for verdict in super().Escalate(_one(message), context):
                    yield verdict

    async with Fragile() as cloud:
        again = Node(tmp_path, cloud.address)
        async with again.running():
            await again.until(len(ids))
    ends = {ending.escalation_id: (ending.outcome, ending.cause) for ending in again.endings}
    assert ends.pop("poison") == (EscalationOutcome.FAILED, Cause.UNDELIVERABLE)
    assert set(ends.values()) == {(EscalationOutcome.ANSWERED, Cause.NONE)}


class _Unavailable:
    """A status as gRPC wants it."""

    def __init__(self) -> None:
        self.code = grpc.StatusCode.UNAVAILABLE
        self.details = "the process died"
        self.trailing_metadata = ()


async def _one(message: Any) -> AsyncIterator[Any]:
    yield message


async def test_answer_to_one_that_was_deferred_is_used(tmp_path: Path) -> None:
    """It was on its way when its time was over; nobody asks a second time."""
    async with ScriptedEscalator(delay_s=0.4) as cloud:
        node = Node(tmp_path, cloud.address, backlog_share=0.0)
        async with node.running():
            node.ask("a", expiry_s=0.1)
            await node.until_deferred(1)
            [ending] = await node.until(1)
        assert [one.id for one in cloud.received] == ["a"]
    assert ending.outcome is EscalationOutcome.ANSWERED
    assert ending.late is not None
    assert not ending.other_run


async def test_what_the_spool_read_before_it_was_told_of_the_end_is_not_asked_again(
    tmp_path: Path,
) -> None:
    """A slow disk hands out one that has been answered, and published, in the meantime."""
    async with ScriptedEscalator() as cloud:
        node = Node(tmp_path, cloud.address)
        node.publishes = False
        async with node.running():
            node.ask("a", expiry_s=5.0)
            [ending] = await node.until(1)
            node.lane.hear_backlog([kept("a"), kept("b")])
            node.lane.note_published(ending)
            node.publishes = True
            await node.until(2)
        assert [one.id for one in cloud.received] == ["a", "b"]
    assert outcomes(tmp_path) == {"a": "answered"}


@pytest.mark.parametrize("settings", [{"write_queue_max": 1}])
async def test_what_the_disk_is_too_slow_for_ends_and_is_counted(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    """It is sent while it is fresh, and expires as it did without a spool."""
    node = Node(tmp_path, **settings)
    async with node.running():
        node.ask(*(f"a{number}" for number in range(200)), size=20_000)
        await asyncio.sleep(0)  # all are admitted
        busy = node.registry.get_sample_value("edge_spool_losses_total", {"reason": "busy"}) or 0
        await node.until_deferred(200 - int(busy))
        await node.until(int(busy))
    assert busy > 0
    assert {ending.outcome for ending in node.endings} <= {
        EscalationOutcome.EXPIRED,
        EscalationOutcome.EVICTED,
    }
    ended = {ending.escalation_id for ending in node.endings}
    assert ended.isdisjoint(node.deferred)
    assert len(ended) + len(set(node.deferred)) == 200
