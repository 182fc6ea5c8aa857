"""An evaluation as tables in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from model_workshop.datasets import Picture
from model_workshop.evaluation.detecting import Watch
from model_workshop.evaluation.figures import Estimate, Evaluation, StratumFigures
from model_workshop.evaluation.samples import OVERALL
from model_workshop.evaluation.wording import (
    OVERALL_ROWS,
    STRATUM_COLUMNS,
    column_names,
    difference,
    direction,
    interval,
    points,
    size,
    warnings,
)

_CLASSES_MAX = 20
"""Beyond that only the weakest classes are printed; files hold them all."""
_PLAIN_WIDTH = 140
_TONES = {"better": "green", "worse": "red", "same": "default"}


def open_console() -> Console:
    """A console that does not fold tables where the output is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=_PLAIN_WIDTH, highlight=False)


def progress(console: Console, name: str) -> Watch:
    """Shows how many pictures a bundle has seen."""

    def watch(pictures: Iterable[Picture]) -> Iterable[Picture]:
        return track(list(pictures), f"{name} …", console=console, transient=True)

    return watch


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Prints all bundles, their differences from the first, and loudly what speaks against them."""
    split, protocol = evaluation.split, evaluation.protocol
    for warning in warnings(evaluation):
        console.print(Text(f"!!! {warning}.", style="bold white on red"))
    console.print(
        f"[bold]{split.name}[/]: {split.images} images, {split.objects} objects. In points; 95 % "
        f"intervals over images, {protocol.resamples} resamples."
    )
    console.print(_overall(evaluation))
    if len(evaluation.bundles) == 1:
        console.print(_strata_of_one(evaluation))
    else:
        for kind, title in STRATUM_COLUMNS:
            console.print(_strata_side_by_side(evaluation, kind, title))
    hidden = len(evaluation.bundles[0].strata) - len(_strata(evaluation))
    if hidden:
        console.print(f"{hidden} stronger classes are in --json and --html only.")


def _overall(evaluation: Evaluation) -> Table:
    bundles = evaluation.bundles
    table = _table("All objects", "", *column_names(bundles))
    for kind, title in OVERALL_ROWS:
        table.add_row(title, *(_value(getattr(one.overall, kind)) for one in bundles))
        changes = [getattr(one.of(OVERALL), kind, None) for one in evaluation.comparisons]
        if any(changes):
            table.add_row("  against the first", "", *(_change(one) for one in changes if one))
    rows: dict[str, Iterable[str | Text]] = {
        "false alarms an image": (
            f"{one.overall.false_alarms_per_image.value or 0:.2f}" for one in bundles
        ),
        "best F1 at score": (
            f"{100 * one.overall.f1_best:.1f} at {one.overall.f1_best_threshold:.2f}"
            for one in bundles
        ),
        "AR": (points(Estimate(value=one.overall.recall_max)) for one in bundles),
        "calibration error, raw": (_value(one.raw.error) for one in bundles),
        "calibration error, calibrated": (_value(one.calibrated.error) for one in bundles),
        "model": (size(one.model_bytes) for one in bundles),
    }
    for title, cells in rows.items():
        table.add_row(title, *cells)
    return table


def _strata_of_one(evaluation: Evaluation) -> Table:
    table = _table("By kind of object", "", "objects", *(title for _, title in STRATUM_COLUMNS))
    for stratum in _listed(evaluation, table):
        figures = (getattr(stratum, kind) for kind, _ in STRATUM_COLUMNS)
        table.add_row(_name(stratum), str(stratum.objects), *(_value(one) for one in figures))
    return table


def _strata_side_by_side(evaluation: Evaluation, kind: str, title: str) -> Table:
    first, *others = column_names(evaluation.bundles)
    pairs = [column for name in others for column in (name, "difference")]
    table = _table(f"{title} by kind of object", "", "objects", first, *pairs)
    for stratum in _listed(evaluation, table):
        cells = [_value(getattr(stratum, kind))]
        for bundle, comparison in zip(evaluation.bundles[1:], evaluation.comparisons, strict=True):
            own, change = bundle.stratum(stratum.key), comparison.of(stratum.key)
            cells += [_value(getattr(own, kind)), _change(getattr(change, kind))]
        table.add_row(_name(stratum), str(stratum.objects), *cells)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left", no_wrap=True)
    return table


def _listed(evaluation: Evaluation, table: Table) -> Iterator[StratumFigures]:
    """The strata worth a line, with a rule in the table between dimensions."""
    dimension = ""
    for stratum in _strata(evaluation):
        if dimension and stratum.dimension != dimension:
            table.add_section()
        dimension = stratum.dimension
        yield stratum


def _strata(evaluation: Evaluation) -> list[StratumFigures]:
    strata = evaluation.bundles[0].strata
    classes = [one for one in strata if one.dimension == "class"]
    if len(classes) > _CLASSES_MAX:
        classes = sorted(classes, key=lambda one: one.ap50.value or 0.0)[:_CLASSES_MAX]
    return classes + [one for one in strata if one.dimension != "class"]


def _name(stratum: StratumFigures) -> Text:
    text = Text(f"{stratum.dimension} ", style="dim")
    text.append(stratum.name, style="default")
    if stratum.span != stratum.name:
        text.append(f" ({stratum.span})", style="dim")
    return text


def _value(estimate: Estimate) -> Text:
    return Text.assemble(points(estimate), (f"  {interval(estimate):>11}", "dim"))


def _change(estimate: Estimate) -> Text:
    words = f"  {interval(estimate, signed=True):>11}"
    return Text.assemble((difference(estimate), _TONES[direction(estimate)]), (words, "dim"))
