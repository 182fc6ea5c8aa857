from __future__ import annotations

from typing import Any

import pytest

from foundation.errors import ConfigError
from model_workshop.evaluation.figures import (
    BundleFigures,
    Comparison,
    Estimate,
    Evaluation,
    OverallFigures,
    Protocol,
    Reliability,
    SplitFacts,
    StratumDifference,
    StratumFigures,
)
from model_workshop.gating.floors import Floors
from model_workshop.gating.judgement import Verdict, judge

NOTHING = Estimate(value=None)
STRATA = {"class/red": 200, "class/blue": 0, "size/smallest": 20}


def around(value: float, width: float = 0.05) -> Estimate:
    """A figure with an interval."""
    return Estimate(value=value, low=value - width, high=value + width)


def figures(
    overall: Estimate, strata: dict[str, Estimate], failed_images: tuple[int, ...] = ()
) -> BundleFigures:
    """What might have been measured of a bundle: AP50-95 as given, recall too, nothing else."""
    others = ("ap50", "ap75", "ap33", "precision", "f1", "false_alarms_per_image")
    untold = dict.fromkeys(others, NOTHING)
    return BundleFigures(
        name="model",
        version="1",
        digest="0" * 64,
        model_bytes=1,
        failed_images=failed_images,
        detections=100,
        overall=OverallFigures(
            **untold,
            ap50_95=overall,
            recall=overall,
            balanced={},
            recall_max=None,
            f1_best=0.5,
            f1_best_threshold=0.5,
        ),
        strata=tuple(
            StratumFigures(
                dimension=key.partition("/")[0],
                name=key.partition("/")[2],
                span="",
                objects=STRATA[key],
                images=3,
                ap50_95=estimate,
                ap50=NOTHING,
                ap33=NOTHING,
                recall=NOTHING,
            )
            for key, estimate in strata.items()
        ),
        raw=Reliability(floor=0.05, error=NOTHING, bins=()),
        calibrated=Reliability(floor=0.05, error=NOTHING, bins=()),
        curves=(),
    )


def evaluation(
    *bundles: BundleFigures, differences: dict[str, Estimate] | None = None
) -> Evaluation:
    """Bundles side by side, with what the last one has more than the first."""
    rows = tuple(
        StratumDifference(key=key, ap50_95=estimate, ap50=NOTHING, recall=NOTHING)
        for key, estimate in (differences or {}).items()
    )
    return Evaluation(
        split=SplitFacts(
            name="val", digest="0" * 64, labels=("blue", "red"), images=50, objects=220
        ),
        protocol=Protocol(resamples=10, seed=1, iou_min=0.33),
        bundles=bundles,
        comparisons=(Comparison(digest="1" * 64, differences=rows),) if differences else (),
    )


def floors(**changes: Any) -> Floors:
    """Floors in points."""
    return Floors.model_validate({"objects_min": 30, "too_few_objects": "skip", **changes})


MEASURED = evaluation(
    figures(around(0.40), {"class/red": around(0.35), "size/smallest": around(0.10)})
)


@pytest.mark.parametrize(
    ("judged_by", "floor", "passed"),
    [("point", 40, True), ("point", 40.01, False), ("bound", 35, True), ("bound", 35.01, False)],
)
def test_a_figure_is_compared_as_the_file_says(judged_by: str, floor: float, passed: bool) -> None:
    """With the point, or with the lower end of its interval; equal is enough."""
    limits = {"judged_by": judged_by, "overall": {"ap50_95": floor}}
    assert judge(MEASURED, floors(floors_points=limits)).passed is passed


@pytest.mark.parametrize(
    ("judged_by", "limit", "passed"),
    [("point", 0.4, True), ("point", 0.39, False), ("bound", 0.6, True), ("bound", 0.59, False)],
)
def test_a_loss_is_compared_as_the_file_says(judged_by: str, limit: float, passed: bool) -> None:
    """0.4 points lost, at worst 0.6: the upper end is the unfavourable one."""
    lost = Estimate(value=-0.004, low=-0.006, high=0.001)
    both = evaluation(*MEASURED.bundles, *MEASURED.bundles, differences={"overall": lost})
    limits = {"judged_by": judged_by, "overall": {"ap50_95": limit}}
    judgement = judge(both, floors(losses_points_max=limits))
    assert judgement.passed is passed
    estimate = judgement.rulings[0].case.estimate
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.4, -0.1, 0.6))


def test_reasons_name_the_stratum_and_both_numbers() -> None:
    """Whoever reads only the reason knows what to improve."""
    limits = {"judged_by": "point", "strata": {"class/red": {"ap50_95": 36}}}
    judgement = judge(MEASURED, floors(floors_points=limits))
    assert judgement.reasons == ("class/red: ap50_95 35.00 is below 36 points",)


def test_the_reason_says_that_the_bound_was_judged() -> None:
    """Otherwise 40 below 36 would be read as a mistake."""
    limits = {"judged_by": "bound", "overall": {"ap50_95": 36}}
    (reason,) = judge(MEASURED, floors(floors_points=limits)).reasons
    assert reason == "overall: ap50_95 35.00 at the bound of its 95 % interval is below 36 points"


@pytest.mark.parametrize(("rule", "passed"), [("skip", True), ("refuse", False)])
def test_a_stratum_with_too_few_objects_is_said_aloud(rule: str, passed: bool) -> None:
    """20 objects say little; whether that refuses a model, the file decides."""
    strata = {"size/smallest": {"ap50_95": 90}}
    limits = {"judged_by": "point", "overall": {"ap50_95": 30}, "strata": strata}
    judgement = judge(MEASURED, floors(floors_points=limits, too_few_objects=rule))
    assert judgement.passed is passed
    assert judgement.rulings[1].verdict is Verdict.TOO_FEW
    assert "too few objects: 20 < 30" in judgement.table()


def test_a_split_on_which_no_limit_can_be_judged_refuses() -> None:
    """Nothing was held, however leniently the file takes strata that are too small."""
    limits = {"judged_by": "point", "strata": {"size/smallest": {"ap50_95": 1}}}
    judgement = judge(MEASURED, floors(floors_points=limits, too_few_objects="skip"))
    assert judgement.reasons == ("no limit was judged: every stratum that has one is too small",)


def test_every_stratum_means_every_one() -> None:
    """A class that the split does not show is too small as well, and not forgotten."""
    limits = {"judged_by": "point", "every_stratum": {"ap50_95": 30}}
    judgement = judge(MEASURED, floors(floors_points=limits))
    verdicts = {ruling.case.stratum: ruling.verdict for ruling in judgement.rulings}
    assert verdicts == {
        "class/blue": Verdict.TOO_FEW,
        "class/red": Verdict.HELD,
        "size/smallest": Verdict.TOO_FEW,
    }
    assert judgement.counts == {"held": 1, "too few objects": 2}


def test_what_was_not_measured_is_not_held() -> None:
    """No figure is no proof."""
    limits = {"judged_by": "point", "strata": {"class/red": {"recall": 1}}}
    judgement = judge(MEASURED, floors(floors_points=limits))
    assert judgement.reasons == ("class/red: recall could not be measured",)
    assert "NOT MEASURED" in judgement.table()


def test_images_on_which_the_model_fails_refuse_it() -> None:
    """Figures that hold in spite of it prove nothing about what the model would do elsewhere."""
    failing = evaluation(figures(around(0.9), {}, failed_images=tuple(range(1, 8))))
    limits = {"judged_by": "point", "overall": {"ap50_95": 30}}
    judgement = judge(failing, floors(floors_points=limits))
    assert judgement.reasons == ("the model fails on 7 of 50 images (id 1, 2, 3, 4, 5, ...)",)


def test_a_reference_that_fails_hides_a_loss() -> None:
    """It has less to lose; measured against it, nothing is proven."""
    broken = figures(around(0.1), {}, failed_images=(9,))
    both = evaluation(broken, *MEASURED.bundles, differences={"overall": around(0.3)})
    limits = {"judged_by": "point", "overall": {"ap50_95": 0.5}}
    judgement = judge(both, floors(losses_points_max=limits))
    assert judgement.reasons == ("the reference fails on 1 of 50 images (id 9)",)


@pytest.mark.parametrize(
    ("key", "hint"), [("size/smallst", "did you mean 'size/smallest'?"), ("x", "it has class/blue")]
)
def test_a_stratum_that_is_not_there_is_an_error(key: str, hint: str) -> None:
    """A floor that applies nowhere would pass everything."""
    limits = {"judged_by": "point", "strata": {key: {"ap50_95": 30}}}
    with pytest.raises(ConfigError) as caught:
        judge(MEASURED, floors(floors_points=limits))
    assert f"the stratum '{key}'" in caught.value.message
    assert hint in caught.value.message


def test_the_table_shows_every_limit_with_figure_interval_and_verdict() -> None:
    """One line each, in columns."""
    limits = {"judged_by": "point", "overall": {"ap50_95": 30}, "every_stratum": {"ap50_95": 40}}
    lines = judge(MEASURED, floors(floors_points=limits)).table().splitlines()
    assert len(lines) == 5
    assert lines[0].split() == [
        *("stratum", "figure", "objects", "measured", "95", "%", "interval", "limit", "verdict")
    ]
    assert lines[1].split() == [
        *("overall", "ap50_95", "220", "40.00", "35.00", "to", "45.00", ">=", "30", "held")
    ]
    assert lines[3].endswith("MISSED")
