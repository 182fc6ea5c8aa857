"""What the pipeline expects of the model and the decoder, and what becomes of a wrong guess."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from foundation.escalations import Shed
from tests.cloud_escalator.conftest import Configure
from tests.cloud_escalator.pipeline_bench import AHEAD, BATCH_MAX, BATCH_S, running

SHAPES = [
    pytest.param(lambda size: BATCH_S * size, id="cpu"),
    pytest.param(lambda size: BATCH_S + 0.01 * size, id="gpu"),
]


@pytest.mark.parametrize("batch_s", SHAPES)
async def test_one_slow_batch_cuts_capacity_for_no_more_than_a_minute(
    configure: Configure, batch_s: Callable[[int], float]
) -> None:
    """A full batch took longer than any request has: a minute later it is as if it had not."""

    async def overload(slow_s: float) -> list[int]:
        async with running(configure(), batch_s) as bench:
            await bench.submit("first")
            for i in range(60):
                if i == 30:
                    bench.clock.advance_s(61.0)
                await bench.submit(*(f"{i}_{n}" for n in range(8)), remaining_s=1.0)
                slow = i == 1
                bench.clock.advance_s(slow_s if slow else batch_s(bench.model.batches[-1]))
                await bench.finish()
            assert bench.model.batches[:2] == [1, BATCH_MAX]  # the second is the slow one
            return bench.model.batches[-20:]

    after_slow = await overload(5.0)
    assert sum(after_slow) >= sum(await overload(batch_s(BATCH_MAX)))
    assert after_slow.count(BATCH_MAX) > len(after_slow) / 2


async def test_what_waits_for_the_decoder_is_shed_early(configure: Configure) -> None:
    """Behind crops that take two seconds to decode, one second is not enough, model idle or not."""
    async with running(configure()) as bench:
        bench.decoder.seconds = 2.0
        await bench.submit("large", device="large")
        await bench.finish()
        bench.decoder.holding = True
        await bench.submit("large0", "large1", device="large")
        await bench.submit("small", remaining_s=1.0, device="small")
        await bench.submit("patient", remaining_s=10.0, device="small")
        assert [v.escalation_id for v in bench.sink.verdicts] == ["large", "small"]
        shed = bench.sink.verdicts[1].outcome
        assert isinstance(shed, Shed)
        assert shed.retry_after_s == pytest.approx(4.0)
        assert bench.count("escalator_sheds_total", reason="deadline") == 1
        bench.decoder.release()
        await bench.settle()
        await bench.finish()
        assert bench.outcomes() == {"answered": 4, "shed": 1}


async def test_idle_escalator_tries_however_slow_the_decoder_was(configure: Configure) -> None:
    """Nothing is ahead: the request is taken, and shows what decoding takes now."""
    async with running(configure()) as bench:
        bench.decoder.seconds = 60.0
        for name in ("first", "second"):
            await bench.submit(name, remaining_s=1.0)
            await bench.finish()
        assert bench.outcomes() == {"answered": 2}


async def test_slow_decoder_sheds_what_became_late_in_the_queue(configure: Configure) -> None:
    """What was taken before the decoder turned out to be slow is told while it can ask again."""
    async with running(configure()) as bench:
        bench.decoder.holding = True
        bench.decoder.seconds = 1.0
        await bench.submit(*(f"q{i}" for i in range(2 * BATCH_MAX + 4)), remaining_s=3.0)
        assert bench.outcomes() == {}
        bench.decoder.release()
        await bench.settle()
        shed = {v.escalation_id for v in bench.sink.verdicts if isinstance(v.outcome, Shed)}
        assert shed == {f"q{i}" for i in range(BATCH_MAX + AHEAD, 2 * BATCH_MAX + 4)}
