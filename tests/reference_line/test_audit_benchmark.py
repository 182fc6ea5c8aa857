"""The benchmark of the audit, on a line of a few seconds and on one written down by hand."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.audit import audit_day, estimates_by_name, holds_whole, main, tell_day
from benchmarks.kept import KeptFrame, KeptLine, KeptTrack
from foundation.errors import EXIT_OK
from foundation.escalations import Region

NOTHING = np.zeros((0, 4), np.float32)


def line_of(frames: int, *, wrong_every: int) -> KeptLine:
    """A line whose frames each end one track, of which every so-many-th one is wrong."""
    tracks = tuple(
        KeptTrack(
            track_id=number,
            ended_at=number,
            board=number // 100,
            score=0.95 if number % 2 else 0.5,
            reported=bool(number % 2),
            wrong=number % wrong_every == 0,
            wrong_for_cloud=number % (2 * wrong_every) == 0,
        )
        for number in range(frames)
    )
    return KeptLine((KeptFrame(NOTHING, NOTHING),) * frames, tracks, frames // 100 + 1)


def test_day_tells_every_track_once_and_the_truth_of_all() -> None:
    """The true rates are those of the line, the estimate knows as many units but a first few."""
    moments = tell_day([line_of(900, wrong_every=5), line_of(600, wrong_every=5)])
    assert len(moments) == 1500
    units = [unit for moment in moments for unit, _ in moment.ended]
    assert len(set(units)) == len(units) == 1500
    assert all(a.now_ns < b.now_ns for a, b in itertools.pairwise(moments))
    for by_cloud, rate in ((False, 0.2), (True, 0.1)):
        estimate, truth = audit_day(moments, 1, 60.0, by_cloud=by_cloud)
        rates = estimates_by_name(estimate)
        tracks = (truth["reported"] + truth["dismissed"]) / 2
        assert tracks == pytest.approx(rate, abs=0.01)
        assert 700 <= rates["reported"].kept <= 750
        assert rates["reported"].answered > 100
        assert rates["reported"].lost > 10
        assert rates["reported"].rate.low <= truth["reported"] <= rates["reported"].rate.high
        assert truth["empty"] == 0.0


def test_object_is_in_a_place_only_whole() -> None:
    """As the crop's border would cut it."""
    place = Region(100, 100, 200, 200)
    assert holds_whole(place, np.array([[0, 0, 9, 9], [100, 190, 110, 200]], np.float32))
    assert not holds_whole(place, np.array([[95, 150, 110, 160]], np.float32))
    assert not holds_whole(place, NOTHING)


def test_benchmark_plays_a_line_once_and_writes_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second time the line is read from the work folder."""
    figures = tmp_path / "figures.json"
    arguments = ["--lines", "5", "--frames", "40", "--runs", "3", "--audits-per-h", "3600"]
    arguments += ["--work", str(tmp_path), "--json", str(figures)]
    assert main(arguments) == EXIT_OK
    first = json.loads(figures.read_text(encoding="utf-8"))
    (played,) = tmp_path.glob("*-5-40")
    written_at = (played / "results.jsonl").stat().st_mtime_ns
    assert main(arguments) == EXIT_OK
    assert (played / "results.jsonl").stat().st_mtime_ns == written_at
    assert json.loads(figures.read_text(encoding="utf-8")) == first
    overall = first["judges"]["labels"]["3600"]["overall"]
    assert overall["runs"] == 3
    assert 0 < overall["audits"] <= overall["kept"]
    assert overall["mean_low"] <= overall["mean_estimate"] <= overall["mean_high"]
    assert "covered" in capsys.readouterr().out
