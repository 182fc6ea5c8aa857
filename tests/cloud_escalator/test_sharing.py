"""Who is served and who is given up when there is more to do than time."""

from __future__ import annotations

from foundation.escalations import Answer, Shed
from tests.cloud_escalator.conftest import Configure
from tests.cloud_escalator.pipeline_bench import AHEAD, BATCH_MAX, BATCH_S, running


async def test_devices_share_the_model(configure: Configure) -> None:
    """A device with forty requests does not come before one with two that asks later."""
    async with running(configure()) as bench:
        await bench.submit(*(f"noisy{i}" for i in range(40)), device="noisy")
        await bench.submit("polite0", "polite1", device="polite")
        for _ in range(4):
            await bench.finish()
        answered = [v.escalation_id for v in bench.sink.verdicts]
        assert {"polite0", "polite1"} <= set(answered)
        assert len(answered) == 4 * BATCH_MAX


async def test_the_most_valuable_of_a_device_comes_first(configure: Configure) -> None:
    """What waits is overtaken by what is worth more; what is being decoded is not."""
    async with running(configure()) as bench:
        await bench.submit(*(f"cheap{i}" for i in range(20)), value=0.1)
        await bench.submit("dear", value=0.9)
        for _ in range(3):
            await bench.finish()
        answered = [v.escalation_id for v in bench.sink.verdicts]
        assert answered.index("dear") == BATCH_MAX + AHEAD


async def test_full_queue_gives_up_the_noisy_device(configure: Configure) -> None:
    """A newcomer takes the place of the least valuable request of who holds most."""
    async with running(configure(limits={"queue_requests_max": 12})) as bench:
        for numbers in (range(12), range(12, 16)):
            await bench.submit(*(f"noisy{i}" for i in numbers), device="noisy", value=0.5)
        assert bench.outcomes() == {}
        await bench.submit("worthless", device="noisy", value=0.1)
        await bench.submit("polite", device="polite", value=0.1)
        assert [v.escalation_id for v in bench.sink.verdicts] == ["worthless", "noisy15"]
        assert bench.sink.kinds() == ["Shed", "Shed"]
        while bench.outcomes().get("answered", 0) < 16:
            await bench.finish()
        assert bench.outcomes() == {"answered": 16, "shed": 2}
        assert bench.sink.awaited == 0


async def test_what_became_late_is_shed_while_it_can_ask_again(configure: Configure) -> None:
    """Overtaken by others it would expire: it is told so before, and when to come back."""
    async with running(configure()) as bench:
        await bench.submit(*(f"first{i}" for i in range(BATCH_MAX + AHEAD)), device="noisy")
        await bench.submit(*(f"late{i}" for i in range(4)), device="noisy", remaining_s=0.45)
        await bench.submit(*(f"dear{i}" for i in range(8)), device="noisy", value=1.0)
        bench.clock.advance_s(BATCH_S)
        await bench.finish()
        shed = [v for v in bench.sink.verdicts if isinstance(v.outcome, Shed)]
        assert {v.escalation_id for v in shed} >= {"late2", "late3"}
        assert all(isinstance(v.outcome, Shed) and v.outcome.retry_after_s >= 0.1 for v in shed)
        assert bench.count("escalator_sheds_total", reason="deadline") == len(shed)
        while len(bench.sink.verdicts) < BATCH_MAX + AHEAD + 12:
            bench.clock.advance_s(BATCH_S)
            await bench.finish()
        assert "expired" not in bench.outcomes()


async def test_answer_that_comes_too_late_is_none(configure: Configure) -> None:
    """A batch that took longer than predicted ends as expired, and is counted so."""
    async with running(configure()) as bench:
        await bench.submit("a", remaining_s=1.0)
        bench.clock.advance_s(1.0)
        await bench.finish()
        assert bench.sink.kinds() == ["Expired"]
        assert bench.count("escalator_expirations_total", stage="answer") == 1


async def test_standing_backlog_is_held_short(configure: Configure) -> None:
    """A burst may wait as long as its expiry; what has waited without a break may not."""
    async with running(configure()) as bench:
        await bench.submit(*(f"burst{i}" for i in range(100)), device="noisy")
        assert bench.outcomes() == {}
        for _ in range(11):
            bench.clock.advance_s(BATCH_S)
            await bench.finish()
        shed = bench.count("escalator_sheds_total", reason="backlog")
        answered = 11 * BATCH_MAX
        assert 0 < shed == 100 - answered - bench.count("escalator_queue_requests") - BATCH_MAX
        await bench.submit(*(f"more{i}" for i in range(100)), device="noisy")
        assert bench.count("escalator_queue_requests") <= 10 * BATCH_MAX
        await bench.submit("polite", device="polite")
        for _ in range(4):
            bench.clock.advance_s(BATCH_S)
            await bench.finish()
        answers = [v.escalation_id for v in bench.sink.verdicts if isinstance(v.outcome, Answer)]
        assert "polite" in answers
