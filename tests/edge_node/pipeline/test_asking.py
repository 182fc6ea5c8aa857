"""What a camera asks, what it counts, and that it asks once."""

from __future__ import annotations

import numpy as np
import pytest

from edge_node.config import PolicySettings
from edge_node.values import Cause, EscalationOutcome, Repeated
from foundation.escalations import Encoding, LabelledBoxes
from foundation.gains import FRAMING_BYTES, PROPOSAL_BYTES, LevelCosts, variance_gains
from tests.edge_node.logic.policies import Diary, HeldLock, ledger_of, risk_aim
from tests.edge_node.pipeline.bench import FRAME_S, HEIGHT, NOISE, WIDTH, AskingBench, seen

NOTHING = seen()
DOUBTFUL = seen((300, 200, 0.45))
SURE = seen((300, 200, 0.95))


def test_question_carries_the_present_frame_and_expires_after_its_capture() -> None:
    """What is asked of the present frame."""
    bench = AskingBench()
    bench.frames(10, DOUBTFUL)
    (candidate,) = bench.offered
    question = candidate.question
    assert question.sequence < bench.sequence
    assert question.expires_at_ns - question.captured_at_ns == 5_000_000_000
    assert candidate.pixels.shape == (question.region.height, question.region.width, 3)
    assert candidate.proposals.labels == ("blue",)
    assert bench.count("edge_policy_asks_total", reason="uncertain") == 1


def test_held_moment_is_asked_about_as_it_was_and_has_its_whole_time() -> None:
    """The best frame was long ago; the verdict is waited for from now on."""
    missed = {"background": False}
    bench = AskingBench({"min_track_frames": 400, "expiry_s": 2.0, "missed": missed})
    bench.frames(200, DOUBTFUL)
    flat = np.full_like(NOISE, 100)
    bench.frames(201, DOUBTFUL, flat)
    (candidate,) = bench.offered
    question = candidate.question
    assert question.reason == "leaving"
    assert bench.sequence - question.sequence > 200
    age_s = (bench.clock.now_ns() - question.captured_at_ns) / 1e9
    assert age_s > 2.0
    left_s = (question.expires_at_ns - bench.clock.now_ns()) / 1e9
    assert left_s == pytest.approx(2.0, abs=0.1)
    region = question.region
    assert (candidate.pixels == NOISE[region.y1 : region.y2, region.x1 : region.x2]).all()
    assert question.subjects[0].asked
    assert question.subjects[0].box == pytest.approx([300, 200, 320, 220], abs=0.5)


def test_forecast_counts_what_is_sent_and_realized_what_is_answered() -> None:
    """Gain and bytes: before, as encoded, and what the answer changed."""
    bench = AskingBench()
    bench.frames(10, DOUBTFUL)
    (candidate,) = bench.offered
    assert bench.count("edge_policy_forecast_gain_total") == 0  # perhaps it will be forgone
    bench.encode(candidate, 900)
    assert bench.count("edge_policy_forecast_gain_total") == pytest.approx(0.45 * 0.55, abs=0.01)
    assert bench.count("edge_policy_forecast_bytes_total") > 500
    assert bench.count("edge_escalation_bytes_total") == 900 + FRAMING_BYTES + PROPOSAL_BYTES
    assert bench.count("edge_policy_realized_gain_total") == 0
    bench.end(candidate)  # the cloud sees nothing there: 0.45 was published for what counts 0
    assert bench.count("edge_policy_realized_gain_total") == pytest.approx(0.45**2, abs=0.01)


def test_chores_keep_out_of_frames_that_are_looked_at_closely() -> None:
    """Every fourth frame; prices are drawn anew in the others."""
    diaries: list[Diary] = []

    def keep(values: PolicySettings) -> Diary:
        diaries.append(Diary(values))
        return diaries[-1]

    bench = AskingBench(aim=keep)
    begun_ns = bench.clock.now_ns()
    bench.frames(100, SURE)
    (diary,) = diaries
    frames = [round((at_ns - begun_ns) / (FRAME_S * 1e9)) for at_ns in diary.refreshed_at_ns]
    assert len(frames) > 15
    assert [frame for frame in frames if frame % 4 == 0] == []


def test_promised_risk_asks_where_the_gain_model_expects_harm() -> None:
    """Which is no gain that could be counted."""
    harm = variance_gains([LevelCosts(level="webp80")])
    harm = harm.model_copy(update={"gains": (((-0.1,) * len(harm.score_knots),),)})
    bench = AskingBench(gains=harm, aim=risk_aim(0.01))
    bench.frames(10, SURE)
    assert [c.question.gain < 0 for c in bench.offered] == [True]
    assert bench.count("edge_policy_forecast_gain_total") == 0


def test_predicted_sizes_follow_those_that_came() -> None:
    """A camera whose crops take a tenth of what was predicted."""
    bench = AskingBench({"cooldown_s": 0.0})
    predicted = []
    for _ in range(80):
        before, bytes_before = len(bench.offered), bench.count("edge_policy_forecast_bytes_total")
        while len(bench.offered) == before:
            bench.frame(DOUBTFUL)
        bench.encode(bench.offered[-1], 500)
        predicted.append(bench.count("edge_policy_forecast_bytes_total") - bytes_before)
        bench.end(bench.offered[-1], EscalationOutcome.EXPIRED)
    true = 500 + FRAMING_BYTES + PROPOSAL_BYTES
    assert predicted[0] > 2 * true
    assert predicted[-1] == pytest.approx(true, rel=0.1)


@pytest.mark.parametrize("outcome", [EscalationOutcome.EVICTED, EscalationOutcome.FAILED])
def test_what_ends_before_it_is_encoded_is_paid_back(outcome: EscalationOutcome) -> None:
    """And what ends after it is encoded is not."""
    bench = AskingBench({"requests_per_s": 1e-6, "requests_burst": 1.0, "cooldown_s": 0.0})
    bench.frames(6, DOUBTFUL)
    bench.end(bench.offered[0], outcome, cause=Cause.ENCODE_QUEUE_FULL)
    bench.frames(3, DOUBTFUL)
    assert len(bench.offered) == 2
    bench.encode(bench.offered[1])
    bench.end(bench.offered[1], outcome, cause=Cause.SPOOL_FULL)
    bench.frames(10, DOUBTFUL)
    assert len(bench.offered) == 2
    assert bench.count("edge_suppressions_total", reason="budget_requests") == 1


def test_what_is_sent_again_is_paid_from_what_comes_in() -> None:
    """Nothing is asked until the budget has made good for it."""
    bench = AskingBench({"uplink_bytes_per_s": 1000.0, "cooldown_s": 0.0})
    bench.asking.hear_repeated(Repeated(256_000 + 1000))
    bench.frames(10, DOUBTFUL)
    assert not bench.offered
    bench.frames(round(10.0 / FRAME_S), DOUBTFUL)
    assert bench.offered


def test_level_that_the_escalator_does_not_decode_is_not_used_from_then_on() -> None:
    """And is again when another escalator decodes it."""
    levels = [LevelCosts(level="avif30", log_bytes=-6.0), LevelCosts(level="webp80")]
    bench = AskingBench({"cooldown_s": 0.0}, gains=variance_gains(levels))
    used = []
    for decoded in ((), (Encoding.WEBP,), (Encoding.WEBP, Encoding.AVIF)):
        if decoded:
            bench.accept(*decoded)
        before = len(bench.offered)
        while len(bench.offered) == before:
            bench.frame(DOUBTFUL)
        used.append(str(bench.offered[-1].level))
        bench.end(bench.offered[-1], EscalationOutcome.EXPIRED)
    assert used == ["avif30", "webp80", "avif30"]


def test_shadow_asks_once_counts_and_changes_nothing() -> None:
    """Long after the cooldown, too; the track is as the edge alone leaves it."""
    bench = AskingBench({"rollout": "shadow", "cooldown_s": 0.1})
    for _ in range(400):
        bench.frame(DOUBTFUL)
        for candidate in bench.offered[-1:]:
            bench.encode(candidate)
            bench.end(candidate, EscalationOutcome.WITHHELD)
    assert len(bench.offered) == 1
    assert bench.count("edge_policy_asks_total", reason="uncertain") == 1
    assert bench.count("edge_escalation_bytes_total") > 900
    assert bench.count("edge_policy_realized_gain_total") == 0
    bench.end_all()
    assert bench.records[-1]["cloud"] is None
    assert bench.records[-1]["escalation"]["outcome"] == "withheld"


@pytest.mark.parametrize(
    ("other", "after_frames", "asked"),
    [
        ((340, 240, 0.45), 4, 1),
        ((340, 240, 0.45), 40, 2),
        ((398, 240, 0.45), 4, 2),  # cut by the crop
        ((20, 20, 0.45), 4, 2),
    ],
)
def test_shadow_asks_about_nothing_that_an_answer_would_have_added(
    other: tuple[float, float, float], after_frames: int, asked: int
) -> None:
    """What begins within the withheld crop soon after it was there; what begins later came."""
    bench = AskingBench({"rollout": "shadow"})
    while not bench.offered:
        bench.frame(DOUBTFUL)
    bench.end(bench.offered[0], EscalationOutcome.WITHHELD)
    bench.frames(after_frames, DOUBTFUL)
    for _ in range(100):
        bench.frame(seen((300, 200, 0.45), other))
        for candidate in bench.offered[1:]:
            bench.end(candidate, EscalationOutcome.WITHHELD)
    assert len(bench.offered) == asked


def test_what_may_not_leave_tells_nothing_of_what_begins_beside_it() -> None:
    """The other object's own crop may be one that may leave."""
    bench = AskingBench()
    while not bench.offered:
        bench.frame(DOUBTFUL)
    withheld = EscalationOutcome.WITHHELD
    bench.end(bench.offered[0], withheld, cause=Cause.EGRESS)
    bench.frames(4, DOUBTFUL)
    bench.frames(100, seen((300, 200, 0.45), (340, 240, 0.45)))
    assert len(bench.offered) == 2


def test_shadow_withholds_a_crop_about_no_track() -> None:
    """A gap's."""
    bench = AskingBench({"rollout": "shadow"})
    bench.frames(30, seen((300, 200, 0.95)))
    bench.frames(6, seen())
    (candidate,) = bench.offered
    bench.end(candidate, EscalationOutcome.WITHHELD)
    bench.frames(6, seen())
    assert len(bench.offered) == 1


def test_off_asks_nothing_and_says_so() -> None:
    """As without an escalator."""
    bench = AskingBench({"rollout": "off"})
    bench.frames(20, DOUBTFUL)
    bench.end_all()
    assert bench.offered == []
    assert bench.count("edge_suppressions_total", reason="no_escalator") == 1
    assert bench.total("edge_policy_asks_total") == 0


def test_gap_is_asked_about_once_and_not_with_the_track_itself() -> None:
    """A sure track is lost: its place is asked about without a proposal."""
    bench = AskingBench()
    bench.frames(30, seen((300, 200, 0.95), (100, 100, 0.95)))
    bench.frames(6, seen((100, 100, 0.95)))
    (candidate,) = bench.offered
    assert candidate.question.reason == "gap"
    assert len(candidate.proposals) == 0
    assert candidate.question.region.lies_inside(WIDTH, HEIGHT)
    assert bench.count("edge_policy_asks_total", reason="gap") == 1


def test_doubtful_track_that_hides_is_asked_about_by_one_question() -> None:
    """Its held moment, or its gap: whichever comes first, and the other is counted as refused."""
    bench = AskingBench({"min_track_frames": 1_000})
    bench.frames(30, seen((300, 200, 0.45), (100, 100, 0.95)))
    bench.tracker.rows["offered"] = True
    bench.frames(7, seen((100, 100, 0.95)))
    assert [c.question.reason for c in bench.offered] == ["leaving"]


def test_place_that_is_not_worth_its_price_is_counted_by_cause() -> None:
    """Each refusal; when there is money again it is asked about."""
    bench = AskingBench({"requests_per_s": 1e-6, "requests_burst": 1.0, "cooldown_s": 100.0})
    bench.frames(30, seen((300, 200, 0.95), (100, 100, 0.45)))
    assert [c.question.reason for c in bench.offered] == ["uncertain"]
    bench.frames(4, seen((100, 100, 0.45)))
    refused = bench.total("edge_sights_refused_total", lambda labels: labels["reason"] == "gap")
    assert refused == bench.count(
        "edge_sights_refused_total", reason="gap", cause="budget_requests"
    ) + bench.count("edge_sights_refused_total", reason="gap", cause="price")
    assert refused > 0
    assert len(bench.offered) == 1


def test_gap_that_met_a_held_lock_is_offered_with_the_next_frame() -> None:
    """The track may end before the gap would come again."""
    bench = AskingBench(aim=lambda values: HeldLock(values, ledger_of(values)))
    stays = seen((100, 100, 0.95))
    bench.frames(30, seen((300, 200, 0.95), (100, 100, 0.95)))
    bench.frames(3, stays)
    assert bench.count("edge_sights_refused_total", reason="gap", cause="budget_contended") == 1
    bench.frame(stays)
    assert [c.question.reason for c in bench.offered] == ["gap"]


def test_many_gaps_are_priced_by_turns() -> None:
    """Five tracks are lost at once: two places a frame, until all have been asked about."""
    bench = AskingBench({"cooldown_s": 0.0})
    lost = [(x, y, 0.95) for x, y in ((60, 60), (200, 60), (340, 60), (60, 200), (200, 200))]
    stays = (340, 200, 0.95)
    bench.frames(30, seen(*lost, stays))
    asked = [0]
    for _ in range(8):
        bench.frame(seen(stays))
        asked.append(len(bench.offered))
    assert max(np.diff(asked)) == 2
    assert [c.question.reason for c in bench.offered] == ["gap"] * len(lost)


def test_changed_background_is_asked_about_once() -> None:
    """Where nothing is detected; until then it says that it learns."""
    bench = AskingBench()
    bench.frames(4 * 51, NOTHING)
    assert bench.count("edge_background_abstentions_total", cause="learning") == 50
    changed = NOISE.copy()
    changed[200:280, 300:380] = 250
    bench.frames(4 * 30, NOTHING, changed)
    assert [c.question.reason for c in bench.offered] == ["background"]
    region = bench.offered[0].question.region
    assert region.x1 <= 300
    assert region.x2 >= 380


@pytest.mark.parametrize("outcome", [EscalationOutcome.EXPIRED, EscalationOutcome.SHED])
def test_backlog_that_ends_says_nothing_about_verdicts_of_now(outcome: EscalationOutcome) -> None:
    """That no verdict came in time was learned when it was deferred, once."""
    values = []
    for deferred, endings in ((False, 0), (True, 0), (True, 20)):
        bench = AskingBench()
        bench.frames(10, DOUBTFUL)
        if deferred:
            bench.defer(bench.offered[0])
        for _ in range(endings):
            bench.end(bench.offered[0], outcome, late=True)
        bench.frames(10, seen((300, 200, 0.45), (100, 100, 0.45)))
        values.append(bench.offered[1].value)
    assert values[0] > values[1] == values[2]


def test_prices_are_shown() -> None:
    """At most once a second, so a second later at the latest."""
    tight = {"uplink_bytes_per_s": 100.0, "uplink_bytes_burst": 6_000.0, "cooldown_s": 0.0}
    bench = AskingBench(tight)
    shown = []
    for number in range(600):
        x = 20.0 + 60.0 * (number // 12 % 9)
        bench.frame(seen((x, 200, 0.45), (x, 320, 0.3)))
        shown.append(bench.count("edge_policy_price", resource="byte"))
    assert max(shown) > 0
    assert len(set(shown)) <= 600 * 0.04 + 2
    assert bench.total("edge_suppressions_total", lambda labels: labels["reason"] == "price") > 0


def test_verdict_about_an_added_object_is_fused_like_any_other() -> None:
    """The cloud sees what the background noticed."""
    bench = AskingBench()
    bench.frames(4 * 51, NOTHING)
    changed = NOISE.copy()
    changed[200:280, 300:380] = 250
    bench.frames(4 * 30, NOTHING, changed)
    box = np.array([[300, 200, 380, 280]], np.float32)
    bench.end(bench.offered[0], cloud=LabelledBoxes(box, np.array([0.9], np.float32), ("red",)))
    assert len(bench.tracker.rows) == 1
    assert bool(bench.tracker.rows["from_cloud"][0])
