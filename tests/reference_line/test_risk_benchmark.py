"""The benchmark of the target risk, on tracks written down by hand and on a line too short."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.kept import KeptLine, KeptTrack
from benchmarks.risk import fit_doubt, gather, main, measure
from edge_node.logic.risk import Promise, RiskTarget
from foundation.errors import EXIT_CONFIG, ConfigError


def line_of(boards: int, seed: int) -> KeptLine:
    """Twelve tracks a board: what is reported is the likelier to be there the higher its score."""
    random = np.random.default_rng(seed)
    tracks = []
    for number in range(12 * boards):
        score = float(random.uniform(0.3, 1.0))
        there = random.random() < score**4
        reported = score >= 0.8
        tracks.append(
            KeptTrack(number, number, number // 12, score, reported, there is not reported, None)
        )
    return KeptLine((), tuple(tracks), boards)


def test_doubt_is_what_is_likely_to_be_wrong() -> None:
    """Low where the edge is sure: reported with a high score, dismissed with a low one."""
    line = line_of(200, 1)
    doubt = fit_doubt(line.tracks)
    doubts = np.array([doubt.of(track) for track in line.tracks])
    wrong = np.array([track.wrong for track in line.tracks])
    sure = doubts <= np.median(doubts)
    assert wrong[sure].mean() < 0.5 * wrong[~sure].mean()
    with pytest.raises(ConfigError, match="too few"):
        fit_doubt(line.tracks[:40])


def test_splits_never_share_a_board_and_the_promise_is_counted() -> None:
    """Boards are numbered over all lines, and each half knows its own alone."""
    doubt = fit_doubt(line_of(200, 1).tracks)
    units = gather([line_of(70, 2), line_of(50, 3)], doubt)
    assert units.board_count == 120
    assert units.boards.max() == 119
    halves = units.on(np.arange(80)), units.on(np.arange(80, 120))
    assert sum(len(half.doubts) for half in halves) == len(units.doubts)
    assert [half.board_count for half in halves] == [80, 40]
    assert all(half.boards.min() >= 0 for half in halves)
    confident = measure(units, RiskTarget(0.1, Promise.CONFIDENCE), 20)
    assert 18 <= confident["held"] <= confident["splits"] == 20
    assert 0 < confident["kept"] < 1
    expected = measure(units, RiskTarget(0.1, Promise.EXPECTATION), 20)
    assert expected["kept"] > confident["kept"]
    assert expected["mean_risk"] == pytest.approx(0.1, abs=0.02)
    assert "groups" in measure(units, RiskTarget(0.01, Promise.CONFIDENCE), 1)["refused"]


def test_benchmark_refuses_a_line_that_is_too_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rather than promising anything from a few tracks."""
    arguments = ["--doubt-lines", "5", "--lines", "5", "--frames", "5", "--work", str(tmp_path)]
    assert main(arguments) == EXIT_CONFIG
    assert "too few to fit a doubt" in capsys.readouterr().err
