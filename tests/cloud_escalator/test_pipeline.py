"""The pipeline under a driven clock, with a decoder and a model that do what the test says."""

from __future__ import annotations

import asyncio

from foundation.errors import RejectReason
from foundation.escalations import Answer, Rejection, Shed
from tests.cloud_escalator.client import escalation
from tests.cloud_escalator.conftest import Configure
from tests.cloud_escalator.pipeline_bench import AHEAD, BATCH_MAX, BATCH_S, Sink, running


async def test_batches_grow_while_the_model_is_busy(configure: Configure) -> None:
    """The first crop runs at once and alone; what arrives meanwhile runs together."""
    async with running(configure()) as bench:
        await bench.submit("a")
        await bench.submit("b", "c", "d")
        assert bench.model.batches == [1]
        await bench.finish()
        assert bench.model.batches == [1, 3]
        await bench.finish()
        assert [v.escalation_id for v in bench.sink.verdicts] == ["a", "b", "c", "d"]
        assert bench.outcomes() == {"answered": 4}
        assert bench.sink.awaited == 0


async def test_verdict_says_how_long_it_took(configure: Configure) -> None:
    """Queued counts from receipt to the start of the batch; inferring is the whole batch."""
    async with running(configure()) as bench:
        await bench.submit("a")
        await bench.submit("b")
        bench.clock.advance_s(0.25)
        await bench.finish()
        await bench.finish()
        second = bench.sink.verdicts[1]
        assert round(second.queued_s, 6) == 0.25
        assert second.inference_s == BATCH_S


async def test_work_that_expires_in_the_queue_is_not_executed(configure: Configure) -> None:
    """What expires while a batch runs is answered as expired and never reaches the model."""
    async with running(configure()) as bench:
        await bench.submit("a")
        await bench.submit(*(f"q{i}" for i in range(3 * BATCH_MAX)), remaining_s=0.9)
        bench.clock.advance_s(1.0)
        await bench.finish()
        assert bench.model.batches == [1]
        assert bench.outcomes() == {"answered": 1, "expired": 3 * BATCH_MAX}
        # Those decoded ahead of the model are found at the batch, the others in the queue.
        assert bench.count("escalator_expirations_total", stage="batch") == AHEAD
        assert bench.count("escalator_expirations_total", stage="queue") == 3 * BATCH_MAX - AHEAD
        assert bench.sink.kinds() == [*["Expired"] * 3 * BATCH_MAX, "Answer"]


async def test_decoding_stays_a_batch_ahead(configure: Configure) -> None:
    """Crops are decompressed no further ahead than keeps the model and the decoder busy."""
    async with running(configure()) as bench:
        await bench.submit(*(f"q{i}" for i in range(20)))
        assert len(bench.decoder.submitted) == BATCH_MAX + AHEAD  # one batch of them runs
        while len(bench.sink.verdicts) < 20:
            await bench.finish()
        assert bench.outcomes() == {"answered": 20}


async def test_full_queue_sheds_with_a_hint(configure: Configure) -> None:
    """Beyond the queue's length requests are turned away at once; those inside are answered."""
    limits = {"queue_requests_max": 8}
    async with running(configure(limits=limits)) as bench:
        await bench.submit(*(f"q{i}" for i in range(12)))
        shed = [v for v in bench.sink.verdicts if isinstance(v.outcome, Shed)]
        assert len(shed) == 12 - 8
        assert all(isinstance(v.outcome, Shed) and v.outcome.retry_after_s > 0 for v in shed)
        assert bench.count("escalator_sheds_total", reason="queue_full") == len(shed)
        while len(bench.sink.verdicts) < 12:
            await bench.finish()
        assert bench.outcomes() == {"answered": 8, "shed": 4}


async def test_request_that_cannot_make_it_is_shed(configure: Configure) -> None:
    """With a batch running and a full one waiting, 0.15 s is not enough."""
    async with running(configure()) as bench:
        await bench.submit("a", *(f"q{i}" for i in range(BATCH_MAX)))
        await bench.submit("hasty", remaining_s=0.15)
        assert bench.sink.kinds() == ["Shed"]
        assert bench.count("escalator_sheds_total", reason="deadline") == 1


async def test_failing_crop_costs_only_itself(configure: Configure) -> None:
    """A failed batch is run again crop by crop: one fails, the others are answered."""
    async with running(configure()) as bench:
        await bench.submit("first")
        await bench.submit("a", "poison", "c")
        await bench.finish()
        await bench.finish(failing=True)
        for failing in (False, True, False):
            await bench.finish(failing=failing)
        assert bench.model.batches == [1, 3, 1, 1, 1]
        failed = [v for v in bench.sink.verdicts if isinstance(v.outcome, Rejection)]
        assert [v.escalation_id for v in failed] == ["poison"]
        assert bench.outcomes() == {"answered": 3, "failed": 1}
        assert bench.count("escalator_inference_failures_total") == 2
        assert bench.count("escalator_rejects_total", reason="inference_failed") == 1


async def test_duplicate_of_a_pending_request_moves_its_verdict(configure: Configure) -> None:
    """A request sent again while it waits is executed once, and answered where it was sent last."""
    async with running(configure()) as bench:
        await bench.submit("a")
        newest = Sink()
        bench.pipeline.submit(escalation("a"), "device", 60.0, newest)
        await bench.finish()
        assert bench.model.batches == [1]
        assert bench.sink.verdicts == []
        assert newest.kinds() == ["Answer"]
        assert (bench.sink.awaited, newest.awaited) == (0, 0)
        assert bench.outcomes() == {"answered": 1, "duplicate": 1}


async def test_duplicate_of_an_answered_request_gets_the_same_verdict(
    configure: Configure,
) -> None:
    """The remembered verdict is sent again; a rejection is remembered too."""
    async with running(configure()) as bench:
        await bench.submit("a")
        await bench.finish()
        await bench.submit("bad", image=b"bad")
        await bench.submit("a", "bad")
        first, rejected, again, rejected_again = bench.sink.verdicts
        assert first is again
        assert rejected is rejected_again
        assert bench.model.batches == [1]
        assert bench.outcomes() == {"answered": 1, "rejected": 1, "duplicate": 2}


async def test_expired_duplicate_gets_no_answer(configure: Configure) -> None:
    """An answer that is remembered is of no use any more to who asks for it after the expiry."""
    async with running(configure()) as bench:
        await bench.submit("a")
        await bench.finish()
        for remaining_s in (0.0, -1.0):
            await bench.submit("a", remaining_s=remaining_s)
        assert bench.sink.kinds() == ["Answer", "Expired", "Expired"]
        assert bench.outcomes() == {"answered": 1, "expired": 2}
        assert bench.count("escalator_expirations_total", stage="admission") == 2


async def test_expired_duplicate_of_a_pending_request_moves_its_verdict(
    configure: Configure,
) -> None:
    """What is under way ends once, on the stream that asked last, however late that one asked."""
    async with running(configure()) as bench:
        await bench.submit("a")
        newest = Sink()
        bench.pipeline.submit(escalation("a"), "device", -1.0, newest)
        await bench.finish()
        assert (bench.sink.kinds(), newest.kinds()) == ([], ["Answer"])
        assert bench.outcomes() == {"answered": 1, "duplicate": 1}


async def test_expired_request_is_never_taken(configure: Configure) -> None:
    """A request without time left is expired even when the escalator is idle or draining."""
    async with running(configure()) as bench:
        await bench.submit("idle", remaining_s=0.0)
        await bench.pipeline.drain(0.0)
        await bench.submit("draining", remaining_s=-1.0)
        assert bench.sink.kinds() == ["Expired", "Expired"]
        assert bench.decoder.submitted == []


async def test_same_id_of_another_camera_is_another_request(configure: Configure) -> None:
    """What makes a request the same is site, camera and id together."""
    async with running(configure()) as bench:
        bench.pipeline.submit(escalation("a", camera="left"), "device", 60.0, bench.sink)
        bench.pipeline.submit(escalation("a", camera="right"), "device", 60.0, bench.sink)
        await bench.settle()
        while len(bench.sink.verdicts) < 2:
            await bench.finish()
        assert bench.outcomes() == {"answered": 2}


async def test_shed_request_may_come_back(configure: Configure) -> None:
    """A shed is not remembered: the same id is taken once there is room."""
    async with running(configure()) as bench:
        await bench.submit("a", *(f"q{i}" for i in range(BATCH_MAX)))
        await bench.submit("hasty", remaining_s=0.15)
        await bench.finish()
        await bench.finish()
        await bench.submit("hasty", remaining_s=0.15)
        await bench.finish()
        assert bench.sink.kinds() == ["Shed", *["Answer"] * 6]


async def test_verdict_of_a_dead_stream_is_kept_for_its_return(configure: Configure) -> None:
    """Work goes on when its stream has ended; the client that asks again gets the verdict."""
    async with running(configure()) as bench:
        await bench.submit("a")
        bench.sink.ended = True
        await bench.finish()
        assert bench.count("escalator_undelivered_total") == 1
        returned = Sink()
        bench.pipeline.submit(escalation("a"), "device", 60.0, returned)
        assert returned.kinds() == ["Answer"]


async def test_drain_finishes_what_is_under_way(configure: Configure) -> None:
    """While draining, new requests are shed and old ones answered."""
    async with running(configure()) as bench:
        await bench.submit("a")
        await bench.submit("b")
        draining = asyncio.create_task(bench.pipeline.drain(30.0))
        await bench.settle()
        await bench.submit("late")
        await bench.finish()
        await bench.finish()
        await draining
        assert [v.escalation_id for v in bench.sink.verdicts] == ["late", "a", "b"]
        assert bench.sink.kinds() == ["Shed", "Answer", "Answer"]
        assert bench.count("escalator_sheds_total", reason="draining") == 1


async def test_drain_sheds_what_does_not_finish(configure: Configure) -> None:
    """When the time for draining is over, everything left is shed and nothing is lost."""
    async with running(configure()) as bench:
        await bench.submit(*(f"q{i}" for i in range(10)))
        await bench.pipeline.drain(0.0)
        assert bench.sink.kinds() == ["Shed"] * 10
        await bench.finish()  # the running batch ends with nobody waiting for it
        assert bench.outcomes() == {"shed": 10}


async def test_batch_that_fails_after_the_drain_is_not_run_again(configure: Configure) -> None:
    """What was shed at the end of the drain has ended, whatever its batch comes to."""
    async with running(configure()) as bench:
        await bench.submit("a", "b", remaining_s=1.0)
        await bench.pipeline.drain(0.0)
        bench.clock.advance_s(2.0)
        await bench.finish(failing=True)
        assert bench.model.batches == [2]
        assert bench.outcomes() == {"shed": 2}


async def test_encoding_that_is_switched_off_is_rejected(configure: Configure) -> None:
    """An encoding outside the settings is refused before it is decompressed."""
    async with running(configure(limits={"encodings": ["webp"]})) as bench:
        await bench.submit("a")
        outcome = bench.sink.verdicts[0].outcome
        assert isinstance(outcome, Rejection)
        assert outcome.reason is RejectReason.UNSUPPORTED_ENCODING
        assert bench.decoder.submitted == []


async def test_idle_model_waits_when_told_to(configure: Configure) -> None:
    """With idle_wait_s a lonely crop waits for company and runs with it."""
    settings = configure(batch={"idle_wait_s": 1.0})
    async with running(settings) as bench:
        await bench.submit("a")
        assert bench.model.batches == []
        bench.clock.advance_s(1.1)
        await bench.submit("b")
        assert bench.model.batches == [2]
        await bench.finish()
        assert isinstance(bench.sink.verdicts[0].outcome, Answer)
