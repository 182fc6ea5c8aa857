"""An evaluation as one HTML page that needs nothing but itself.

Style sheet, charts and pictures are inside the page; it asks the network for nothing and follows
the reader's choice of light or dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jinja2

from model_workshop.evaluation import wording
from model_workshop.evaluation.charts import COLOURS, forest, precision_recall, reliability_plot
from model_workshop.evaluation.figures import (
    Curve,
    Estimate,
    Evaluation,
    StratumDifference,
    StratumFigures,
)
from model_workshop.evaluation.gallery import Card, picture_uri, worst_cards
from model_workshop.evaluation.measure import Grounds, Measured
from model_workshop.evaluation.samples import OVERALL

_CURVES_MAX = 24
_DIMENSIONS = {
    "size": "Size: the object's own size, or the square root of its box's area",
    "area": "COCO's fixed areas, by COCO's own rule",
    "contrast": "Contrast: how the object's pixels differ from those around it",
    "crowding": "Crowding: how near the next object is",
    "rarity": "Rarity: classes by number of objects",
    "class": "Class",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A stratum in all bundles.

    Attributes:
        name: of the stratum.
        span: what belongs to it.
        objects: how many there are.
        images: how many images show one.
        forest: AP50-95 of all bundles, drawn.
        cells: for every bundle its figures, and for all but the first the differences.
    """

    name: str
    span: str
    objects: int
    images: int
    forest: str
    cells: tuple[tuple[StratumFigures, StratumDifference | None], ...]


def render_page(evaluation: Evaluation, measured: Sequence[Measured], grounds: Grounds) -> str:
    """Writes the page.

    Args:
        evaluation: what is said.
        measured: the same bundles with their detections, for the pictures.
        grounds: the split that they were measured on.

    Raises:
        ConfigError: a picture cannot be read.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("model_workshop.evaluation", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "points": wording.points,
        "interval": wording.interval,
        "difference": wording.difference,
        "direction": wording.direction,
        "size": wording.size,
    }
    galleries = [worst_cards(one, grounds) for one in measured]
    return environment.get_template("page.html.j2").render(
        evaluation=evaluation,
        names=wording.column_names(evaluation.bundles),
        headline=headline(evaluation),
        warnings=wording.warnings(evaluation),
        overall_rows=wording.OVERALL_ROWS,
        stratum_columns=wording.STRATUM_COLUMNS,
        changes=[one.of(OVERALL) for one in evaluation.comparisons],
        curves=precision_recall([_curve(one.curves, "all") for one in evaluation.bundles]),
        class_curves=_class_curves(evaluation),
        reliability=[
            reliability_plot(one.raw, one.calibrated, position)
            for position, one in enumerate(evaluation.bundles)
        ],
        dimensions=_rows(evaluation),
        galleries=galleries,
        pictures=_pictures(galleries, grounds),
        colours=COLOURS,
    )


def headline(evaluation: Evaluation) -> str:
    """What the page says, in a sentence."""
    first, *others = evaluation.bundles
    names = wording.column_names(evaluation.bundles)
    if not others:
        return f"{names[0]} reaches AP50-95 {wording.points(first.overall.ap50_95)}"
    if len(others) == 1:
        change = evaluation.comparisons[0].of(OVERALL)
        if change is not None and change.ap50_95.value is not None:
            amount = wording.points(Estimate(value=abs(change.ap50_95.value)))
            word = wording.direction(change.ap50_95)
            if word == "same":
                return (
                    f"{names[1]} and {names[0]} are {amount} points of AP50-95 apart, "
                    "which may be chance"
                )
            return f"{names[1]} is {amount} points of AP50-95 {word} than {names[0]}"
    best = max(
        zip(names, evaluation.bundles, strict=True),
        key=lambda pair: pair[1].overall.ap50_95.value or 0.0,
    )
    return (
        f"{len(names)} bundles side by side; {best[0]} leads with AP50-95 "
        f"{wording.points(best[1].overall.ap50_95)}"
    )


def _curve(curves: Sequence[Curve], name: str) -> Curve | None:
    return next((one for one in curves if one.name == name), None)


def _class_curves(evaluation: Evaluation) -> list[tuple[str, int, str]]:
    """Label, objects and small curves of the classes with most objects."""
    classes = [one for one in evaluation.bundles[0].strata if one.dimension == "class"]
    classes.sort(key=lambda one: -one.objects)
    return [
        (
            one.name,
            one.objects,
            precision_recall(
                [_curve(bundle.curves, one.name) for bundle in evaluation.bundles], small=True
            ),
        )
        for one in classes[:_CURVES_MAX]
    ]


def _rows(evaluation: Evaluation) -> list[tuple[str, str, list[Row]]]:
    """Dimension, its title and its strata; the order of the page."""
    found = []
    for dimension, title in _DIMENSIONS.items():
        strata = [one for one in evaluation.bundles[0].strata if one.dimension == dimension]
        if strata:
            found.append((dimension, title, [_row(evaluation, one.key) for one in strata]))
    return found


def _row(evaluation: Evaluation, key: str) -> Row:
    cells = []
    for position, bundle in enumerate(evaluation.bundles):
        own = bundle.stratum(key)
        change = evaluation.comparisons[position - 1].of(key) if position else None
        if own is not None:
            cells.append((own, change))
    own = cells[0][0]
    drawn = forest([figures.ap50_95 for figures, _ in cells])
    return Row(own.name, own.span, own.objects, own.images, drawn, tuple(cells))


def _pictures(galleries: Sequence[Sequence[Card]], grounds: Grounds) -> dict[int, tuple[Card, str]]:
    """Every picture that is shown, once, by image id."""
    cards = {card.image_id: card for gallery in galleries for card in gallery}
    return {
        picture.image_id: (cards[picture.image_id], picture_uri(picture.read()))
        for picture in grounds.split.pictures
        if picture.image_id in cards
    }
