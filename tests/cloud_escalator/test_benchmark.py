"""The programs that print the escalator's figures run; what they print depends on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

OVERLOAD = ["--seconds", "3", "--calm", "2", "--peak", "2", "--factor", "1.5", "--polite", "1"]


@pytest.mark.parametrize(
    ("program", "arguments", "figure"),
    [
        ("escalator_throughput", ["--rounds", "1", "--crops", "64"], "ratio"),
        ("escalator_memory", ["--duration-s", "3"], "resident_mb_max"),
        ("overload", OVERLOAD, "goodput_of_peak"),
    ],
)
def test_benchmark_writes_its_figures(
    program: str, arguments: list[str], figure: str, bundle_path: Path, tmp_path: Path
) -> None:
    """A short run serves a real process, ends by itself and leaves a JSON file."""
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", f"benchmarks.{program}", "--bundle", str(bundle_path)]
    subprocess.run([*command, *arguments, "--json", str(out)], check=True, timeout=120)
    assert json.loads(out.read_text())[figure] > 0
