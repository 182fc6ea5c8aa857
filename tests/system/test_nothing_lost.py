from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.nothing_lost import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_killed_services_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    """A few cycles of what `python -m benchmarks.nothing_lost` does two hundred times."""
    report = run(3, 5, tmp_path)
    assert report["violations"] == []
    assert report["escalations_in_the_spool"] > 0
    assert set(report["outcomes"]) == {"answered"}
    assert report["answered_at_the_edge"] == report["answered_past_the_relay"]
