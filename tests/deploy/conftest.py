"""The demo, running, with a real Prometheus beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support import prometheus
from tests.support.prometheus import PrometheusServer

DURATION_S = 240
START_S = 120.0
STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class RunningDemo:
    """Where the two services of a running demo serve their metrics, as host:port."""

    edge: str
    escalator: str

    def metrics(self, address: str) -> str:
        """Returns what a service exposes now."""
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as reply:
            text: str = reply.read().decode()
            return text


@pytest.fixture(scope="session")
def running_demo(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningDemo]:
    """The demo as `make demo` runs it, long enough for every test; stopped when they are done."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "reference_line", "demo", "--no-video", "--out", str(folder)]
    with (folder / "demo.log").open("wb") as log:
        demo = subprocess.Popen(
            [*command, "--duration-s", str(DURATION_S)],
            cwd=repository,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TERM": "dumb"},
        )
    try:
        yield wait_until_served(demo, folder)
    finally:
        stop(demo)


@pytest.fixture(scope="session")
def scraping_prometheus(
    repository: Path, running_demo: RunningDemo, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrometheusServer]:
    """A real Prometheus with the shipped configuration, pointed at the demo's ports."""
    if prometheus.installed() is None:
        pytest.skip("Prometheus is not installed (Debian's package prometheus)")
    configuration = yaml.safe_load(
        (repository / "deploy" / "prometheus" / "prometheus.yml").read_text("utf-8")
    )
    targets = {"edge": [running_demo.edge], "escalator": [running_demo.escalator]}
    folder = tmp_path_factory.mktemp("prometheus")
    with PrometheusServer(folder, configuration, targets) as server:
        yield server


def wait_until_served(demo: subprocess.Popen[bytes], folder: Path) -> RunningDemo:
    """Reads the ports from the settings that the demo writes and waits until both answer."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and demo.poll() is None:
        try:
            edge = yaml.safe_load((folder / "edge" / "edge.yaml").read_text("utf-8"))
            escalator = yaml.safe_load((folder / "escalator" / "escalator.yaml").read_text("utf-8"))
            running = RunningDemo(
                f"127.0.0.1:{edge['telemetry']['port']}", escalator["telemetry_listen"]
            )
            for address in (running.edge, running.escalator):
                with urllib.request.urlopen(f"http://{address}/readyz", timeout=1):
                    pass
        except (OSError, TypeError):
            time.sleep(0.2)
        else:
            return running
    pytest.fail(f"The demo did not start:\n{(folder / 'demo.log').read_text('utf-8')}")


def stop(demo: subprocess.Popen[bytes]) -> None:
    """Ends the demo: the first signal ends its services, the next what it makes of the run."""
    until = time.monotonic() + STOP_S
    while demo.poll() is None and time.monotonic() < until:
        demo.send_signal(signal.SIGTERM)
        try:
            demo.wait(timeout=20)
        except subprocess.TimeoutExpired:
            continue
    if demo.poll() is None:
        demo.kill()
        demo.wait()
