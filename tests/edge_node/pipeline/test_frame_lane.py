"""The frame lane with its inbox and capture thread, under a driven clock."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from edge_node.config import DeadlineSettings, EdgeSettings, TrackSettings
from edge_node.metrics import EdgeMetrics
from edge_node.pipeline.capture import Capture
from edge_node.pipeline.frame_lane import FrameLane
from edge_node.pipeline.inbox import Arrival, LaneInbox
from edge_node.values import Cause, Ending, EscalationOutcome
from foundation.errors import HardcaseError, IntegrityError, TransientError
from foundation.escalations import Answer, LabelledBoxes, Verdict
from foundation.frames import Detections, Pixels
from tests.edge_node.logic.scene import answered
from tests.support.clock import ManualClock
from tests.support.lane import (
    BLANK,
    CandidateList,
    RecordList,
    ScriptedModel,
    ScriptedSource,
    always,
    asking_rules,
)
from tests.support.lane import one_square as square

SETTINGS = EdgeSettings(
    camera="cam",
    deadline=DeadlineSettings(deadline_s=0.033),
    tracks=TrackSettings(min_detections=2),
)


class Bench:
    """A frame lane that a test drives frame by frame, without threads."""

    def __init__(
        self,
        see: Callable[[int], Detections | None] | None = None,
        *,
        cost_s: Callable[[int], float] | None = None,
        asking: bool = True,
    ) -> None:
        self.clock = ManualClock()
        self.model = ScriptedModel(
            see or always(square(10)), clock=self.clock, cost_s=cost_s or always(0.005)
        )
        self.inbox = LaneInbox()
        self.results = RecordList()
        self.asked = CandidateList()
        self.registry = CollectorRegistry()
        self.metrics = EdgeMetrics(self.registry, SETTINGS.camera)
        self.lane = FrameLane(
            SETTINGS,
            self.model,
            asking_rules(SETTINGS.policy, self.model.limits),
            self.inbox,
            self.results,
            self.asked if asking else None,
            self.metrics,
            self.clock,
        )
        self._sequence = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Runs the lane in its thread until the end of the block, then drains it."""
        thread = threading.Thread(target=self.lane.run, name="frame-lane")
        thread.start()
        try:
            yield
        finally:
            self.inbox.end_frames()
            self.lane.frames_done.wait(5.0)
            self.inbox.close()
            thread.join(5.0)
        assert not thread.is_alive()

    def frame(self, *, age_s: float = 0.0, pixels: Pixels | None = BLANK) -> None:
        """Gives the lane one frame of this age and waits until it has been taken."""
        captured_at_ns = self.clock.now_ns() - round(age_s * 1e9)
        self.inbox.hand_over(Arrival(self._sequence, captured_at_ns, pixels))
        self._sequence += 1

    def outcomes(self) -> list[str]:
        """The outcomes of all frames, in order of sequence."""
        frames = sorted(self.results.of_type("frame"), key=lambda record: record["sequence"])
        return [record["outcome"] for record in frames]

    def count(self, name: str, **labels: str) -> float:
        """A metric's value."""
        return self.registry.get_sample_value(name, {"camera": "cam", **labels}) or 0.0


def test_frame_within_its_deadline_is_on_time() -> None:
    """And its record says when it was captured and published."""
    bench = Bench()
    with bench.running():
        bench.frame()
    assert bench.outcomes() == ["on_time"]
    assert bench.results.records[0]["latency_s"] == 0.005
    assert bench.count("edge_frames_total", outcome="on_time") == 1


def test_frame_that_took_too_long_is_late() -> None:
    """Counted from capture, whatever the reason."""
    bench = Bench(cost_s=always(0.050))
    with bench.running():
        bench.frame()
    assert bench.outcomes() == ["late"]


def test_only_frames_of_an_unpaced_file_wait_for_nothing() -> None:
    """By which the alert about frames that miss their deadline tells the two apart."""
    for on_demand in (True, False):
        bench = Bench(cost_s=always(0.050))
        captured_at_ns = bench.clock.now_ns()
        bench.clock.advance_s(0.01)
        with bench.running():
            bench.inbox.hand_over(Arrival(0, captured_at_ns, BLANK, on_demand=on_demand))
        assert bench.outcomes() == ["late"]
        waited_s = bench.count("edge_stage_seconds_sum", stage="wait")
        assert waited_s == (0.0 if on_demand else 0.01)


def test_hopeless_frame_is_coasted_and_published_with_its_tracks() -> None:
    """The model is not run; tracks go on by their motion and say so."""
    bench = Bench(lambda call: square(10 + 3 * call))
    with bench.running():
        for _ in range(4):
            bench.frame()
        bench.frame(age_s=0.030)
    assert bench.outcomes() == ["on_time"] * 4 + ["coasted"]
    assert bench.model.calls == 4
    track = bench.results.of_type("frame")[-1]["tracks"][0]
    assert track["state"] == "coasted"
    assert abs(track["box"][0] - 22) < 1


def test_failed_frame_is_published_with_coasted_tracks() -> None:
    """A failure of the model never looks like an empty scene."""
    bench = Bench(lambda call: None if call == 3 else square(10))
    with bench.running():
        for _ in range(5):
            bench.frame()
    assert bench.outcomes() == ["on_time"] * 3 + ["failed", "on_time"]
    assert bench.results.of_type("frame")[3]["tracks"][0]["state"] == "coasted"


def test_lost_picture_is_failed_and_coasted() -> None:
    """The source said that a picture was lost."""
    bench = Bench()
    with bench.running():
        for _ in range(3):
            bench.frame()
        bench.frame(pixels=None)
    assert bench.outcomes()[-1] == "failed"
    assert len(bench.results.of_type("frame")[-1]["tracks"]) == 1


def test_nothing_is_known_until_the_model_has_looked() -> None:
    """A lost picture or a model that fails does not look like an empty scene."""
    bench = Bench(lambda call: None if call in (0, 4) else Detections.empty())
    smaller = np.zeros((24, 32, 3), np.uint8)
    with bench.running():
        for pixels in (None, BLANK, BLANK, None, BLANK, BLANK, smaller, smaller, None):
            bench.frame(pixels=pixels)
    assert [(r["outcome"], r["tracks"]) for r in bench.results.of_type("frame")] == [
        ("failed", None),
        ("failed", None),
        ("on_time", []),
        ("failed", []),
        ("on_time", []),
        ("on_time", []),
        ("failed", None),
        ("on_time", []),
        ("failed", []),
    ]


@pytest.mark.parametrize("is_empty", [True, False])
def test_scene_that_nobody_has_looked_at_for_long_is_not_known(
    caplog: pytest.LogCaptureFixture, *, is_empty: bool
) -> None:
    """A model that fails for good does not look like an empty scene, and is said once."""
    seen = Detections.empty() if is_empty else square(10)
    bench = Bench(lambda call: seen if call < 2 or call == 14 else None)
    with bench.running():
        for _ in range(15):
            bench.frame()
    assert bench.outcomes() == ["on_time"] * 2 + ["failed"] * 12 + ["on_time"]
    tracks = [frame["tracks"] for frame in bench.results.of_type("frame")[2:]]
    counts = [None if one is None else len(one) for one in tracks]
    assert counts == ([0] * 8 + [None] * 4 + [0] if is_empty else [1] * 13)
    assert len(caplog.messages) == 1


def test_change_of_frame_size_ends_all_tracks() -> None:
    """Boxes of one size mean nothing in another; crops stay inside the frame."""
    bench = Bench(lambda call: square(10) if call < 8 else square(200, 150))
    with bench.running():
        for _ in range(8):
            bench.frame()
        for _ in range(8):
            bench.frame(pixels=np.zeros((240, 320, 3), np.uint8))
    first, second = bench.asked.candidates
    assert first.pixels.shape == (48, 64, 3)
    assert second.pixels.shape == (192, 192, 3)
    assert second.question.region.lies_inside(320, 240)
    assert [record["track_id"] for record in bench.results.of_type("track")] == [1, 2]


def test_crop_is_a_copy_at_native_resolution() -> None:
    """What the camera does to its buffer afterwards does not reach the encoder."""
    bench = Bench()
    pixels = np.full((48, 64, 3), 7, np.uint8)
    with bench.running():
        for _ in range(6):
            bench.frame(pixels=pixels)
    pixels[:] = 200
    candidate = bench.asked.candidates[0]
    assert (candidate.pixels == 7).all()
    assert candidate.proposals.labels == ("blue",)
    assert candidate.question.expires_at_ns - candidate.question.captured_at_ns == 5_000_000_000


def test_verdict_needs_no_frame() -> None:
    """After the last one it still corrects the record."""
    bench = Bench()
    with bench.running():
        for _ in range(6):
            bench.frame()
        bench.inbox.end_frames()
        bench.lane.frames_done.wait(5.0)
        question = bench.asked.candidates[0].question
        cloud = LabelledBoxes(
            np.array([[10, 20, 18, 28]], np.float32), np.array([0.9], np.float32), ("red",)
        )
        bench.clock.advance_s(0.1)
        bench.inbox.post(answered(question, cloud, at_ns=bench.clock.now_ns()))
    correction = bench.results.of_type("correction")[0]
    assert correction["effect"] == "reclassified"
    assert correction["track_ended"]
    revisions = [record["revision"] for record in bench.results.of_type("track")]
    assert revisions == [0, 1]
    assert bench.count("edge_verdicts_total", effect="reclassified") == 1
    (published,) = bench.asked.published
    assert (published.verdict is None, published.judged) == (False, None)


def test_verdict_for_an_unknown_escalation_is_counted() -> None:
    """It changes nothing, and does not pass unseen."""
    bench = Bench()
    with bench.running():
        bench.frame()
        verdict = Verdict("nobody", Answer(LabelledBoxes.empty()), "digest")
        bench.inbox.post(
            Ending("nobody", EscalationOutcome.ANSWERED, Cause.NONE, bench.clock.now_ns(), verdict)
        )
    ignored = bench.registry.get_sample_value("edge_verdicts_ignored_total", {"reason": "unknown"})
    assert ignored == 1
    assert bench.results.of_type("correction") == []


def test_edge_that_has_become_clearly_surer_overrules_the_cloud() -> None:
    """In frames that the model has looked at, without a further verdict."""
    bench = Bench(lambda call: square(10, score=0.5 if call < 8 else 0.99))
    with bench.running():
        for _ in range(8):
            bench.frame()
        question = bench.asked.candidates[0].question
        cloud = LabelledBoxes(
            np.array([[10, 20, 18, 28]], np.float32), np.array([0.6], np.float32), ("red",)
        )
        bench.inbox.post(answered(question, cloud, at_ns=bench.clock.now_ns()))
        for _ in range(30):
            bench.frame()
    tracks = [frame["tracks"][0] for frame in bench.results.of_type("frame") if frame["tracks"]]
    assert "red" in [track["label"] for track in tracks]
    assert (tracks[-1]["label"] != "red", tracks[-1]["source"]) == (True, "edge")
    assert bench.results.of_type("track")[-1]["overruled"]


def test_without_an_escalator_nothing_is_asked_and_it_is_counted() -> None:
    """The policy's reason says so."""
    bench = Bench(asking=False)
    with bench.running():
        for _ in range(8):
            bench.frame()
    assert bench.asked.candidates == []
    assert bench.count("edge_suppressions_total", reason="no_escalator") == 1


def test_detections_beyond_the_table_are_counted() -> None:
    """tracks_max bounds what a detector gone mad can cost."""
    crowd = Detections(
        np.array([[x, y, x + 2, y + 2] for x in range(0, 4000, 8) for y in (0, 20)], np.float32),
        np.full(1000, 0.9, np.float32),
        np.zeros(1000, np.int32),
    )
    bench = Bench(always(crowd))
    with bench.running():
        bench.frame(pixels=np.zeros((48, 4000, 3), np.uint8))
    assert bench.count("edge_tracks_refused_total") == 1000 - 512


def run_stream(
    script: Sequence[Pixels | HardcaseError],
    *,
    live: bool,
    cost_s: Callable[[int], float],
    fails: Callable[[int], bool],
) -> tuple[Bench, Capture]:
    """A whole stream through capture thread and lane thread."""
    bench = Bench(lambda call: None if fails(call) else square(10), cost_s=cost_s)
    source = ScriptedSource(script, bench.clock, live=live)
    capture = Capture(source, bench.inbox, bench.results, bench.metrics, bench.clock)
    with bench.running():
        capture.run()
    return bench, capture


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.booleans(), max_size=40),
    st.booleans(),
    st.lists(st.floats(0.0, 0.08), min_size=1, max_size=10),
    st.sets(st.integers(0, 40)),
)
def test_every_captured_frame_ends_in_exactly_one_outcome(
    lost: list[bool], live: bool, costs: list[float], failing: set[int]
) -> None:
    """Lost, dropped, coasted, failed, late or on time: the sum is the number of frames."""
    script = [TransientError("lost") if is_lost else BLANK for is_lost in lost]
    bench, _ = run_stream(
        script,
        live=live,
        cost_s=lambda call: costs[call % len(costs)],
        fails=lambda call: call in failing,
    )
    sequences = [record["sequence"] for record in bench.results.of_type("frame")]
    assert sorted(sequences) == list(range(len(lost)))
    outcomes = collections.Counter(bench.outcomes())
    counted = {
        outcome: int(bench.count("edge_frames_total", outcome=outcome)) for outcome in outcomes
    }
    assert counted == dict(outcomes)
    assert sum(counted.values()) == len(lost)


def test_unpaced_source_loses_nothing() -> None:
    """Each frame waits for the one before it."""
    bench, _ = run_stream([BLANK] * 50, live=False, cost_s=always(0.001), fails=always(False))
    assert bench.model.calls == 50
    assert "dropped" not in bench.outcomes()


def test_unpaced_frame_counts_as_captured_when_it_is_taken() -> None:
    """Nothing is coasted to catch up with a file, however slow the machine is."""
    bench, _ = run_stream([BLANK] * 20, live=False, cost_s=always(0.040), fails=always(False))
    assert bench.outcomes() == ["late"] * 20
    assert {record["latency_s"] for record in bench.results.of_type("frame")} == {0.04}


def test_source_that_breaks_ends_in_order() -> None:
    """What came before is processed, and why it ended is kept for the exit code."""
    bench, capture = run_stream(
        [BLANK, BLANK, IntegrityError("the file is cut off")],
        live=False,
        cost_s=always(0.001),
        fails=always(False),
    )
    assert bench.outcomes() == ["on_time", "on_time"]
    assert isinstance(capture.failure, IntegrityError)
    assert len(bench.results.of_type("track")) == 1
