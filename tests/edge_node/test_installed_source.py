"""Sources of other packages: one that hangs in its library, one that does not load."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from foundation.errors import EXIT_CONFIG, EXIT_OK
from tests.support.bundles import write_bundle
from tests.support.processes import running

pytestmark = pytest.mark.timeout(60)

BOUND_S = 30.0
HUNG = """
import threading
from edge_node.ports import Capture
from tests.support.videos import moving_squares

class Hung:
    name, live, frame_rate_hz = "hung", True, 30.0
    def __init__(self, settings, clock):
        self._clock, self._left = clock, moving_squares(10)
    def __enter__(self):
        return self
    def __exit__(self, *error):
        pass
    def read(self, stop):
        if not self._left:
            threading.Event().wait()
        stop.wait(0.1)
        return Capture(self._left.pop(0), self._clock.now_ns())
"""


def edge_node(
    folder: Path, kind: str, results: Path
) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """A running `edge-node` in whose environment a package with two sources is installed."""
    about = folder / "site" / "sources-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: sources\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[hardcase.sources]\nhung = hung_source:Hung\nbroken = absent_module:Source\n"
    )
    (folder / "site" / "hung_source.py").write_text(HUNG)
    write_bundle(folder / "bundle", 320, 240)
    words = f"run --source {kind} --bundle {folder}/bundle --results {results} --telemetry-port 0"
    packages = {"PYTHONPATH": str(folder / "site")}
    return running("edge_node", *words.split(), environment=packages)


async def test_source_that_hangs_holds_up_no_end(tmp_path: Path) -> None:
    """As one does whose disk or device is gone: tracks end, its thread is left behind."""
    results = tmp_path / "results.jsonl"

    def records(kind: str) -> list[dict[str, Any]]:
        lines = results.read_text().splitlines() if results.exists() else []
        return [record for record in map(json.loads, lines) if record["type"] == kind]

    async with edge_node(tmp_path, "hung", results) as process, asyncio.timeout(BOUND_S):
        while len(records("frame")) < 10:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
    assert process.returncode == EXIT_OK
    assert b"the source does not end" in errors
    assert len(records("frame")) == 10
    assert len(records("track")) == 2


async def test_source_that_does_not_load_is_a_package_to_correct(tmp_path: Path) -> None:
    """One line that names it, and no traceback."""
    async with edge_node(tmp_path, "broken", Path("-")) as process, asyncio.timeout(BOUND_S):
        _, errors = await process.communicate()
    assert process.returncode == EXIT_CONFIG
    assert b"The source of kind 'broken' does not load: No module named" in errors
    assert b"Traceback" not in errors
