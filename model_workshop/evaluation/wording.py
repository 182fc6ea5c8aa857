"""How figures are written, in the terminal and on the page: in points, with a real minus sign."""

from __future__ import annotations

from collections.abc import Sequence

from model_workshop.evaluation.figures import BundleFigures, Estimate, Evaluation

OVERALL_ROWS = (
    ("ap50_95", "AP50-95"),
    ("ap50", "AP50"),
    ("ap75", "AP75"),
    ("ap33", "AP33"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("f1", "F1"),
)
"""Figures of all objects that are shares."""
STRATUM_COLUMNS = (("ap50_95", "AP50-95"), ("ap50", "AP50"), ("recall", "recall"))
NOTHING = "–"  # noqa: RUF001  # the dash that tables use


def points(estimate: Estimate) -> str:
    """A share in points, such as 41.4."""
    return NOTHING if estimate.value is None else f"{100 * estimate.value:.1f}"


def interval(estimate: Estimate, *, signed: bool = False) -> str:
    """Both ends of an interval in points; nothing where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return "…".join(_number(100 * end, signed=signed) for end in (estimate.low, estimate.high))


def difference(estimate: Estimate) -> str:
    """A difference in points with its sign."""
    return NOTHING if estimate.value is None else _number(100 * estimate.value, signed=True)


def _number(value: float, *, signed: bool) -> str:
    text = f"{abs(value):.1f}"
    if text == "0.0":
        return text
    if value < 0:
        return f"\N{MINUS SIGN}{text}"
    return f"+{text}" if signed else text


def direction(estimate: Estimate) -> str:
    """`better` or `worse` where the interval of a difference leaves out 0, else `same`."""
    if estimate.low is None or estimate.high is None:
        return "same"
    return "better" if estimate.low > 0 else "worse" if estimate.high < 0 else "same"


def size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def column_names(bundles: Sequence[BundleFigures]) -> list[str]:
    """A name for every bundle, with as much of version and digest as tells namesakes apart."""
    names = [one.name for one in bundles]
    for more in ("version", "digest"):
        names = [
            f"{name} {getattr(one, more)[:8]}" if names.count(name) > 1 else name
            for name, one in zip(names, bundles, strict=True)
        ]
    return names


def warnings(evaluation: Evaluation) -> list[str]:
    """What makes figures worth less than they look: failures, and splits that are not held out."""
    return [*_failures(evaluation), *_flatteries(evaluation)]


def _flatteries(evaluation: Evaluation) -> list[str]:
    words = {
        "train": "was TRAINED on this split: all its figures flatter it",
        "scores": "has its calibration and thresholds FROM THIS SPLIT: its precision, recall, F1, "
        "false alarms and calibration error flatter it",
    }
    return [
        f"{name} {words[part]}"
        for name, one in zip(column_names(evaluation.bundles), evaluation.bundles, strict=True)
        for part in one.made_from[:1]
    ]


def _failures(evaluation: Evaluation) -> list[str]:
    """One warning for every bundle whose model failed on images; they count as empty."""
    return [
        f"{name} FAILED on {len(one.failed_images)} of {evaluation.split.images} images "
        f"(image {', '.join(map(str, one.failed_images[:5]))}"
        f"{', …' if len(one.failed_images) > 5 else ''}): "
        "its outputs were not finite numbers. These images count as empty in its figures"
        for name, one in zip(column_names(evaluation.bundles), evaluation.bundles, strict=True)
        if one.failed_images
    ]
