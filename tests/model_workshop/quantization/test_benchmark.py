from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.int8 import main
from foundation.errors import EXIT_CONFIG, EXIT_OK
from tests.support.bundles import write_bundle


def test_benchmark_prints_and_writes_both_sides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Times of both, the ratio with its spread, and the operators that limit each."""
    bundles = [str(write_bundle(tmp_path / name)) for name in ("float", "int8")]
    figures = tmp_path / "figures.json"
    assert main([*bundles, "--rounds", "20", "--json", str(figures)]) == EXIT_OK
    document = json.loads(figures.read_text(encoding="utf-8"))
    for side in ("float", "int8"):
        times = document["timing"][side]
        assert 0 < times["wall_min_ms"] <= times["wall_p50_ms"] <= times["wall_p99_ms"]
        assert "Conv" in {row["operator"] for row in document["operators"][side]}
    ratio = document["timing"]["faster_cpu"]
    assert 0 < ratio["least"] <= ratio["most"]
    assert "times as fast by cpu time" in capsys.readouterr().out


def test_benchmark_names_a_missing_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The path is in the message."""
    assert main([str(tmp_path / "absent"), str(tmp_path / "absent")]) == EXIT_CONFIG
    assert "absent" in capsys.readouterr().err
