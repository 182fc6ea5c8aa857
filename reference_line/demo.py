"""The demo: both services as real processes on the reference line, then what it was worth.

The edge node and its camera run at normal priority; the escalator, which in life is another
machine, yields to them with `nice`, and so does the demo itself, which in life is not there.
Everything that costs time (judging, pictures) happens after both have ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from foundation.errors import ConfigError
from reference_line.analysis import Analysis, analyse, jpeg_sizes
from reference_line.demo_plan import BUNDLES, DemoPlan, prepare, seen_in_training
from reference_line.line import Line
from reference_line.live import ResultsTail, Sample, Scraper
from reference_line.optics import FRAME_RATE_HZ
from reference_line.processes import ServiceProcess
from reference_line.records import RunRecords, read_records

if TYPE_CHECKING:
    from rich.console import Console

_READY_S = 60.0
_END_S = 30.0
_ESCALATOR_NICENESS = 10
_DEMO_NICENESS = 5
_SHOW_S = 0.25
_SCRAPE_S = 1.0
_SCRAPE_AT_END_S = 0.05


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line asks for.

    Attributes:
        duration_s: how long the camera runs.
        seed: of the line.
        out: folder for everything that is written.
        summary: a second place for the summary, if wanted.
        bundles: folder with the pair; None takes the shipped one.
        with_video: whether to make the annotated video.
        with_escalator: whether there is anybody to ask.
    """

    duration_s: float
    seed: int
    out: Path
    summary: Path | None
    bundles: Path | None
    with_video: bool
    with_escalator: bool


def run_demo(options: DemoOptions) -> None:
    """Runs the demo and prints what came of it.

    Raises:
        ConfigError: an extra, a bundle or a place to write is missing.
        HardcaseError: a process failed.
    """
    try:
        from rich.console import Console

        from reference_line.report import write_report
        from reference_line.terminal import print_result
        from reference_line.video import write_video
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The demo needs the package {error.name}", remedy='pip install "hardcase[demo]"'
        ) from error
    console = Console()
    plan = prepare(
        options.out,
        seed=options.seed,
        duration_s=options.duration_s,
        with_escalator=options.with_escalator,
        bundles=options.bundles or BUNDLES,
    )
    if seen_in_training(plan):
        console.print(
            f"Seed {plan.seed} is the one that these bundles were trained on: they know these "
            "boards, and the figures will flatter them. Choose another --seed.",
            style="yellow",
        )
    load_before = os.getloadavg()[0]
    with _interruptible() as stop:
        samples = _run_services(plan, console, stop)
    records = _read_results(plan)
    files = {"results": plan.results}
    with console.status("Asking the cloud about every proposal, off-line"):
        analysis = analyse(plan, records, samples, threads=os.cpu_count() or 1)
    if options.with_video:
        with console.status("Drawing the video"):
            files["video"] = write_video(plan, analysis)
    with console.status("Writing the report"):
        files["report"] = write_report(plan, analysis)
    analysis.summary["machine"] = {
        "cpus": os.cpu_count(),
        "load_average_before": round(load_before, 2),
    }
    files["summary"] = _write_summary(plan, analysis, options.summary)
    print_result(console, analysis.summary)
    for name, path in files.items():
        console.print(f"{name:8} {_shown(path)}", highlight=False, soft_wrap=True)


def _run_services(plan: DemoPlan, console: Console, stop: threading.Event) -> list[Sample]:
    """Runs both services until the camera has ended or `stop` is set; returns what was scraped."""
    with contextlib.ExitStack() as stack:
        escalator = None
        if plan.escalator is not None:
            escalator = stack.enter_context(_escalator(plan))
        jpeg_bytes = jpeg_sizes(Line(plan.seed), 1)[0]
        if escalator is not None:
            escalator.wait_ready(_READY_S)
        edge = stack.enter_context(_edge(plan))
        os.nice(_DEMO_NICENESS)
        edge.wait_ready(_READY_S)
        samples = _watch(plan, edge, escalator, console, stop, jpeg_bytes)
        edge.wait_end(_END_S)
        if escalator is not None:
            escalator.ask_to_stop()
            escalator.wait_end(_END_S)
    return samples


def _escalator(plan: DemoPlan) -> ServiceProcess:
    return ServiceProcess(
        "cloud escalator",
        ["cloud_escalator", "serve", "--config", "escalator.yaml"],
        folder=plan.escalator_folder,
        telemetry_port=plan.escalator_port,
        niceness=_ESCALATOR_NICENESS,
    )


def _edge(plan: DemoPlan) -> ServiceProcess:
    return ServiceProcess(
        "edge node",
        ["edge_node", "run", "--config", "edge.yaml"],
        folder=plan.edge_folder,
        telemetry_port=plan.edge_port,
    )


def _watch(
    plan: DemoPlan,
    edge: ServiceProcess,
    escalator: ServiceProcess | None,
    console: Console,
    stop: threading.Event,
    jpeg_bytes: int,
) -> list[Sample]:
    from reference_line.terminal import LiveView

    tail = ResultsTail(plan.results)
    scraper = Scraper(plan.edge_port)
    samples: list[Sample] = []
    duration_s = plan.frames / FRAME_RATE_HZ
    scrape_at = show_at = 0.0
    stopping_until: float | None = None
    view = LiveView(
        console,
        duration_s=duration_s,
        deadline_s=plan.edge.deadline.deadline_s,
        jpeg_bytes=jpeg_bytes,
    )
    with view:
        while edge.is_running:
            now_s = scraper.elapsed_s
            if escalator is not None and not escalator.is_running:
                raise escalator.failure()
            if stop.is_set() and stopping_until is None:
                edge.ask_to_stop()
                stopping_until = now_s + _END_S
            last_due = duration_s + _END_S if stopping_until is None else stopping_until
            if now_s > last_due + plan.edge.drain_s:
                break
            if now_s >= scrape_at:
                sample = scraper.scrape()
                if sample is not None:
                    samples.append(sample)
                # The counters' last state is wanted, and they go when the process goes.
                ending = stopping_until is not None or now_s > duration_s - _SCRAPE_S
                scrape_at = now_s + (_SCRAPE_AT_END_S if ending else _SCRAPE_S)
            if now_s >= show_at:
                show_at = now_s + _SHOW_S
                tail.follow()
                view.show(now_s, tail, samples[-1] if samples else None)
            time.sleep(_SCRAPE_AT_END_S)
    return samples


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turns the first Ctrl-C or SIGTERM into an event; a second one ends the demo at once."""
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, known in before.items():
            signal.signal(number, known)


def _read_results(plan: DemoPlan) -> RunRecords:
    try:
        with plan.results.open(encoding="utf-8") as lines:
            return read_records(lines)
    except OSError as error:
        raise ConfigError(
            f"Cannot read the edge node's results {plan.results}: {error.strerror}",
            remedy="Look into log.txt beside it",
        ) from error


def _write_summary(plan: DemoPlan, analysis: Analysis, also: Path | None) -> Path:
    text = json.dumps(analysis.summary, indent=2) + "\n"
    path = plan.folder / "summary.json"
    for target in (path, also):
        if target is None:
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, "utf-8")
        except OSError as error:
            raise ConfigError(
                f"Cannot write the summary to {target}: {error.strerror}",
                remedy="Give --summary a file that can be written",
            ) from error
    return path


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
