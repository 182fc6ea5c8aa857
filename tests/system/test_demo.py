from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from foundation.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_OK
from reference_line.records import RunRecords, read_records
from reference_line.truth import LABELS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DURATION_S = 8
FRAMES = 30 * DURATION_S
PATIENCE_S = 240.0
SCORES = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Run:
    folder: Path
    output: str
    summary: dict[str, Any]
    records: RunRecords


def command(out: Path, *arguments: str) -> list[str]:
    """The demo's command line, as `make demo` calls it."""
    return [sys.executable, "-m", "reference_line", "demo", "--out", str(out), *arguments]


def run_demo(out: Path, *arguments: str) -> Run:
    """Runs a demo to its end and reads what it left."""
    done = subprocess.run(
        command(out, *arguments), capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == EXIT_OK, done.stdout + done.stderr
    with (out / "edge" / "results.jsonl").open(encoding="utf-8") as lines:
        records = read_records(lines)
    return Run(out, done.stdout, json.loads((out / "summary.json").read_text()), records)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One short demo with everything."""
    folder = tmp_path_factory.mktemp("demo")
    also = folder / "elsewhere" / "figures.json"
    options = ("--duration-s", str(DURATION_S), "--seed", "3", "--summary", str(also))
    run = run_demo(folder / "out", *options)
    assert json.loads(also.read_text()) == run.summary
    return run


def test_every_frame_has_one_outcome(run: Run) -> None:
    """The camera delivers its frames, and each is in the results exactly once."""
    frames = run.summary["frames"]
    assert set(frames) == {"on_time", "late", "coasted", "dropped", "failed"}
    assert sum(frames.values()) == FRAMES
    assert [frame.sequence for frame in run.records.frames] == list(range(FRAMES))


def test_every_escalation_has_one_outcome_and_one_reason(run: Run) -> None:
    """Both breakdowns sum to the same total; nothing is left pending."""
    escalations = run.summary["escalations"]
    assert sum(escalations["by_outcome"].values()) == escalations["total"]
    assert sum(escalations["by_reason"].values()) == escalations["total"]
    ends = {t.escalation.id: t.escalation.outcome for t in run.records.tracks if t.escalation}
    assert "pending" not in ends.values()
    assert len(ends) <= escalations["total"]
    answered = {one.escalation_id for one in run.records.corrections}
    assert len(answered) <= escalations["by_outcome"]["answered"]


def test_bytes_are_counted_when_anything_was_answered(run: Run) -> None:
    """An answered escalation was sent; every frame as JPEG would have been far more."""
    summary = run.summary
    if summary["escalations"]["by_outcome"]["answered"]:
        assert summary["uplink_bytes"] > 0
    assert summary["all_frames_jpeg_bytes"] > 10_000 * FRAMES


def test_three_systems_are_judged_by_the_same_truth(run: Run) -> None:
    """Right and missed are all defects, for each system, overall and per class."""
    for key in ("edge_only", "hybrid", "cloud_only"):
        system = run.summary[key]
        assert system["right"] + system["missed"] == run.summary["defects"] > 0
        assert set(system["classes"]) == set(LABELS)
        for name in ("right", "wrong", "missed"):
            assert sum(one[name] for one in system["classes"].values()) == system[name]
        for score in (system, *system["classes"].values()):
            assert all(0.0 <= score[name] <= 1.0 for name in SCORES)


def test_latencies_are_ordered(run: Run) -> None:
    """Quantiles are what their names say."""
    frame, verdict = run.summary["frame_latency_s"], run.summary["verdict_latency_s"]
    assert 0 < frame["p50"] <= frame["p95"] <= frame["p99"]
    assert set(verdict) == {"p50", "p95"}
    if run.records.corrections:
        assert 0 < verdict["p50"] <= verdict["p95"]


def test_everything_is_saved_and_said_where(run: Run) -> None:
    """Report, video, summary, results, and settings that can be used again."""
    for name in ("report.html", "line.mp4", "summary.json"):
        assert (run.folder / name).stat().st_size > 1000
        assert name in run.output
    assert "with escalation" in run.output
    edge = yaml.safe_load((run.folder / "edge" / "edge.yaml").read_text())
    escalator = yaml.safe_load((run.folder / "escalator" / "escalator.yaml").read_text())
    assert edge["escalator"]["address"] == escalator["listen"]
    assert edge["source"]["parameters"] == {"seed": 3, "frames_max": FRAMES}


def test_the_edge_runs_alone(tmp_path: Path) -> None:
    """Without an escalator nothing is asked, sent or changed."""
    run = run_demo(tmp_path / "out", "--duration-s", "3", "--no-escalator", "--no-video")
    summary = run.summary
    assert sum(summary["frames"].values()) == 90
    assert summary["escalations"]["total"] == summary["uplink_bytes"] == 0
    assert summary["verdict_latency_s"] == {"p50": None, "p95": None}
    assert summary["edge_only"]["right"] == summary["hybrid"]["right"]
    assert not (tmp_path / "out" / "line.mp4").exists()
    assert not (tmp_path / "out" / "escalator").exists()


def start(out: Path) -> subprocess.Popen[str]:
    """Starts a demo that would last for ten minutes, and waits until frames come."""
    demo = subprocess.Popen(
        command(out, "--duration-s", "600", "--no-video"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    results = out / "edge" / "results.jsonl"
    wait_until(lambda: results.exists() and results.stat().st_size > 0, demo)
    return demo


def wait_until(holds: Callable[[], bool], demo: subprocess.Popen[str]) -> None:
    """Waits for a condition while the demo runs."""
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert demo.poll() is None, demo.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


def none_is_left(processes: list[psutil.Process]) -> bool:
    """Whether all have ended; the board renderer ends by itself a moment after the edge node."""
    until = time.monotonic() + PATIENCE_S
    while any(_lives(process) for process in processes):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_an_interrupted_demo_still_tells_what_it_saw(tmp_path: Path) -> None:
    """Ctrl-C stops the camera, lets verdicts come in, and prints the table; nobody is left."""
    demo = start(tmp_path / "out")
    children = psutil.Process(demo.pid).children(recursive=True)
    demo.send_signal(signal.SIGINT)
    output, errors = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == EXIT_OK, errors
    assert "per physical defect" in output
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert 0 < sum(summary["frames"].values()) < 600 * 30
    assert children
    assert none_is_left(children)


def test_a_dead_process_is_named(tmp_path: Path) -> None:
    """When the escalator dies the demo says so, fails, and leaves nobody behind."""
    demo = start(tmp_path / "out")
    children = psutil.Process(demo.pid).children(recursive=True)
    (escalator,) = [child for child in children if "cloud_escalator" in child.cmdline()]
    escalator.kill()
    _, errors = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == EXIT_FAILURE
    assert "The cloud escalator ended with exit code -9" in errors
    assert "log.txt" in errors
    assert none_is_left(children)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bundles", "nowhere"), "There is no bundle at"),
        (("--out", "occupied"), "Choose another with --out"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, arguments: tuple[str, str], message: str) -> None:
    """A missing part is the operator's to mend: exit code 78, the thing and the remedy."""
    (tmp_path / "occupied").write_text("a file, not a folder")
    option, name = arguments
    line = [*command(tmp_path / "out"), option, str(tmp_path / name)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == EXIT_CONFIG
    assert message in done.stderr
