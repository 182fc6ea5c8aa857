"""Both services as processes that can be killed and started again, with settings of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
import psutil
import yaml
from prometheus_client.parser import text_string_to_metric_families

from reference_line.demo_plan import BUNDLES, free_ports

HOST = "127.0.0.1"
READY_S = 120.0
_POLL_S = 0.05


class Service:
    """One service; its log is kept in its folder, over all its lives.

    Attributes:
        telemetry_port: Where it serves /readyz and /metrics.
        telemetry_host: The address that it does so at.
        prefix: Put before its command, to run it elsewhere or otherwise.
        environment: Added to that of this process.
    """

    def __init__(self, module: str, command: str, folder: Path, document: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._settings = folder / "settings.yaml"
        self._command = [sys.executable, "-m", module, command, "--config", str(self._settings)]
        self.telemetry_host = HOST
        self.prefix: tuple[str, ...] = ()
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        [self.telemetry_port] = free_ports(1)
        self.configure(document)

    def configure(self, document: Mapping[str, Any]) -> None:
        """Settings of its next life."""
        self._settings.write_text(yaml.safe_dump(dict(document)), encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it, and does not wait."""
        with (self._folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [*self.prefix, *self._command],
                cwd=self._folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Waits until it takes work."""
        until = time.monotonic() + READY_S
        while not self._answers():
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"{self._command} ended:\n{self.last_words()}")
            if time.monotonic() > until:
                raise RuntimeError(f"{self._command} is not ready:\n{self.last_words()}")
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """SIGKILL, to all that it has started."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def stop(self, timeout_s: float = 60.0) -> int:
        """SIGTERM; returns its exit status."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(timeout_s)
        self._process = None
        return status

    @property
    def is_running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def process(self) -> psutil.Process:
        """As the system sees it."""
        if self._process is None:
            raise RuntimeError("it does not run")
        return psutil.Process(self._process.pid)

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Samples by name and sorted labels."""
        url = f"http://{self.telemetry_host}:{self.telemetry_port}/metrics"
        with urllib.request.urlopen(url, timeout=5.0) as reply:
            text = reply.read().decode()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def last_words(self) -> str:
        """The end of its log."""
        return (self._folder / "log.txt").read_text(errors="replace")[-2000:]

    def _answers(self) -> bool:
        url = f"http://{self.telemetry_host}:{self.telemetry_port}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=1.0):
                return True
        except (urllib.error.URLError, OSError):
            return False


def escalator(folder: Path, port: int, **settings: Any) -> Service:
    """An escalator with the reference line's model on one thread."""
    service = Service("cloud_escalator", "serve", folder, {})
    service.configure(
        {
            "bundle": str((BUNDLES / "cloud-reference").resolve()),
            "listen": f"{HOST}:{port}",
            "telemetry_listen": f"{HOST}:{service.telemetry_port}",
            "drain_s": 1.0,
            "inference": {"threads": 1},
            **settings,
        }
    )
    return service


def edge_document(service: Service, folder: Path, port: int, **changes: Any) -> dict[str, Any]:
    """Settings of an edge node on the reference line, with a spool and a ledger."""
    return {
        "camera": "line",
        "source": {
            "kind": "line",
            "pace": "realtime",
            "frame_rate_hz": 30.0,
            "parameters": {"seed": 4},
        },
        "detector": {"bundle": str((BUNDLES / "edge-reference").resolve())},
        "escalator": {"address": f"{HOST}:{port}"},
        "spool": {"folder": str(folder / "spool")},
        "results": {"path": str(folder / "results.jsonl")},
        "telemetry": {"port": service.telemetry_port},
        **changes,
    }


def edge(folder: Path, port: int, **changes: Any) -> Service:
    """An edge node."""
    service = Service("edge_node", "run", folder, {})
    service.configure(edge_document(service, folder, port, **changes))
    return service


def calm_source(folder: Path, seconds: int) -> dict[str, Any]:
    """A source of so many pictures without objects, one a second; writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    first = folder / "0000.png"
    cv2.imwrite(str(first), np.full((960, 1280, 3), 128, np.uint8))
    for number in range(1, seconds):
        (folder / f"{number:04}.png").hardlink_to(first)
    return {"kind": "images", "uri": str(folder), "pace": "realtime", "frame_rate_hz": 1.0}
