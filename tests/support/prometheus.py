"""A real Prometheus for tests: Debian's binary on a free port with a data folder of its own."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

START_S = 30.0


def installed() -> str | None:
    """Return the path of the program, or None where it is not installed."""
    return shutil.which("prometheus")


class PrometheusServer:
    """Scrapes the given targets; opened with `with`.

    Args:
        folder: for its configuration and data.
        configuration: a parsed configuration; its targets are replaced.
        targets: host:port by job name.
    """

    def __init__(
        self, folder: Path, configuration: dict[str, Any], targets: dict[str, list[str]]
    ) -> None:
        self._folder = folder
        self._configuration = configuration
        self._targets = targets
        self._process: subprocess.Popen[bytes] | None = None
        self._url = ""

    def __enter__(self) -> Self:
        """Starts it and waits until it is ready.

        Raises:
            TimeoutError: it is not ready after half a minute.
        """
        path = self._folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(self._rewritten()), "utf-8")
        address = f"127.0.0.1:{free_port()}"
        self._url = f"http://{address}"
        program = installed()
        assert program is not None
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={path}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address={address}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_S
        while not self._is_ready():
            if time.monotonic() > deadline or self._process.poll() is not None:
                log_text = (self._folder / "prometheus.log").read_text("utf-8")
                self.__exit__(None, None, None)
                raise TimeoutError(f"Prometheus did not start:\n{log_text}")
            time.sleep(0.1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=START_S)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluates an expression now.

        Returns:
            The series of the answer whose value is a finite number.

        Raises:
            ValueError: Prometheus does not understand the expression.
        """
        query = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/query?{query}", timeout=10) as reply:
                document = json.load(reply)
        except urllib.error.HTTPError as error:
            raise ValueError(f"{expression}: {error.read().decode()}") from error
        series: list[dict[str, Any]] = document["data"]["result"]
        return [one for one in series if math.isfinite(float(one["value"][1]))]

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=1) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def _rewritten(self) -> dict[str, Any]:
        jobs = [
            job | {"static_configs": [{"targets": self._targets[job["job_name"]]}]}
            for job in self._configuration["scrape_configs"]
        ]
        # Tests wait for several scrapes; the shipped interval would make them wait long.
        return {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
