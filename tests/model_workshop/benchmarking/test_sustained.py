"""The last minute against the first."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_workshop.benchmarking.sustained import Minute, Sustained, frequency_hz


def minute(p50_s: float, cpu_s: float) -> Minute:
    """A minute with these costs."""
    return Minute(1000, p50_s, 2 * p50_s, cpu_s, None)


@pytest.mark.parametrize(
    ("last", "verdict"),
    [
        (minute(0.0104, 0.0104), "steady"),
        (minute(0.012, 0.012), "throttled"),
        (minute(0.020, 0.0104), "contended"),
    ],
    ids=["as before", "more work each", "only later"],
)
def test_throttling_is_told_from_company(last: Minute, verdict: str) -> None:
    """A falling clock costs processor time, other programs cost wall time."""
    assert Sustained((minute(0.010, 0.010), minute(0.010, 0.010), last)).verdict == verdict


def test_frequency_is_the_mean_of_the_cores(tmp_path: Path) -> None:
    """In hertz, though the system writes kilohertz; only of the cores that were used."""
    for core, kilohertz in ((0, "1000000"), (1, "3000000"), (2, "9000000")):
        folder = tmp_path / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{kilohertz}\n")
    assert frequency_hz((0, 1), tmp_path) == pytest.approx(2e9)
    assert frequency_hz((), tmp_path) == pytest.approx(13e9 / 3)


def test_frequency_is_unknown_where_the_system_does_not_tell(tmp_path: Path) -> None:
    """As in most virtual machines."""
    assert frequency_hz((0,), tmp_path) is None
    (tmp_path / "cpu0" / "cpufreq").mkdir(parents=True)
    (tmp_path / "cpu0" / "cpufreq" / "scaling_cur_freq").write_text("<unknown>")
    assert frequency_hz((0,), tmp_path) is None
