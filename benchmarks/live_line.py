"""Deadline hits and memory of the real processes at 30 frames a second.

    python -m benchmarks.live_line [--duration-s S] [--rounds N] [--arm ARM] [--json FILE]

Both services run as in the demo, without its video and its judging. Rounds alternate between two
arms, so that both see the same machine: the edge node alone, and with a live escalator that shares
the machine at a lower priority, as in the demo. Memory is what `/proc` says is resident, of the
edge node without its camera's board renderer, which is a process of its own; its growth is a
straight line through the second half of the run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from reference_line.demo_plan import BUNDLES, DemoPlan, prepare
from reference_line.optics import FRAME_RATE_HZ
from reference_line.processes import ServiceProcess
from reference_line.records import FrameRecord, RunRecords, read_records

LINE_SEED = 4
ESCALATOR_NICENESS = 10
SAMPLE_S = 1.0
READY_S = 60.0
END_S = 30.0
ARMS = ("alone", "escalator")


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of one arm gave: its records and resident megabytes by service."""

    records: RunRecords
    resident_mb: dict[str, list[float]]


@contextlib.contextmanager
def services(plan: DemoPlan) -> Iterator[dict[str, ServiceProcess]]:
    """Starts the services of a plan and leaves nothing running."""
    with contextlib.ExitStack() as stack:
        running = {}
        if plan.escalator is not None:
            running["escalator"] = stack.enter_context(
                ServiceProcess(
                    "cloud escalator",
                    ["cloud_escalator", "serve", "--config", "escalator.yaml"],
                    folder=plan.escalator_folder,
                    telemetry_port=plan.escalator_port,
                    niceness=ESCALATOR_NICENESS,
                )
            )
            running["escalator"].wait_ready(READY_S)
        running["edge"] = stack.enter_context(
            ServiceProcess(
                "edge node",
                ["edge_node", "run", "--config", "edge.yaml"],
                folder=plan.edge_folder,
                telemetry_port=plan.edge_port,
            )
        )
        running["edge"].wait_ready(READY_S)
        yield running


def run_arm(arm: str, duration_s: float, folder: Path) -> Run:
    """Plays the line once."""
    plan = prepare(
        folder,
        seed=LINE_SEED,
        duration_s=duration_s,
        with_escalator=arm == "escalator",
        bundles=BUNDLES,
    )
    resident: dict[str, list[float]] = {"edge": [], "escalator": []}
    with services(plan) as running:
        watched = {name: psutil.Process(service.pid) for name, service in running.items()}
        while running["edge"].is_running:
            for name, process in watched.items():
                with contextlib.suppress(psutil.NoSuchProcess):
                    megabytes = process.memory_info().rss / 1e6
                    if megabytes:
                        resident[name].append(megabytes)
            time.sleep(SAMPLE_S)
        running["edge"].wait_end(END_S)
        if "escalator" in running:
            running["escalator"].ask_to_stop()
            running["escalator"].wait_end(END_S)
    with plan.results.open(encoding="utf-8") as lines:
        return Run(read_records(lines), resident)


def deadline_figures(frames: list[FrameRecord]) -> dict[str, float]:
    """Shares of the frames by outcome, and quantiles of the latency of those published."""
    figures = {
        f"{outcome}_percent": 100.0 * sum(f.outcome == outcome for f in frames) / len(frames)
        for outcome in ("on_time", "late", "coasted", "dropped", "failed")
    }
    published = [f.latency_s for f in frames if f.outcome in ("on_time", "late", "coasted")]
    for quantile in (50, 99, 99.9):
        figures[f"latency_ms_p{quantile:g}"] = float(np.percentile(published, quantile)) * 1e3
    figures["frames"] = float(len(frames))
    return figures


def memory_figures(megabytes: list[float]) -> dict[str, float]:
    """Largest resident size, and growth over the second half of the run."""
    late = megabytes[len(megabytes) // 2 :]
    seconds = np.arange(len(late)) * SAMPLE_S
    slope = float(np.polyfit(seconds, late, 1)[0]) if len(late) > 2 else 0.0
    return {"resident_mb_max": max(megabytes), "growth_mb_per_min": slope * 60.0}


def main() -> None:
    """Measures, prints and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duration-s", type=float, default=30.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--arm", choices=ARMS, help="run this one alone")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    arms = (options.arm,) if options.arm else ARMS
    runs: dict[str, list[Run]] = {arm: [] for arm in arms}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(options.rounds):
            for arm in arms[:: 1 if number % 2 == 0 else -1]:
                runs[arm].append(run_arm(arm, options.duration_s, Path(scratch) / "run"))
                print(f"round {number + 1} of {options.rounds}: {arm} done", flush=True)
    result: dict[str, dict[str, float]] = {}
    for arm, done in runs.items():
        frames = [frame for run in done for frame in run.records.frames]
        result[f"edge, {arm}"] = deadline_figures(frames)
        for service in ("edge", "escalator"):
            sampled = [
                memory_figures(r.resident_mb[service]) for r in done if r.resident_mb[service]
            ]
            if sampled:
                result.setdefault(f"{service}, {arm}", {}).update(
                    {name: max(one[name] for one in sampled) for name in sampled[0]}
                )
    names = list(dict.fromkeys(name for figures in result.values() for name in figures))
    print(
        f"\n{options.rounds} x {options.duration_s:.0f} s an arm, {FRAME_RATE_HZ:g} frames a second"
    )
    print(f"{'':24}" + "".join(f"{title:>22}" for title in result))
    for name in names:
        cells = (figures.get(name) for figures in result.values())
        print(f"{name:24}" + "".join(f"{'' if c is None else f'{c:.2f}':>22}" for c in cells))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
