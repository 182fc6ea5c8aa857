"""Compares what an evaluation measured with floors. Pure: values in, a judgement out."""

from __future__ import annotations

import difflib
import enum
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from foundation.errors import ConfigError
from model_workshop.evaluation.figures import BundleFigures, Estimate, Evaluation
from model_workshop.gating.floors import FIGURES, OVERALL, Floors, JudgedBy

_ROUNDING_POINTS = 1e-9
"""A figure that equals its limit holds it, however floats add up."""
_IMAGES_NAMED_MAX = 5


class Verdict(enum.StrEnum):
    """What became of one limit."""

    HELD = "held"
    MISSED = "MISSED"
    TOO_FEW = "too few objects"
    NOT_MEASURED = "NOT MEASURED"


@dataclass(frozen=True, slots=True)
class Case:
    """One limit and what was measured for it, in points of 0 to 100.

    Attributes:
        stratum: `overall` or the stratum's key.
        figure: what is limited.
        is_loss: whether the limit is on the loss against the reference.
        objects: how many the split has in the stratum.
        estimate: the figure or the loss with its interval.
        limit: the least figure, or the greatest loss.
    """

    stratum: str
    figure: str
    is_loss: bool
    objects: int
    estimate: Estimate
    limit: float

    @property
    def name(self) -> str:
        """What is limited, in words."""
        return f"{self.figure} loss" if self.is_loss else self.figure


@dataclass(frozen=True, slots=True)
class Ruling:
    """What became of one limit.

    Attributes:
        case: the limit.
        verdict: held or not.
        refuses: whether it keeps the model from becoming a bundle.
        reason: the verdict in words; names the stratum.
    """

    case: Case
    verdict: Verdict
    refuses: bool
    reason: str

    @property
    def words(self) -> str:
        """The verdict in the table."""
        if self.verdict is Verdict.TOO_FEW:
            return self.reason.removeprefix(f"{self.case.stratum}: ")
        return self.verdict


@dataclass(frozen=True, slots=True)
class Judgement:
    """Every limit with its verdict, and why a model is refused.

    Attributes:
        figures: what was measured of the model.
        rulings: one for each limit.
        reasons: why it is refused; empty where it passes.
    """

    figures: BundleFigures
    rulings: tuple[Ruling, ...]
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the model may become a bundle."""
        return not self.reasons

    @property
    def counts(self) -> dict[str, int]:
        """How many limits have each verdict."""
        return dict(Counter(ruling.verdict.value.lower() for ruling in self.rulings))

    def table(self) -> str:
        """Every limit with objects, figure, interval and verdict, a line each."""
        rows = [("stratum", "figure", "objects", "measured", "95 % interval", "limit", "verdict")]
        for ruling in self.rulings:
            case = ruling.case
            rows.append(
                (
                    case.stratum,
                    case.name,
                    str(case.objects),
                    _points(case.estimate.value),
                    f"{_points(case.estimate.low)} to {_points(case.estimate.high)}",
                    f"{'<=' if case.is_loss else '>='} {case.limit:g}",
                    ruling.words,
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        left = {0, 1, 6}
        lines = []
        for row in rows:
            cells = (
                cell.ljust(width) if column in left else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)


def judge(evaluation: Evaluation, floors: Floors) -> Judgement:
    """Holds the last bundle of an evaluation against floors.

    Args:
        evaluation: of the model alone, or of the reference and then the model where floors limit
            losses.
        floors: what is demanded.

    Raises:
        ConfigError: floors name a stratum that the split does not have.
    """
    figures = evaluation.bundles[-1]
    counts = {f"class/{label}": 0 for label in evaluation.split.labels}
    counts |= {one.key: one.objects for one in figures.strata}
    check_strata(floors.named_strata, counts)
    limits_of = {False: floors.floors_points, True: floors.losses}
    rulings: list[Ruling] = []
    for stratum, objects in {OVERALL: evaluation.split.objects, **counts}.items():
        for is_loss, limits in limits_of.items():
            if limits is not None:
                measured = _measured(evaluation, stratum, is_loss=is_loss)
                for figure, limit in limits.of(stratum).given():
                    case = Case(stratum, figure, is_loss, objects, measured[figure], limit)
                    rulings.append(_rule(case, floors, limits.judged_by))
    reasons = [ruling.reason for ruling in rulings if ruling.refuses]
    if all(ruling.verdict is Verdict.TOO_FEW for ruling in rulings):
        reasons.append("no limit was judged: every stratum that has one is too small")
    return Judgement(figures, tuple(rulings), (*_failures(evaluation), *reasons))


def _failures(evaluation: Evaluation) -> list[str]:
    """What no figure shows: images on which a bundle fails, as though they showed nothing."""
    failures = []
    # A reference that fails has less to lose, and so hides a loss.
    for bundle in evaluation.bundles:
        name = "model" if bundle is evaluation.bundles[-1] else "reference"
        failed = bundle.failed_images
        if failed:
            named = ", ".join(map(str, failed[:_IMAGES_NAMED_MAX]))
            more = ", ..." if len(failed) > _IMAGES_NAMED_MAX else ""
            failures.append(
                f"the {name} fails on {len(failed)} of {evaluation.split.images} images "
                f"(id {named}{more})"
            )
    return failures


def check_strata(named: Iterable[str], known: Iterable[str]) -> None:
    """Compares the keys of strata that floors name with those there are.

    Raises:
        ConfigError: a named one is not there.
    """
    there = sorted(known)
    for key in sorted(set(named) - set(there)):
        near = difflib.get_close_matches(key, there, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(there)}"
        raise ConfigError(
            f"The floors name the stratum {key!r}, which the split does not have; {hint}",
            remedy="Correct the key, or take a split that shows such objects",
        )


def _measured(evaluation: Evaluation, stratum: str, *, is_loss: bool) -> dict[str, Estimate]:
    """Figures or losses of a stratum in points; without a value where nothing was measured."""
    source: Any
    if is_loss:
        source, sign = evaluation.comparisons[-1].of(stratum), -100.0
    else:
        figures = evaluation.bundles[-1]
        source = figures.overall if stratum == OVERALL else figures.stratum(stratum)
        sign = 100.0
    nothing = Estimate(value=None)
    return {figure: _scaled(getattr(source, figure, nothing), sign) for figure in FIGURES}


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    scaled = [
        None if value is None else factor * value + 0.0  # never minus nothing
        for value in (estimate.value, estimate.low, estimate.high)
    ]
    value, low, high = scaled if factor > 0 else (scaled[0], scaled[2], scaled[1])
    return Estimate(value=value, low=low, high=high)


def _rule(case: Case, floors: Floors, judged_by: JudgedBy) -> Ruling:
    end = case.estimate.high if case.is_loss else case.estimate.low
    judged = case.estimate.value if judged_by is JudgedBy.POINT else end
    if case.stratum != OVERALL and case.objects < floors.objects_min:
        verdict, refuses = Verdict.TOO_FEW, floors.too_few_objects == "refuse"
        reason = f"too few objects: {case.objects} < {floors.objects_min}"
    elif judged is None:
        verdict, refuses = Verdict.NOT_MEASURED, True
        reason = f"{case.name} could not be measured"
    else:
        excess = judged - case.limit if case.is_loss else case.limit - judged
        refuses = excess > _ROUNDING_POINTS
        verdict = Verdict.MISSED if refuses else Verdict.HELD
        bound = "" if judged_by is JudgedBy.POINT else " at the bound of its 95 % interval"
        relation = "is over" if case.is_loss else "is below"
        reason = f"{case.name} {judged:.2f}{bound} {relation} {case.limit:g} points"
    return Ruling(case, verdict, refuses, f"{case.stratum}: {reason}")


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
