"""Audits end in exactly one count, and what they find corrects the record."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edge_node.values import EscalationOutcome
from foundation.escalations import LabelledBoxes
from foundation.frames import Detections
from tests.edge_node.pipeline.bench import AskingBench, seen

MANY = {"audits_per_h": 3600}
NOTHING = seen()


def audited(policy: dict[str, Any] | None = None) -> AskingBench:
    """A camera whose lottery has learnt how many units come: thirty tracks a minute."""
    bench = AskingBench({"audit": MANY, **(policy or {})})
    bench.clock.advance_s(1.0)
    for _ in range(29):
        one_track(bench)
        bench.clock.advance_s(1.2)
    assert bench.offered == []
    bench.clock.advance_s(4.0)
    return bench


def one_track(bench: AskingBench) -> None:
    """A sure thing comes, stays for some frames and is gone."""
    bench.frames(8, seen((300, 200, 0.95)))
    bench.frames(12, NOTHING)


def asked_audits(bench: AskingBench, number: int) -> None:
    """Tracks until so many audits of reported tracks have been sent."""
    for _ in range(20 * number):
        if len(of_tracks(bench)) >= number:
            return
        one_track(bench)
    raise AssertionError("nothing is drawn")


def of_tracks(bench: AskingBench) -> list[Any]:
    """The audits of tracks among what was asked."""
    return [
        candidate
        for candidate in bench.offered
        if candidate.question.reason == "audit" and candidate.question.subjects
    ]


def sees(label: str) -> LabelledBoxes:
    """The cloud sees this where the track was."""
    box = np.array([[300, 200, 320, 220]], np.float32)
    return LabelledBoxes(box, np.array([0.9], np.float32), (label,))


@pytest.fixture
def bench() -> AskingBench:
    """Gaps and backgrounds are not what this is about."""
    return audited({"missed": {"gaps": False, "background": False}})


def ended(bench: AskingBench, stratum: str) -> dict[str, float]:
    """How the audits of a stratum came out."""
    return {
        event: bench.count("edge_audits_total", stratum=stratum, event=event)
        for event in ("drawn", "right", "wrong", "lost")
    }


def test_audit_is_sent_however_large_it_turns_out(bench: AskingBench) -> None:
    """What is drawn knows nothing of pixels, nor may what is answered."""
    asked_audits(bench, 2)
    assert {candidate.image_bytes_max for candidate in of_tracks(bench)} == {math.inf}


def test_audits_end_as_right_wrong_or_lost(bench: AskingBench) -> None:
    """As the verdict says, and each once."""
    asked_audits(bench, 3)
    right, wrong, lost = of_tracks(bench)[:3]
    bench.end(right, cloud=sees("blue"))
    bench.end(wrong, cloud=sees("red"))
    bench.end(lost, EscalationOutcome.EXPIRED)
    bench.end(right, cloud=sees("red"))  # a second ending is nobody's
    figures = ended(bench, "reported")
    assert (figures["right"], figures["wrong"]) == (1, 1)
    assert figures["lost"] >= 1
    assert bench.count("edge_audit_losses_total", cause="unanswered") == 1


def test_audit_judges_what_the_edge_came_to_say(bench: AskingBench) -> None:
    """Not what it took the track for in its best moment, of which the crop is."""
    for _ in range(20):
        bench.frames(4, seen((300, 200, 0.9)))
        bench.frames(20, seen((300, 200, 0.97), class_id=2))
        bench.frames(12, NOTHING)
        if of_tracks(bench):
            break
    candidate = of_tracks(bench)[0]
    (subject,) = candidate.question.subjects
    assert subject.score < 0.95, "the moment is one in which it passed for blue"
    assert (subject.label, candidate.proposals.labels) == ("red", ("red",))
    bench.end(candidate, cloud=sees("red"))
    figures = ended(bench, "reported")
    assert (figures["right"], figures["wrong"]) == (1, 0)


def test_audit_that_its_answer_does_not_decide_is_lost() -> None:
    """The crop's border cuts what is there, and its class is another."""
    bench = audited({"missed": {"gaps": False, "background": False}})
    box = np.array([[200, 140, 400, 340]], np.float32)
    large = Detections(box, np.array([0.95], np.float32), np.zeros(1, np.int32))
    while not of_tracks(bench):
        bench.frames(8, large)
        bench.frames(12, NOTHING)
    candidate = of_tracks(bench)[0]
    box[0, 0] = candidate.question.region.x1
    assert box[0, 0] > 0
    bench.end(candidate, cloud=LabelledBoxes(box, np.array([0.9], np.float32), ("red",)))
    figures = ended(bench, "reported")
    assert figures["wrong"] == figures["right"] == 0
    assert bench.count("edge_audit_losses_total", cause="undecided") == 1


@pytest.mark.parametrize(
    ("outcome", "late", "counted"),
    [
        (EscalationOutcome.EXPIRED, False, True),
        (EscalationOutcome.SHED, False, True),
        (EscalationOutcome.FAILED, False, True),
        (EscalationOutcome.EVICTED, True, True),
        (EscalationOutcome.FORGONE, False, True),
        (EscalationOutcome.ANSWERED, False, False),
        (EscalationOutcome.ANSWERED, True, False),
        (EscalationOutcome.WITHHELD, False, False),
    ],
)
def test_track_that_ends_while_the_cloud_is_asked_is_counted_where_no_answer_comes(
    bench: AskingBench, outcome: EscalationOutcome, *, late: bool, counted: bool
) -> None:
    """Doubtful tracks do not leave the population with the link; without a crop it is lost."""
    asked = 0
    for _ in range(30):
        bench.frames(8, seen((300, 200, 0.6)))
        bench.frames(12, NOTHING)
        doubtful = [c for c in bench.offered if c.question.reason != "audit"]
        for candidate in doubtful:
            bench.offered.remove(candidate)
            if late:
                bench.defer(candidate)
            bench.end(candidate, outcome, sees("blue"), late=late)
            bench.end(candidate, outcome, sees("blue"), late=True)  # and never twice
        asked += len(doubtful)
    assert asked == 30
    figures = ended(bench, "reported")
    assert (figures["drawn"] > 0) is counted
    assert figures["drawn"] == figures["lost"] < asked
    assert bench.count("edge_audit_losses_total", cause="unanswered") == figures["lost"]


def test_track_that_a_neighbours_answer_shows_is_not_counted(bench: AskingBench) -> None:
    """It has a verdict, although its own question got none."""
    for _ in range(20):
        bench.frames(8, seen((300, 200, 0.6)))
        bench.frames(8, seen((300, 200, 0.6), (340, 200, 0.6)))
        bench.frames(12, NOTHING)
        own, neighbours = [c for c in bench.offered if c.question.reason != "audit"]
        assert [subject.asked for subject in neighbours.question.subjects] == [True, False]
        bench.end(neighbours, cloud=sees("blue"))
        bench.end(own, EscalationOutcome.EXPIRED)
        bench.offered.clear()
    assert ended(bench, "reported")["drawn"] == 0


def test_verdict_about_an_ended_track_revises_its_record(bench: AskingBench) -> None:
    """The crop is of the frame that showed it best, while it was there."""
    asked_audits(bench, 1)
    candidate = of_tracks(bench)[0]
    subject = candidate.question.subjects[0]
    assert subject.asked
    before = [r for r in bench.records if r["track_id"] == subject.track_id]
    assert [r["revision"] for r in before] == [0]
    assert before[0]["final"]["label"] == "blue"
    assert before[0]["escalation"]["reason"] == "audit"
    bench.end(candidate, cloud=sees("red"))
    after = [r for r in bench.records if r["track_id"] == subject.track_id]
    assert [r["revision"] for r in after] == [0, 1]
    assert after[1]["final"]["label"] == "red"
    assert after[1]["escalation"]["outcome"] == "answered"


def test_every_draw_ends_in_exactly_one_count(bench: AskingBench) -> None:
    """Whatever became of its escalation, or whether there was one."""
    outcomes = list(EscalationOutcome)
    for number in range(60):
        one_track(bench)
        for candidate in list(bench.offered):
            bench.offered.remove(candidate)
            there = bool(candidate.question.subjects)
            cloud = sees("blue") if there else LabelledBoxes.empty()
            bench.end(candidate, outcomes[number % len(outcomes)], cloud)
    for stratum in ("reported", "empty"):
        figures = ended(bench, stratum)
        assert figures["drawn"] > 0
        assert figures["drawn"] == figures["right"] + figures["wrong"] + figures["lost"]
    losses = bench.total("edge_audit_losses_total")
    assert losses == ended(bench, "reported")["lost"] + ended(bench, "empty")["lost"]
    assert losses > 0


def test_audit_that_cannot_be_paid_is_lost() -> None:
    """The budgets hold for audits too."""
    bench = audited(
        {
            "missed": {"gaps": False, "background": False},
            "requests_per_s": 1e-6,
            "requests_burst": 1.0,
        }
    )
    for _ in range(40):
        one_track(bench)
    assert len(bench.offered) == 1
    assert bench.count("edge_audit_losses_total", cause="unpaid") > 0


def test_what_was_answered_or_is_pending_is_not_drawn() -> None:
    """It is not what the edge kept to itself."""
    bench = AskingBench({"audit": MANY, "missed": {"gaps": False, "background": False}})
    for _ in range(40):
        bench.frames(8, seen((300, 200, 0.45)))
        for candidate in [c for c in bench.offered if c.question.reason == "uncertain"]:
            bench.offered.remove(candidate)
            bench.end(candidate, cloud=sees("blue"))
        bench.frames(12, NOTHING)
        bench.clock.advance_s(1.2)
    assert ended(bench, "reported")["drawn"] == 0
    assert ended(bench, "dismissed")["drawn"] == 0


def test_interval_of_silent_errors_is_shown() -> None:
    """Nothing is known at first; after some answers it is an interval around the estimate."""
    bench = audited({"missed": {"gaps": False, "background": False}})
    assert bench.count("edge_silent_error_ratio", stratum="reported", bound="low") == 0
    assert bench.count("edge_silent_error_ratio", stratum="reported", bound="high") == 1
    assert math.isnan(bench.count("edge_silent_error_ratio", stratum="reported", bound="point"))
    for number in range(60):
        one_track(bench)
        for candidate in list(bench.offered):
            bench.offered.remove(candidate)
            there = bool(candidate.question.subjects)
            label = "red" if number % 3 == 0 else "blue"
            bench.end(candidate, cloud=sees(label) if there else LabelledBoxes.empty())
    bench.clock.advance_s(11.0)
    bench.frames(1, NOTHING)
    low, point, high = (
        bench.count("edge_silent_error_ratio", stratum="reported", bound=bound)
        for bound in ("low", "point", "high")
    )
    assert 0 < low < point < high < 1
    assert 0.05 < point < 0.7


def test_no_audits_are_made_where_none_are_wanted() -> None:
    """Nothing is drawn, and nothing is held for it."""
    bench = AskingBench({"missed": {"gaps": False, "background": False}})
    for _ in range(50):
        one_track(bench)
        bench.clock.advance_s(1.2)
    assert bench.offered == []
    assert bench.total("edge_audits_total") == 0
