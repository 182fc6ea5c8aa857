"""Both services as processes with the certificates of a quick start, and a device taken back."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from certificates.__main__ import main as hardcase_certs
from tests.support.prometheus import free_port

BOUND_S = 120.0
SITE, CAMERA = "plant", "cam 1"


@contextlib.contextmanager
def service(log: Path, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A service that runs while the context lasts; what it says goes to a file."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, arguments)], stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=BOUND_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(log: Path, text: str, *processes: subprocess.Popen[bytes]) -> None:
    """Waits until a service has said something."""
    until = time.monotonic() + BOUND_S
    while text not in log.read_text("utf-8"):
        assert all(process.poll() is None for process in processes), log.read_text("utf-8")
        assert time.monotonic() < until, log.read_text("utf-8")
        time.sleep(0.1)


@pytest.fixture
def write_settings(tmp_path: Path, repository: Path) -> Callable[[int], tuple[Path, Path]]:
    """Writes the settings of both sides for a port, with certificates; returns both files."""
    certs, bundles = tmp_path / "certs", repository / "reference_line" / "bundles"
    made = hardcase_certs(["quickstart", SITE, CAMERA, "--host", "localhost", "--out", str(certs)])
    assert made == 0

    def tls(name: str) -> dict[str, str]:
        return {
            "ca": str(certs / "ca.crt"),
            "certificate": str(certs / f"{name}.crt"),
            "key": str(certs / f"{name}.key"),
        }

    def write(port: int) -> tuple[Path, Path]:
        escalator = {
            "bundle": str(bundles / "cloud-reference"),
            "listen": f"127.0.0.1:{port}",
            "telemetry_listen": "127.0.0.1:0",
            "tls": {**tls("localhost"), "revoked": str(certs / "revoked.crl")},
        }
        edge = {
            "site": SITE,
            "camera": CAMERA,
            "source": {"kind": "line"},
            "detector": {"bundle": str(bundles / "edge-reference")},
            "escalator": {"address": f"localhost:{port}", "tls": tls("plant-cam%201")},
            "results": {"path": str(tmp_path / "results.jsonl")},
            "telemetry": {"port": 0},
        }
        files = (tmp_path / "escalator.yaml", tmp_path / "edge.yaml")
        for path, document in zip(files, (escalator, edge), strict=True):
            path.write_text(yaml.safe_dump(document), "utf-8")
        return files

    return write


@pytest.mark.slow
def test_device_is_served_until_it_is_revoked(
    write_settings: Callable[[int], tuple[Path, Path]], tmp_path: Path
) -> None:
    """Then the edge says why it is refused and goes on; neither log holds a line of a key."""
    escalator_file, edge_file = write_settings(free_port())
    escalator_log, edge_log = tmp_path / "escalator.log", tmp_path / "edge.log"
    certs, results = tmp_path / "certs", tmp_path / "results.jsonl"
    with service(escalator_log, "cloud_escalator", "serve", "--config", escalator_file) as cloud:
        wait_for(escalator_log, "ready: escalations", cloud)
        with service(edge_log, "edge_node", "run", "--config", edge_file) as edge:
            wait_for(edge_log, "is connected and serves", edge, cloud)
            revoked = ["revoke", str(certs / "plant-cam%201.crt"), "--ca", str(certs)]
            assert hardcase_certs(revoked) == 0
            wait_for(edge_log, "refuses this node: The certificate was revoked", edge, cloud)
            wait_for(escalator_log, "a client is refused (revoked)", edge, cloud)
            before = results.stat().st_size
            until = time.monotonic() + BOUND_S
            while results.stat().st_size == before:
                assert edge.poll() is None
                assert time.monotonic() < until
                time.sleep(0.1)
    said = escalator_log.read_text("utf-8") + edge_log.read_text("utf-8")
    keys = [line for key in certs.glob("*.key") for line in key.read_text().splitlines()]
    assert len(keys) > 6
    assert not any(line in said for line in keys)
    assert "Traceback" not in said
