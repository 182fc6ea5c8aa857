"""What the frame lane costs beside the inference it wraps.

    python -m benchmarks.frame_lane [--bundle BUNDLE] [--rounds N] [--frames N] [--json FILE]

Rounds alternate between two sides, so that both see the same machine. Bare is `session.run` on a
tensor that was prepared before, plus one resize of the camera's frame to the model's input as the
bundle's contract wants it. Lane is the edge node itself: source, hand-over, resize, inference,
decoding, calibration, tracks, publication, result lines on disk, policy, and in a third column also
the copying and encoding of the crops that it escalates, at the default budget. The line's frames
are rendered before and played unpaced, as fast as the lane takes them.
"""

from __future__ import annotations

import argparse
import gc
import json
import queue
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
import onnxruntime
from prometheus_client import CollectorRegistry

from edge_node.adapters.encoder import CropEncoder
from edge_node.adapters.model import BundleModel
from edge_node.adapters.results import ResultWriter
from edge_node.adapters.rules import open_rules
from edge_node.config import (
    DetectorSettings,
    EdgeSettings,
    PolicySettings,
    ResultSettings,
)
from edge_node.logic.records import FrameRecord
from edge_node.metrics import EdgeMetrics
from edge_node.pipeline.capture import Capture as CaptureThread
from edge_node.pipeline.frame_lane import FrameLane
from edge_node.pipeline.inbox import LaneInbox
from edge_node.ports import Capture, JsonRecord
from edge_node.values import Candidate, Cause, Ending, EscalationOutcome
from foundation.bundle import Bundle
from foundation.clock import SystemClock
from foundation.escalations import Escalation
from foundation.frames import Pixels
from foundation.geometry import Letterbox
from reference_line.line import Line

SWITCH_INTERVAL_S = 0.0005
LINE_SEED = 4
BUNDLE = Path("reference_line/bundles/edge-reference")


class GatedSource:
    """Plays frames forth and back, as many as were released, as fast as they are taken."""

    live = False
    frame_rate_hz = 0.0
    name = "rendered line"

    def __init__(self, frames: list[Pixels], clock: SystemClock) -> None:
        self._frames = frames + frames[-2:0:-1]
        self._permits: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._clock = clock
        self._index = 0

    def release(self, count: int) -> None:
        """Lets this many more frames through."""
        for _ in range(count):
            self._permits.put(True)

    def end(self) -> None:
        """Ends the source."""
        self._permits.put(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is held."""

    def read(self, stop: threading.Event) -> Capture | None:
        """The next frame, once it is released."""
        if not self._permits.get() or stop.is_set():
            return None
        pixels = self._frames[self._index % len(self._frames)]
        self._index += 1
        return Capture(pixels, self._clock.now_ns())


class CountingSink:
    """Passes records on to the writer and says when a round's frames are all published."""

    def __init__(self, writer: ResultWriter) -> None:
        self._writer = writer
        self._left = 0
        self.done = threading.Event()
        self.tracks: list[int] = []

    def expect(self, frames: int) -> None:
        """Begins a round."""
        self._left = frames
        self.done.clear()

    def publish(self, record: JsonRecord | Mapping[str, Any]) -> None:
        """Counts frames."""
        self._writer.publish(record)
        if isinstance(record, FrameRecord):
            self.tracks.append(0 if record.rows is None else len(record.rows))
            self._left -= 1
            if self._left == 0:
                self.done.set()

    def publish_end(
        self, records: Sequence[JsonRecord | Mapping[str, Any]], published: Callable[[], None]
    ) -> None:
        """Passes them on."""
        self._writer.publish_end(records, published)


class EncodingSink:
    """Encodes escalations in the encoder's thread and answers none: what they cost the edge."""

    def __init__(self, encoder: CropEncoder, inbox: LaneInbox) -> None:
        self._encoder = encoder
        self._inbox = inbox
        self.encoded = 0

    def offer(self, candidate: Candidate) -> None:
        """Takes a candidate."""
        if not self._encoder.offer(candidate):
            self._end(candidate.question.id)

    def note_published(self, ending: Ending) -> None:
        """Nothing is kept."""

    def deliver(self, candidate: Candidate, escalation: Escalation | None) -> None:
        """Ends what was encoded."""
        self.encoded += escalation is not None
        self._end(candidate.question.id)

    def _end(self, escalation_id: str) -> None:
        self._inbox.post(
            Ending(escalation_id, EscalationOutcome.EXPIRED, Cause.NONE, time.time_ns())
        )


class LaneSide:
    """The edge node's own lane, driven round by round."""

    def __init__(
        self, bundle: Path, frames: list[Pixels], results: Path, *, escalating: bool
    ) -> None:
        clock = SystemClock()
        settings = EdgeSettings(
            detector=DetectorSettings(bundle=str(bundle)),
            results=ResultSettings(path=str(results)),
            # The sides take turns; a burst saved up meanwhile would be more than 30 fps ever sees.
            policy=PolicySettings(requests_burst=1.0),
        )
        self.metrics = EdgeMetrics(CollectorRegistry(), settings.camera)
        self._writer = ResultWriter(
            settings.results,
            self.metrics.results_dropped,
            self.metrics.stages["write"],
            clock,
            lambda error: print(f"results: {error!r}", file=sys.stderr),
        )
        self._sink = CountingSink(self._writer)
        self._inbox = LaneInbox()
        self._source = GatedSource(frames, clock)
        self._encoder = CropEncoder(
            settings.spool.encode_queue_max,
            site="bench",
            camera=settings.camera,
            bundle_digest="",
            clock=clock,
            encode_seconds=self.metrics.stages["encode"],
        )
        self.escalations = EncodingSink(self._encoder, self._inbox)
        model = BundleModel.open(settings)
        self._rules = open_rules(settings, model.bundle, model.limits)
        lane = FrameLane(
            settings,
            model,
            self._rules.__enter__(),
            self._inbox,
            self._sink,
            self.escalations if escalating else None,
            self.metrics,
            clock,
        )
        capture = CaptureThread(self._source, self._inbox, self._sink, self.metrics, clock)
        bodies = {
            "lane": lane.run,
            "capture": capture.run,
            "encoder": lambda: self._encoder.run(self.escalations.deliver),
        }
        self._threads = [threading.Thread(target=body, name=n) for n, body in bodies.items()]

    def __enter__(self) -> Self:
        self._writer.__enter__()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends all threads."""
        self._source.end()
        self._encoder.close()
        self._inbox.close()
        for thread in self._threads:
            thread.join(10.0)
        self._writer.__exit__(exc_type, exc, traceback)
        self._rules.__exit__(exc_type, exc, traceback)

    def run(self, count: int) -> None:
        """Takes this many frames from capture to publication."""
        self._sink.expect(count)
        self._source.release(count)
        self._sink.done.wait()

    @property
    def tracks(self) -> float:
        """Mean number of confirmed tracks per frame."""
        return statistics.fmean(self._sink.tracks)


class BareSide:
    """`session.run` on a prepared tensor, plus one resize."""

    def __init__(self, bundle: Path, frames: list[Pixels]) -> None:
        opened = Bundle.open(bundle)
        contract = opened.info.input
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            opened.model, options, providers=["CPUExecutionProvider"]
        )
        self._letterbox = Letterbox(opened.info.letterbox, contract.width, contract.height)
        self._out = np.zeros((contract.height, contract.width, 3), np.uint8)
        self._placement = self._letterbox.placement(frames[0].shape[1], frames[0].shape[0])
        self._letterbox.render(frames[0], self._placement, self._out)
        dtype = np.uint8 if contract.dtype == "uint8" else np.float32
        tensor = self._out.astype(dtype)
        tensor = tensor if contract.layout == "NHWC" else tensor.transpose(2, 0, 1)
        self._feed = {contract.name: np.ascontiguousarray(tensor[None])}
        self._frames = frames

    def run(self, count: int) -> None:
        """Resizes a frame and runs the prepared tensor, this often."""
        for index in range(count):
            self._letterbox.render(
                self._frames[index % len(self._frames)], self._placement, self._out
            )
            self._session.run(None, self._feed)


def measure(sides: Mapping[str, BareSide | LaneSide], rounds: int, count: int) -> dict[str, Any]:
    """Wall and CPU milliseconds per frame of every round of every side."""
    figures: dict[str, dict[str, list[float]]] = {
        name: {"wall_ms": [], "cpu_ms": []} for name in sides
    }
    for number in range(rounds + 1):
        for name, side in sides.items():
            wall, cpu = time.perf_counter(), time.process_time()
            side.run(count)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if number:  # the first round warms up
                figures[name]["wall_ms"].append(1000 * wall / count)
                figures[name]["cpu_ms"].append(1000 * cpu / count)
            time.sleep(0.05)  # what the writer has left is not charged to the next side
    return figures


def summarize(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Medians and worst rounds, and ratios to bare of the rounds that ran side by side."""
    summary: dict[str, Any] = {}
    for name, side in figures.items():
        summary[name] = {
            **{f"{key}_median": statistics.median(values) for key, values in side.items()},
            **{f"{key}_worst": max(values) for key, values in side.items()},
            **{
                f"{key}_ratio": statistics.median(
                    value / bare for value, bare in zip(values, figures["bare"][key], strict=True)
                )
                for key, values in side.items()
            },
        }
    return summary


def stage_means(metrics: EdgeMetrics) -> dict[str, float]:
    """Mean milliseconds per stage."""
    means = {}
    for name, histogram in metrics.stages.items():
        metric = next(iter(histogram.collect()))
        samples = {sample.name: sample.value for sample in metric.samples}
        total = next(v for k, v in samples.items() if k.endswith("_sum"))
        count = next(v for k, v in samples.items() if k.endswith("_count"))
        if count and name != "wait":
            means[name] = 1000 * total / count
    return means


def encoder_share(metrics: EdgeMetrics, frames: int, wall_ms: float) -> float:
    """How much of the time of so many frames the encoder's thread was at work."""
    samples = next(iter(metrics.stages["encode"].collect())).samples
    busy_s = next(sample.value for sample in samples if sample.name.endswith("_sum"))
    return busy_s / (frames * wall_ms / 1000)


def print_table(
    summary: Mapping[str, Any], stages: Mapping[str, Mapping[str, float]], tracks: float
) -> None:
    """Prints the figures for a person."""
    print(f"{'':22}{'wall ms':>9}{'worst':>8}{'ratio':>7}{'CPU ms':>9}{'worst':>8}{'ratio':>7}")
    for name, side in summary.items():
        print(
            f"{name:22}{side['wall_ms_median']:9.2f}{side['wall_ms_worst']:8.2f}"
            f"{side['wall_ms_ratio']:7.3f}{side['cpu_ms_median']:9.2f}"
            f"{side['cpu_ms_worst']:8.2f}{side['cpu_ms_ratio']:7.3f}"
        )
    for name, means in stages.items():
        print(f"{name}, mean ms per stage: {', '.join(f'{k} {v:.2f}' for k, v in means.items())}")
    print(f"mean confirmed tracks per frame: {tracks:.1f}; limits: wall 1.25, CPU 1.50")


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--bundle", type=Path, default=Path("reference_line/bundles/edge-reference")
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--frames", type=int, default=100, help="frames per round")
    parser.add_argument("--rendered", type=int, default=240, help="different frames, then again")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    cv2.setNumThreads(1)
    line = Line(LINE_SEED)
    frames = [line.frame(index).copy() for index in range(options.rendered)]
    with tempfile.TemporaryDirectory() as folder:
        alone = LaneSide(options.bundle, frames, Path(folder) / "a.jsonl", escalating=False)
        asking = LaneSide(options.bundle, frames, Path(folder) / "b.jsonl", escalating=True)
        with alone, asking:
            gc.collect()
            gc.freeze()
            bare = BareSide(options.bundle, frames)
            sides: dict[str, BareSide | LaneSide] = {
                "bare": bare,
                "lane": alone,
                "lane, escalating": asking,
            }
            figures = measure(sides, options.rounds, options.frames)
    summary = summarize(figures)
    stages = {"lane": stage_means(alone.metrics), "escalating": stage_means(asking.metrics)}
    print_table(summary, stages, alone.tracks)
    wall_ms = statistics.fmean(figures["lane, escalating"]["wall_ms"])
    share = encoder_share(asking.metrics, (options.rounds + 1) * options.frames, wall_ms)
    print(f"escalating, the encoder's thread was at work {share:.0%} of the time")
    if options.json:
        document = {"summary": summary, "stages_ms": stages, "rounds": figures}
        options.json.write_text(json.dumps(document, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
