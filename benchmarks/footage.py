"""What real footage costs, and whether a shadow rollout forecasts what enforcing it comes to.

    nice -n 10 python -m benchmarks.footage [--data FOLDER] [--work FOLDER] [--minutes 5]
        [--bytes-per-s 4000] [--json FILE]

Each clip is one camera, with a public edge model and a public cloud model that were imported as
they are. The same frames go to two edge nodes side by side: one in shadow, which decides, encodes
and sends nothing, one that enforces the same budget and hears the cloud. A clip lasts half a
minute, so it is played again and again, as one stream that jumps back at the end; what repeats are
the pictures, not the budget, the prices or the tracks. Audits are off: they are drawn by lot.
Imported models come without calibration and with everyone's thresholds, so the band is set here:
from 0.2, where YOLOX's scores begin to mean something, to 0.7. There is no truth: gain is what the
product counts, the cloud taken as right. How well the bytes of one crop are predicted is told by
the share that took less than 0.7 or more than 1.4 times as many. A shadow knows two figures of
bytes: what it predicted when it decided (`edge_policy_forecast_bytes`), and what its crops took
when they were encoded (`edge_escalation_bytes`); what was sent is counted on the wire.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import prometheus_client

from edge_node.adapters.model import BundleModel
from edge_node.adapters.rules import open_rules
from edge_node.config import AuditSettings, DetectorSettings, EdgeSettings, PolicySettings
from edge_node.values import Effect
from foundation.bundle import Bundle
from foundation.errors import EXIT_CONFIG, EXIT_OK, ConfigError
from foundation.frames import Pixels
from model_workshop.__main__ import main as workshop
from replay.recorded_lane import LaneRun, RecordedCloud, RecordedLane, RecordedModel

DATA = Path("../shared/data")
WORK = Path(tempfile.gettempdir()) / "hardcase-footage"
CLIPS = ("car-detection", "bottle-detection")
MODELS = {"edge": "yolox_nano.onnx", "cloud": "yolov8s_640.onnx"}
BAND = (0.2, 0.7)
BURST_S = 10.0
ROLLOUTS = ("shadow", "enforce")
TOLERANCE = 0.1


@dataclass(slots=True)
class Clip:
    """Footage in memory, and what the edge model detects in it.

    Attributes:
        name: of the file.
        frame_rate_hz: it was recorded at.
        pictures: its frames.
        model: what the edge bundle detects; the model runs once for each picture.
    """

    name: str
    frame_rate_hz: float
    pictures: list[Pixels] = field(repr=False)
    model: RecordedModel

    def look(self, sequence: int) -> Pixels:
        """The picture that a stream of repetitions shows; its detections are at hand."""
        first = sequence % len(self.pictures)
        pixels = self.pictures[first]
        if first != sequence:
            self.model.found[sequence] = self.model.found[first]
        else:
            self.model.sequence = sequence
            self.model.detect(pixels)
        return pixels


def read_clip(path: Path, settings: EdgeSettings) -> Clip:
    """All pictures of a file.

    Raises:
        ConfigError: it cannot be read.
    """
    capture = cv2.VideoCapture(str(path))
    pictures: list[Pixels] = []
    while (read := capture.read())[0]:
        pictures.append(np.asarray(read[1], np.uint8))
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    if not pictures:
        raise ConfigError(f"{path} holds no picture", remedy="Give --data a folder of footage")
    model = BundleModel.open(settings)
    recorded = RecordedModel(model.labels, model.limits, model.detect)
    return Clip(path.stem, rate, pictures, recorded)


def import_models(data: Path, work: Path) -> dict[str, Path]:
    """Bundles of both public models, imported once."""
    bundles = {}
    for part, name in MODELS.items():
        bundles[part] = work / part
        if not bundles[part].exists():
            labels = data / "models" / "coco80_names.txt"
            command = ["import", str(data / "models" / name), "--labels", str(labels)]
            status = workshop([*command, "--name", part, "--out", str(bundles[part])])
            if status != EXIT_OK:
                raise ConfigError(f"{name} could not be imported", remedy="See the message above")
    return bundles


def settings_of(bundle: Path, rollout: str, bytes_per_s: float, camera: str) -> EdgeSettings:
    """One camera's settings; only the rollout differs."""
    labels = Bundle.open(bundle).labels
    policy = PolicySettings.model_validate(
        {
            "rollout": rollout,
            "uplink_bytes_per_s": bytes_per_s,
            "uplink_bytes_burst": bytes_per_s * BURST_S,
            "band_low": dict.fromkeys(labels, BAND[0]),
            "band_high": dict.fromkeys(labels, BAND[1]),
            "audit": AuditSettings(audits_per_h=0.0),
        }
    )
    return EdgeSettings(camera=camera, detector=DetectorSettings(bundle=str(bundle)), policy=policy)


def play(
    clip: Clip, bundles: Mapping[str, Path], frames: int, bytes_per_s: float
) -> dict[str, LaneRun]:
    """Both rollouts of one camera over the same frames."""
    edge, cloud = Bundle.open(bundles["edge"]), RecordedCloud(Bundle.open(bundles["cloud"]))
    with ExitStack() as stack:
        lanes = {}
        for rollout in ROLLOUTS:
            settings = settings_of(bundles["edge"], rollout, bytes_per_s, clip.name)
            rules = stack.enter_context(open_rules(settings, edge, clip.model.limits))
            lanes[rollout] = RecordedLane(
                settings, clip.model, rules, cloud, frame_rate_hz=clip.frame_rate_hz
            )
        for sequence in range(frames):
            pixels = clip.look(sequence)
            for lane in lanes.values():
                lane.step(sequence, pixels)
        return {rollout: lane.end() for rollout, lane in lanes.items()}


def describe(clip: Clip, runs: Mapping[str, LaneRun], frames: int) -> dict[str, Any]:
    """The figures of one camera."""
    seconds = frames / clip.frame_rate_hz
    shadow, enforced = (runs[rollout] for rollout in ROLLOUTS)
    forecast = {
        "bytes": _total(shadow.metrics.escalation_bytes),
        "bytes, before encoding": _total(shadow.metrics.forecast_bytes),
        "escalations": shadow.escalations,
        "gain": _total(shadow.metrics.forecast_gain),
    }
    happened = {
        "bytes": enforced.sent_bytes,
        "bytes, before encoding": enforced.sent_bytes,
        "escalations": enforced.escalations,
        "gain": _total(enforced.metrics.realized_gain),
    }
    effects = Counter(line["effect"] for line in enforced.records if line["type"] == "correction")
    return {
        "clip": clip.name,
        "seconds": round(seconds, 1),
        "repetitions": round(frames / len(clip.pictures), 2),
        "bytes_per_camera_hour": round(happened["bytes"] * 3600 / seconds),
        "verdicts_per_minute": round(happened["escalations"] * 60 / seconds, 2),
        "forecast": {name: round(value, 3) for name, value in forecast.items()},
        "happened": {name: round(value, 3) for name, value in happened.items()},
        "off_by": {
            name: round(forecast[name] / happened[name] - 1, 4) if happened[name] else None
            for name in forecast
        },
        "sizes_far_off": round(_far_off(enforced.metrics.size_ratio), 3),
        "corrections": {str(effect): effects[str(effect)] for effect in Effect},
    }


def _total(counter: prometheus_client.Counter) -> float:
    return sum(
        sample.value
        for metric in counter.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    )


def _far_off(ratios: prometheus_client.Histogram) -> float:
    """The share of observations that are at most 0.7 or above 1.4."""
    buckets = {
        sample.labels["le"]: sample.value
        for metric in ratios.collect()
        for sample in metric.samples
        if sample.name.endswith("_bucket")
    }
    near = buckets["1.4"] - buckets["0.7"]
    return 1 - near / max(1.0, buckets["+Inf"])


def _print(figures: Mapping[str, Any]) -> None:
    print(
        f"\n{figures['clip']}: {figures['seconds']:g} s, the clip played "
        f"{figures['repetitions']:g} times; {figures['bytes_per_camera_hour'] / 1e6:.2f} MB a "
        f"camera-hour, {figures['verdicts_per_minute']:g} verdicts a minute"
    )
    print(f"{'':<24}{'shadow said':>14}{'enforced':>14}{'off by':>10}")
    for name, forecast in figures["forecast"].items():
        off = figures["off_by"][name]
        shown = "-" if off is None else f"{off:+.1%}"
        print(f"{name:<24}{forecast:>14,.1f}{figures['happened'][name]:>14,.1f}{shown:>10}")
    effects = ", ".join(f"{count} {effect}" for effect, count in figures["corrections"].items())
    print(f"corrections: {effects}")
    print(f"{figures['sizes_far_off']:.0%} of the crops took under 0.7 or over 1.4 times the bytes")


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footage")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of footage and models")
    parser.add_argument("--work", type=Path, default=WORK, help="where imported bundles are kept")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each camera")
    parser.add_argument("--bytes-per-s", type=float, default=4000.0, help="budget of each camera")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    arguments = parser.parse_args(argv)
    absent = [name for name in CLIPS if not _path(arguments.data, name).exists()]
    if absent:
        print(f"skipped: {arguments.data} has no footage {', '.join(absent)}")
        return EXIT_OK
    try:
        report = run(arguments)
    except ConfigError as error:
        print(f"footage: {error}", file=sys.stderr)
        return EXIT_CONFIG
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return EXIT_OK


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures, printed as they come."""
    bundles = import_models(arguments.data, arguments.work)
    report: dict[str, Any] = {"bytes_per_s": arguments.bytes_per_s, "band": BAND, "cameras": []}
    for name in CLIPS:
        settings = settings_of(bundles["edge"], "enforce", arguments.bytes_per_s, name)
        clip = read_clip(_path(arguments.data, name), settings)
        frames = int(arguments.minutes * 60 * clip.frame_rate_hz)
        runs = play(clip, bundles, frames, arguments.bytes_per_s)
        figures = describe(clip, runs, frames)
        report["cameras"].append(figures)
        _print(figures)
    worst = max(
        abs(camera["off_by"][name] or 0.0)
        for camera in report["cameras"]
        for name in ("bytes", "escalations")
    )
    report["worst_off_by"] = worst
    verdict = "within" if worst <= TOLERANCE else "NOT within"
    print(f"\nbytes and escalations: the shadow is off by {worst:.1%} at most, {verdict} 10 %")
    return report


def _path(data: Path, name: str) -> Path:
    return data / "footage" / f"{name}.mp4"


if __name__ == "__main__":
    raise SystemExit(main())
