"""What a service tells about itself over HTTP: /metrics, /healthz, /readyz.

Served by a thread of its own, so that a scrape never waits for the event loop and a stuck loop can
be told from a busy one: /healthz is 200 only while the loop still beats. /readyz is 200 only while
every named condition holds, and lists those that do not.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import platform
import threading
from collections.abc import Callable, Iterable
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import prometheus_client

from foundation.clock import Clock, SystemClock, elapsed_s
from foundation.errors import ConfigError

_BEAT_INTERVAL_S = 0.5
_BEAT_AGE_MAX_S = 10.0
_REQUEST_TIMEOUT_S = 10.0


class Readiness:
    """Named conditions that must all hold before a service takes work. Thread-safe."""

    def __init__(self, *conditions: str) -> None:
        self._conditions = dict.fromkeys(conditions, False)

    def set(self, condition: str, holds: bool) -> None:
        """Says whether a condition holds now."""
        if condition not in self._conditions:
            raise KeyError(condition)
        self._conditions[condition] = holds

    def missing(self) -> list[str]:
        """The conditions that do not hold."""
        return [name for name, holds in self._conditions.items() if not holds]


class TelemetryServer:
    """Serves one registry; opened with `async with`.

    Attributes:
        port: where it listens; useful after asking for port 0.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: prometheus_client.CollectorRegistry,
        ready: Readiness,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._host = host
        self.port = port
        self._ready = ready
        self._metrics: Callable[..., Iterable[bytes]] = prometheus_client.make_wsgi_app(registry)
        self._clock: Clock = clock or SystemClock()
        self._beat_at_ns = self._clock.now_ns()
        self._server: WSGIServer | None = None
        self._heart: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            self._server = make_server(
                self._host, self.port, self._answer, _Server, handler_class=_Exchange
            )
        except OSError as error:
            raise ConfigError(
                f"Cannot serve telemetry on {self._host}:{self.port}: {error.strerror}",
                remedy="Choose another address or port for telemetry, or stop what is using it",
            ) from error
        self.port = int(self._server.server_port)
        threading.Thread(target=self._server.serve_forever, name="telemetry", daemon=True).start()
        self._heart = asyncio.create_task(self._beat(), name="heartbeat")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._heart is not None:
            self._heart.cancel()
        if self._server is not None:
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()

    async def _beat(self) -> None:
        while True:
            self._beat_at_ns = self._clock.now_ns()
            await asyncio.sleep(_BEAT_INTERVAL_S)

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return self._metrics(environ, start)
        if path == "/healthz":
            age_s = elapsed_s(self._beat_at_ns, self._clock.now_ns())
            return _reply(start, age_s < _BEAT_AGE_MAX_S, {"last_beat_s": round(age_s, 3)})
        if path == "/readyz":
            missing = self._ready.missing()
            return _reply(start, not missing, {"missing": missing})
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [b"There are /metrics, /healthz and /readyz.\n"]


def register_process_metrics(registry: prometheus_client.CollectorRegistry, prefix: str) -> None:
    """Adds the process's own figures and `<prefix>_build_info` to a registry."""
    # The client would add a `_created` gauge to every counter and histogram, which nobody asked for
    # and Prometheus does not read in this format.
    prometheus_client.disable_created_metrics()
    prometheus_client.ProcessCollector(registry=registry)
    prometheus_client.Gauge(
        f"{prefix}_build_info",
        "Constant 1; the labels say what is running.",
        ["version", "python", "onnxruntime"],
        registry=registry,
    ).labels(
        version=importlib.metadata.version("hardcase"),
        python=platform.python_version(),
        onnxruntime=importlib.metadata.version("onnxruntime"),
    ).set(1)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # A second process on the same port must fail and say so, instead of sharing it unnoticed.
    allow_reuse_port = False

    def server_bind(self) -> None:
        """Binds without asking DNS for the host's name, which blocks where there is no network."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _Exchange(WSGIRequestHandler):
    timeout = _REQUEST_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base names it
        """Scrapes are not news."""


def _reply(start: Callable[..., Any], good: bool, document: dict[str, Any]) -> Iterable[bytes]:
    status = "200 OK" if good else "503 Service Unavailable"
    start(status, [("Content-Type", "application/json")])
    return [json.dumps(document).encode() + b"\n"]
