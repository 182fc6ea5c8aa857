"""The README's section on your own camera and model, tried word for word on real input."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

SECTION = "## On your own camera and model"
MODELS = ("yolox_nano.onnx", "yolov8s_640.onnx", "coco80_names.txt")
VIDEO = "car-detection.mp4"
VIDEO_FRAMES = 377
PORTS = (7443, 9101, 9102)
START_S = 90.0


def blocks(repository: Path, language: str) -> list[str]:
    """The section's code blocks in one language, in order."""
    text = (repository / "README.md").read_text("utf-8")
    section = text.partition(SECTION)[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def commands(repository: Path) -> list[list[str]]:
    """The section's commands; switching to the environment is what the test has already done."""
    lines = "".join(blocks(repository, "sh")).splitlines()
    assert lines[0] == "source .venv/bin/activate"
    return [line.split() for line in lines[1:]]


def start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """Starts a command of the distribution in a folder, found where the interpreter is."""
    bin_folder = Path(sys.executable).parent
    path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [str(bin_folder / command[0]), *command[1:]],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Waits for a command and shows what it said when it failed."""
    said, _ = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, said.decode()


def wait_ready(process: subprocess.Popen[bytes], port: int) -> None:
    """Waits until a service takes work."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    process.kill()
    pytest.fail(process.communicate()[0].decode())


@pytest.fixture
def folder(shared_data: Path, tmp_path: Path) -> Path:
    """A folder with the files that the section names."""
    for port in PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"port {port}, which the README's commands take, is in use")
    for name in MODELS:
        shutil.copy(shared_data / "models" / name, tmp_path)
    shutil.copy(shared_data / "footage" / VIDEO, tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.shared_data
def test_own_camera_and_model(repository: Path, folder: Path) -> None:
    """Two imports, an escalator, an edge node by flags, one by settings: every frame is there."""
    *imports, serve, run, run_by_settings = commands(repository)
    for command in imports:
        finish(start(command, folder), START_S)
    escalator = start(serve, folder)
    try:
        wait_ready(escalator, 9102)
        finish(start(run, folder), 120)
        check_results(folder / "results.jsonl")
        (settings,) = blocks(repository, "yaml")
        (folder / "edge.yaml").write_text(settings, "utf-8")
        edge = start(run_by_settings, folder)
        wait_ready(edge, 9101)
        edge.send_signal(signal.SIGTERM)
        finish(edge, 60)
    finally:
        escalator.send_signal(signal.SIGTERM)
        finish(escalator, 60)


def check_results(path: Path) -> None:
    """Every frame ended once, tracks were asked about, and some verdict changed the record."""
    records: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    frames = [record["sequence"] for record in records if record["type"] == "frame"]
    assert sorted(frames) == list(range(VIDEO_FRAMES))
    types = Counter(record["type"] for record in records)
    assert types["track"] > 0
    assert types["correction"] > 0
    # What the verdicts say is the models' business: neither has seen cars from above.
    asked = [record["escalation"] for record in records if record["type"] == "track"]
    assert any(one and one["outcome"] == "answered" for one in asked)
