"""Decision thresholds of a bundle by what they are for: physical defects over their tracks.

A threshold chosen on single pictures is too low for tracks, whose score is the best of some two
hundred frames. So the edge node is run over a validation line, as fast as it goes, and the one
threshold for all classes is taken that has the highest F1 per physical defect.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from edge_node.config import EdgeSettings
from foundation.bundle import Bundle
from foundation.errors import HardcaseError
from foundation.manifest import ClassThresholds, Thresholds
from foundation.settings import load_settings
from reference_line.evaluation import Claim, RunTruth, Score, edge_claims, evaluate, run_truth
from reference_line.every_proposal import ask_about_every_proposal
from reference_line.line import Line
from reference_line.records import RunRecords, read_records

VALIDATION_SEEDS = (201, 202)
TEST_SEEDS = (301, 302)
FRAMES = 2700
BAND_LOW = 0.1
"""Where the escalation band begins: below it there is hardly a defect left to find (decision 28),
and what is found there costs a crop to tell."""


_GRID = np.arange(0.05, 0.99, 0.01)
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LineRun:
    """What an edge bundle made of a line, every frame of it."""

    line: Line
    settings: EdgeSettings
    records: RunRecords

    @property
    def last_sequence(self) -> int:
        """Number of the run's last frame."""
        return self.records.frames[-1].sequence

    def truth(self, claims: Sequence[Claim]) -> RunTruth:
        """What judging these claims needs."""
        return run_truth(self.line, self.last_sequence, claims)


def run_line(bundle: Path, seed: int, folder: Path, *, frames: int = FRAMES) -> LineRun:
    """Runs the edge node over a line, unpaced and alone.

    Args:
        bundle: the edge bundle.
        seed: of the line.
        folder: for settings and results.
        frames: how many; 2700 show some 160 defects.

    Raises:
        HardcaseError: the edge node failed; what it said is in the message.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, results = folder / "edge.yaml", folder / "results.jsonl"
    document = {
        "source": {
            "kind": "line",
            "pace": "unpaced",
            "parameters": {"seed": seed, "frames_max": frames},
        },
        "detector": {"bundle": str(bundle.resolve())},
        "deadline": {"deadline_s": 60.0},
        "results": {"path": str(results)},
        "telemetry": {"port": 0},
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    results.unlink(missing_ok=True)
    command = [sys.executable, "-m", "edge_node", "run", "--config", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise HardcaseError(f"The edge node failed on line {seed}: {ended.stderr[-2000:]}")
    with results.open(encoding="utf-8") as lines:
        records = read_records(lines)
    return LineRun(Line(seed), load_settings(path, EdgeSettings), records)


def fit_edge(bundle: Bundle, runs: Sequence[LineRun]) -> Thresholds:
    """Thresholds of an edge bundle from what it saw in some runs.

    The escalation band ends half-way from the report threshold to certainty.
    """
    wide = Thresholds(default=_all_at(0.0))
    claims = [
        edge_claims(run.records.tracks, wide, detections_min=run.settings.tracks.min_detections)
        for run in runs
    ]
    report = _middle_of_best(_sweep(claims, runs))
    return _thresholds(bundle, low=BAND_LOW, report=report, high=(1 + report) / 2)


def fit_cloud(bundle: Bundle, runs: Sequence[LineRun]) -> Thresholds:
    """Thresholds of a cloud bundle from its answers about every track of some runs.

    Its report threshold only: a cloud model escalates nothing.
    """
    claims = cloud_claims(bundle, runs)
    report = _middle_of_best(_sweep(claims, runs))
    band = bundle.thresholds.default
    low, high = min(band.escalate_low, report), max(band.escalate_high, report)
    return _thresholds(bundle, low=low, report=report, high=high)


def cloud_claims(bundle: Bundle, runs: Sequence[LineRun]) -> list[list[Claim]]:
    """What a cloud bundle says about every track, at any score worth considering."""
    wide = dataclasses.replace(bundle, thresholds=Thresholds(default=_all_at(float(_GRID[0]))))
    return [
        ask_about_every_proposal(run.records, run.line, wide, run.settings, threads=1)
        for run in runs
    ]


def total_score(claims: Sequence[Sequence[Claim]], runs: Sequence[LineRun]) -> Score:
    """Counts over all classes and runs."""
    scores = [evaluate(c, run.truth(c)).overall for c, run in zip(claims, runs, strict=True)]
    return Score(
        sum(score.right for score in scores),
        sum(score.wrong for score in scores),
        sum(score.missed for score in scores),
    )


def recall_by_size(
    claims: Sequence[Sequence[Claim]], runs: Sequence[LineRun]
) -> dict[str, dict[str, float | int]]:
    """Share of the defects found, by the square root of their area in native pixels."""
    sizes = [evaluate(c, run.truth(c)).sizes for c, run in zip(claims, runs, strict=True)]
    table: dict[str, dict[str, float | int]] = {}
    for of_runs in zip(*sizes, strict=True):
        found, defects = sum(one.found for one in of_runs), sum(one.defects for one in of_runs)
        name = f"{of_runs[0].low_px:g} to {of_runs[0].high_px:g} px"
        table[name] = {"recall": round(found / max(1, defects), 4), "defects": defects}
    return table


def above(claims: Sequence[Sequence[Claim]], threshold: float) -> list[list[Claim]]:
    """The claims of each run that reach a threshold."""
    return [[claim for claim in of_run if claim.score >= threshold] for of_run in claims]


def _sweep(claims: Sequence[Sequence[Claim]], runs: Sequence[LineRun]) -> Array:
    """F1 at every threshold of the grid."""
    return np.array([total_score(above(claims, float(t)), runs).f1 for t in _GRID])


def _middle_of_best(f1: Array) -> float:
    """One defect more or less is luck, so the middle of all that is as good as the best."""
    return float(np.median(_GRID[f1 >= f1.max() - 0.005]))


def _thresholds(bundle: Bundle, *, low: float, report: float, high: float) -> Thresholds:
    values = {"report": report, "escalate_low": low, "escalate_high": high}
    rounded = {name: round(value, 3) for name, value in values.items()}
    return bundle.thresholds.model_copy(update={"default": ClassThresholds(**rounded)})


def _all_at(score: float) -> ClassThresholds:
    return ClassThresholds(report=score, escalate_low=score, escalate_high=1.0)
