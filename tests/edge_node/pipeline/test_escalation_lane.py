"""Escalations from candidate to ending, with an encoder and an uplink that do as they are told."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from edge_node.config import EdgeSettings, EscalatorSettings, PolicySettings, SpoolSettings
from edge_node.metrics import EdgeMetrics
from edge_node.pipeline.escalation_lane import EscalationLane
from edge_node.values import Candidate, Cause, Effect, Encoded, Ending, EscalationOutcome, News
from foundation.clock import SystemClock
from foundation.errors import RejectReason
from foundation.escalations import Answer, Expired, LabelledBoxes, Outcome, Rejection, Shed, Verdict
from tests.edge_node.escalations import candidate, escalation

BOUND_S = 5.0


class StepEncoder:
    """Has room for so many candidates."""

    def __init__(self, room: int = 100) -> None:
        self.room = room

    def offer(self, candidate: Candidate) -> bool:
        """Takes it while there is room."""
        del candidate
        self.room -= 1
        return self.room >= 0


class Bench:
    """An escalation lane on the test's loop."""

    def __init__(
        self,
        *,
        room: int = 100,
        escalations_max: int = 16,
        withholds: bool = False,
        policy: Mapping[str, float] | None = None,
    ) -> None:
        self.news: list[News] = []
        self._came = asyncio.Event()
        self.registry = CollectorRegistry()
        self.metrics = EdgeMetrics(self.registry, "cam")
        self.lane = EscalationLane(
            EdgeSettings(
                escalator=EscalatorSettings(address="127.0.0.1:1", in_flight_max=2),
                spool=SpoolSettings(fresh_max=escalations_max),
                policy=PolicySettings.model_validate(
                    {"rollout": "shadow" if withholds else "enforce", **(policy or {})}
                ),
            ),
            StepEncoder(room),
            None,
            self._post,
            self.metrics,
            SystemClock(),
        )
        self.lane.start()

    def _post(self, news: News) -> None:
        self.news.append(news)
        self._came.set()

    async def admit(self, id_: str, *, expiry_s: float = 5.0, value: float = 0.2) -> None:
        """Offers a candidate, whose crop the encoder delivers at once."""
        offered = candidate(id_, expiry_s=expiry_s, value=value)
        self.lane.offer(offered)
        self.lane.deliver(offered, escalation(id_, expiry_s=expiry_s))
        await asyncio.sleep(0)

    def deliver(self, id_: str, image_bytes_max: float) -> None:
        """The encoder delivers a crop of 100 bytes, of which so many are worth sending."""
        offered = replace(candidate(id_), image_bytes_max=image_bytes_max)
        self.lane.offer(offered)
        self.lane.deliver(offered, escalation(id_))

    async def send(self) -> str:
        """The uplink takes the next one."""
        return (await asyncio.wait_for(self.lane.next_escalation(), BOUND_S)).id

    def reply(self, id_: str, outcome: Outcome) -> None:
        """A verdict comes."""
        self.lane.receive(Verdict(id_, outcome, "digest"))

    async def ending(self, number: int = 0) -> Ending:
        """The ending with this number, once it is there."""
        async with asyncio.timeout(BOUND_S):
            while len(self.endings) <= number:
                self._came.clear()
                await self._came.wait()
        return self.endings[number]

    @property
    def endings(self) -> list[Ending]:
        """All endings so far."""
        return [news for news in self.news if isinstance(news, Ending)]

    def counted(self, outcome: str) -> float:
        """edge_escalations_total of this outcome."""
        labels = {"camera": "cam", "reason": "uncertain", "outcome": outcome}
        return self.registry.get_sample_value("edge_escalations_total", labels) or 0.0


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A lane with room."""
    yielded = Bench()
    yield yielded
    await yielded.lane.drain(0.0)


async def test_answer_ends_an_escalation_once(bench: Bench) -> None:
    """A second verdict with the same id changes nothing."""
    await bench.admit("a")
    assert await bench.send() == "a"
    bench.reply("a", Answer(LabelledBoxes.empty()))
    bench.reply("a", Answer(LabelledBoxes.empty()))
    assert [ending.outcome for ending in bench.endings] == [EscalationOutcome.ANSWERED]
    assert bench.counted("answered") == 1
    ignored = bench.registry.get_sample_value("edge_verdicts_ignored_total", {"reason": "ended"})
    assert ignored == 1
    assert [n.size_bytes for n in bench.news if isinstance(n, Encoded)] == [100]


async def test_answer_is_judged_where_it_arrives(bench: Bench) -> None:
    """The frame lane gets what it says about the tracks, and has no boxes to compare."""
    await bench.admit("a")
    assert await bench.send() == "a"
    bench.reply("a", Answer(LabelledBoxes.empty()))
    (ending,) = bench.endings
    assert ending.judged is not None
    assert [(one.effect, one.subject) for one in ending.judged.findings] == [(Effect.REFUTED, 0)]


async def test_escalation_expires_while_it_waits(bench: Bench) -> None:
    """Nobody takes it: the link is down."""
    await bench.admit("a", expiry_s=0.02)
    assert (await bench.ending()).outcome is EscalationOutcome.EXPIRED


async def test_escalation_expires_in_flight_and_makes_room(bench: Bench) -> None:
    """An escalator that never answers does not block the stream."""
    for id_ in ("a", "b"):
        await bench.admit(id_, expiry_s=0.05)
        await bench.send()
    await bench.admit("c")
    assert await bench.send() == "c"
    assert {ending.escalation_id for ending in bench.endings} <= {"a", "b"}
    bench.reply("a", Answer(LabelledBoxes.empty()))
    assert bench.counted("answered") == 0, "a late verdict is ignored"


async def test_in_flight_is_bounded(bench: Bench) -> None:
    """The third waits until one of two has ended."""
    for id_ in ("a", "b", "c"):
        await bench.admit(id_)
    await bench.send()
    await bench.send()
    third = asyncio.create_task(bench.send())
    await asyncio.sleep(0.01)
    assert not third.done()
    bench.reply("a", Answer(LabelledBoxes.empty()))
    assert await third == "c"


async def test_shed_with_time_left_is_sent_again(bench: Bench) -> None:
    """After the pause that the escalator asked for; only its end is counted."""
    await bench.admit("a")
    await bench.send()
    bench.reply("a", Shed(0.01))
    assert await bench.send() == "a"
    bench.reply("a", Answer(LabelledBoxes.empty()))
    assert (await bench.ending()).outcome is EscalationOutcome.ANSWERED
    assert bench.counted("shed") == 0


async def test_shed_without_time_left_ends(bench: Bench) -> None:
    """The pause is longer than the verdict would be of use."""
    await bench.admit("a", expiry_s=1.0)
    await bench.send()
    bench.reply("a", Shed(2.0))
    assert (await bench.ending()).outcome is EscalationOutcome.SHED


async def test_crop_that_could_not_be_compressed_ends_as_failed(bench: Bench) -> None:
    """Once, with its cause, and nothing is sent."""
    bench.lane.deliver(candidate("a"), None)
    ending = await bench.ending()
    assert (ending.escalation_id, ending.outcome) == ("a", EscalationOutcome.FAILED)
    assert ending.cause is Cause.UNENCODABLE


async def test_rejection_and_expiry_by_the_cloud_end(bench: Bench) -> None:
    """Each with its own outcome and cause."""
    for id_ in ("a", "b"):
        await bench.admit(id_)
        await bench.send()
    bench.reply("a", Rejection(RejectReason.TOO_LARGE, "no"))
    bench.reply("b", Expired())
    assert [(e.outcome, e.cause) for e in bench.endings] == [
        (EscalationOutcome.FAILED, Cause.TOO_LARGE),
        (EscalationOutcome.EXPIRED, Cause.NONE),
    ]


async def test_broken_stream_sends_again_what_was_in_flight(bench: Bench) -> None:
    """With the same id."""
    await bench.admit("a")
    bench.lane.set_connected(True)
    await bench.send()
    bench.lane.set_connected(False)
    assert await bench.send() == "a"


async def test_full_encoder_and_full_spool_evict() -> None:
    """Each with its cause, and each counted."""
    bench = Bench(room=3, escalations_max=2)
    for number in range(3):
        await bench.admit(str(number), value=0.1 * number)
    bench.lane.offer(candidate("late"))
    causes = {ending.escalation_id: ending.cause for ending in bench.endings}
    assert causes == {"0": Cause.SPOOL_FULL, "late": Cause.ENCODE_QUEUE_FULL}
    assert bench.counted("evicted") == 2
    await bench.lane.drain(0.0)


async def test_drain_waits_for_verdicts_on_the_way(bench: Bench) -> None:
    """While the link is up."""
    bench.lane.set_connected(True)
    await bench.admit("a")
    await bench.send()
    draining = asyncio.create_task(bench.lane.drain(BOUND_S))
    await asyncio.sleep(0.01)
    bench.reply("a", Answer(LabelledBoxes.empty()))
    await draining
    assert [e.outcome for e in bench.endings] == [EscalationOutcome.ANSWERED]


async def test_drain_ends_what_is_left_as_failed(bench: Bench) -> None:
    """With the cause that the node shuts down, and at once where there is no link."""
    await bench.admit("a")
    await bench.admit("b")
    await bench.send()
    await bench.lane.drain(BOUND_S)
    assert {(e.outcome, e.cause) for e in bench.endings} == {
        (EscalationOutcome.FAILED, Cause.SHUTDOWN)
    }
    assert len(bench.endings) == 2


@pytest.mark.parametrize("withholds", [False, True])
async def test_crop_that_turned_out_larger_than_it_is_worth_is_not_sent(*, withholds: bool) -> None:
    """The frame lane hears that before the ending; the next one is sent, or withheld."""
    bench = Bench(withholds=withholds)
    bench.deliver("large", 99.0)
    bench.deliver("as worth", 100.0)
    await asyncio.sleep(0)
    assert [(n.escalation_id, n.forgone) for n in bench.news if isinstance(n, Encoded)] == [
        ("large", True),
        ("as worth", False),
    ]
    assert isinstance(bench.news[0], Encoded)
    assert (bench.endings[0].outcome, bench.endings[0].cause) == ("forgone", "")
    assert (bench.counted("forgone"), bench.counted("withheld")) == (1, withholds)
    if not withholds:
        assert await bench.send() == "as worth"
    await bench.lane.drain(0.0)


async def test_shadow_encodes_counts_and_sends_nothing() -> None:
    """The size is known, the ending is its own, and the uplink has nothing to take."""
    bench = Bench(withholds=True, room=2)
    bench.lane.set_connected(True)
    for id_ in ("a", "b"):
        await bench.admit(id_)
    bench.lane.offer(candidate("late"))
    sending = asyncio.create_task(bench.send())
    await asyncio.sleep(0.01)
    assert not sending.done()
    sending.cancel()
    assert [n.size_bytes for n in bench.news if isinstance(n, Encoded)] == [100, 100]
    assert [ending.outcome for ending in bench.endings] == [
        EscalationOutcome.WITHHELD,
        EscalationOutcome.WITHHELD,
        EscalationOutcome.EVICTED,
    ]
    assert (bench.counted("withheld"), bench.counted("evicted")) == (2, 1)
    assert bench.registry.get_sample_value("edge_uplink_bytes_total") == 0
    await bench.lane.drain(0.0)
    assert len(bench.endings) == 3


async def test_every_escalation_ends_exactly_once() -> None:
    """A crowd of them, through every way of ending."""
    bench = Bench(room=30, escalations_max=8)
    replies: list[Outcome] = [Answer(LabelledBoxes.empty()), Shed(0.001), Shed(100.0), Expired()]
    for number in range(40):
        offered = candidate(str(number), expiry_s=0.3)
        before = len(bench.endings)
        bench.lane.offer(offered)
        if len(bench.endings) == before:
            bench.lane.deliver(offered, escalation(str(number), expiry_s=0.3))
        await asyncio.sleep(0)
        if number % 3 == 0:
            bench.reply(await bench.send(), replies[number % len(replies)])
        if number % 10 == 9:
            bench.lane.set_connected(False)
    await bench.lane.drain(0.0)
    ends = collections.Counter(ending.escalation_id for ending in bench.endings)
    assert ends == {str(number): 1 for number in range(40)}
    total = sum(bench.counted(outcome.value) for outcome in EscalationOutcome)
    assert total == 40
