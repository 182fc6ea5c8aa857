"""Makes the model of a float bundle INT8, whatever its family, and keeps everything else.

What was tried and measured goes into the model card. Scores move in INT8, so that the float model's
score calibration is not taken over, nor thresholds on it: they are fitted anew, or left out.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from foundation.bundle import Bundle
from foundation.errors import ConfigError
from foundation.manifest import Calibration, Postprocess, Thresholds
from model_workshop.assemble import MODERATE_THRESHOLDS, assemble
from model_workshop.calibration.fitting import fit_scores, score_split, with_scores
from model_workshop.datasets import Split, check_unseen, split_digest
from model_workshop.evaluation.coco import check_labels
from model_workshop.evaluation.coco import evaluate as evaluate_bundle
from model_workshop.evaluation.thresholds import score_floor
from model_workshop.gating.errors import BelowFloorError
from model_workshop.onnx_files import at_least_opset, opset_of
from model_workshop.quantization.graph import refuse_integers, weight_counts
from model_workshop.quantization.pace import compare_pace
from model_workshop.quantization.pictures import CalibrationPictures, read_calibration_pictures
from model_workshop.quantization.report import KeptRow, Pace, QuantizationReport, Size, TrialRow
from model_workshop.quantization.search import SearchResult, check_agreement, search
from model_workshop.quantization.static import quantize_weights
from model_workshop.quantization.workbench import Workbench

_SENSITIVITIES_KEPT = 10


class Mode(enum.StrEnum):
    """What becomes INT8."""

    STATIC = "static"
    DYNAMIC = "dynamic"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Attributes:
        images: directory of images from the model's domain, to calibrate with and to compare on.
        mode: static: weights and activations, with ranges from the images; dynamic: the weights of
            matrix products, with ranges as they come.
        evaluate: split on which the loss is measured and limited.
        loss_max: most that mAP50-95 may fall there, in 0..1.
        fit: split on whose detections score calibration and thresholds are fitted anew; without it
            scores are left raw.
    """

    images: Path
    mode: Mode = Mode.STATIC
    evaluate: Split | None = None
    loss_max: float = 0.01
    fit: Split | None = None


@dataclass(frozen=True, slots=True)
class QuantizedBundle:
    """An INT8 bundle and how it came about."""

    bundle: Bundle
    report: QuantizationReport


def quantize_bundle(
    bundle: Bundle, request: Request, *, say: Callable[[str], None] = lambda _: None
) -> QuantizedBundle:
    """An INT8 version of a float bundle.

    Args:
        bundle: of any family.
        request: from what and how.
        say: is told what goes on.

    Raises:
        BelowFloorError: the loss stays above the limit.
        ConfigError: the images are too few, unreadable or show nothing; a split does not fit; a
            model without matrix products shall be dynamic.
        IntegrityError: the model is INT8 already, cannot be quantized, or detects nothing in INT8.
    """
    refuse_integers(onnx.load_from_string(bundle.model), bundle.info.name)
    for split in filter(None, (request.evaluate, request.fit)):
        check_labels(bundle, split)
        check_unseen(bundle.info, split)
    pictures = read_calibration_pictures(bundle, request.images)
    say(
        f"{sum(pictures.seen)} of {len(pictures.paths)} images show the float model something; "
        f"{len(pictures.calibrating)} calibrate, {len(pictures.held_out)} are held out"
    )
    if request.mode is Mode.STATIC:
        made, report = _static(bundle, request, pictures, say)
    else:
        made, report = _dynamic(bundle, request, pictures)
    return QuantizedBundle(_finished(bundle, made, request, pictures, report), report)


def _static(
    bundle: Bundle,
    request: Request,
    pictures: CalibrationPictures,
    say: Callable[[str], None],
) -> tuple[Bundle, QuantizationReport]:
    bench = Workbench(bundle, pictures, request.evaluate)
    loss_max = None if request.evaluate is None else request.loss_max
    result = search(bench, loss_max=loss_max, say=say)
    chosen = result.chosen
    all_int8 = bench.variant(chosen.calibrator, float_nodes=bench.torn)
    float_s, all_int8_s, chosen_s = compare_pace([bundle, all_int8, chosen.bundle])
    worst = sorted(result.sensitivities, key=lambda entry: -entry.harm)[:_SENSITIVITIES_KEPT]
    report = QuantizationReport(
        mode=Mode.STATIC,
        size=Size(float_bytes=len(bundle.model), int8_bytes=len(chosen.bundle.model)),
        pace=Pace(float_s=float_s, int8_s=chosen_s, all_int8_s=all_int8_s),
        agreement=chosen.agreement,
        map50_95_float=bench.map50_95,
        map50_95=chosen.map50_95,
        calibrator=chosen.calibrator,
        calibrating_images=len(pictures.calibrating),
        held_out_images=len(pictures.held_out),
        trials=tuple(
            TrialRow(
                calibrator=trial.calibrator,
                float_blocks=len(trial.float_blocks),
                agreement=trial.agreement,
                map50_95=trial.map50_95,
            )
            for trial in (*result.trials, *result.fallbacks)
        ),
        kept_float=(*_torn_rows(bench), *_block_rows(bench, result)),
        blocks=len(bench.blocks),
        most_sensitive=tuple((entry.block.name, entry.harm) for entry in worst),
    )
    return chosen.bundle, report


def _torn_rows(bench: Workbench) -> list[KeptRow]:
    """Nodes that one scale cannot serve, by the tensor where that begins."""
    operators = {name: kind for block in bench.blocks for name, kind in block.members}
    nodes: dict[tuple[str, float], list[str]] = {}
    for name, reason in bench.torn.items():
        nodes.setdefault(reason, []).append(operators[name])
    return [
        KeptRow(
            place=f"behind {tensor}",
            nodes=len(found),
            operators=_listed(found),
            why=f"its quietest part would get {levels:.1f} of 256 levels",
        )
        for (tensor, levels), found in nodes.items()
    ]


def _block_rows(bench: Workbench, result: SearchResult) -> list[KeptRow]:
    """Blocks that are kept for their harm, without nodes that are torn in any case."""
    rows = []
    for position, entry in enumerate(result.sensitivities[: len(result.chosen.float_blocks)]):
        operators = [kind for name, kind in entry.block.members if name not in bench.torn]
        if operators:
            why = f"alone in INT8 it costs {entry.harm:.2f} of the agreement"
            if position >= result.destroyed:
                why += "; left float to hold the loss"
            row = KeptRow(
                place=entry.block.name,
                nodes=len(operators),
                operators=_listed(operators),
                why=why,
            )
            rows.append(row)
    return rows


def _listed(operators: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(operators))


def _dynamic(
    bundle: Bundle, request: Request, pictures: CalibrationPictures
) -> tuple[Bundle, QuantizationReport]:
    model = at_least_opset(onnx.load_from_string(bundle.model))
    products, convolutions = weight_counts(model)
    if not products:
        raise ConfigError(
            f"{bundle.info.name} has no matrix products, only convolutions with "
            f"{convolutions:,} weights, which dynamic INT8 leaves float",
            remedy="Use --mode static",
        )
    graph = quantize_weights(model)
    info = bundle.info.model_copy(update={"opset": opset_of(graph)})
    made = dataclasses.replace(bundle, info=info, model=graph.SerializeToString())
    agreed = pictures.agreement_of(made, pictures.held_out)
    check_agreement(bundle.info.name, agreed)
    before = after = None
    if request.evaluate is not None:
        before, after = (evaluate_bundle(b, request.evaluate).map50_95 for b in (bundle, made))
        if before - after > request.loss_max:
            raise BelowFloorError(
                f"Dynamic INT8 costs {bundle.info.name} {100 * (before - after):.1f} points of "
                f"mAP50-95, and {100 * request.loss_max:g} are allowed (--loss-max)",
                remedy="Use --mode static, which chooses ranges and leaves layers float",
            )
    float_s, int8_s = compare_pace([bundle, made])
    report = QuantizationReport(
        mode=Mode.DYNAMIC,
        size=Size(float_bytes=len(bundle.model), int8_bytes=len(made.model)),
        pace=Pace(float_s=float_s, int8_s=int8_s),
        agreement=agreed,
        map50_95_float=before,
        map50_95=after,
        held_out_images=len(pictures.held_out),
        kept_float=(
            KeptRow(
                place="convolutions",
                nodes=sum(n.op_type in {"Conv", "ConvTranspose"} for n in graph.graph.node),
                operators="Conv",
                why=f"static INT8 serves them better; {convolutions:,} of "
                f"{convolutions + products:,} weights are theirs",
            ),
        ),
    )
    return made, report


def _finished(
    source: Bundle,
    made: Bundle,
    request: Request,
    pictures: CalibrationPictures,
    report: QuantizationReport,
) -> Bundle:
    """A bundle that says what it was made from, with a smoke test and scores of its own."""
    old = source.info.model_card
    # The same inputs give the same bytes, which no time measured here would.
    figures = report.model_dump(mode="json", exclude_none=True, exclude={"pace"})
    thresholds, postprocess = _on_raw_scores(source)
    kept = dict(old.dataset_digests)
    if thresholds is not source.thresholds:
        kept.pop("scores", None)  # nothing is left that came from there
    card = old.model_copy(
        update={
            "parents": (source.digest,),
            "dataset_digests": {**kept, "calibration": pictures.digest},
            "script": f"model-workshop quantize --mode {request.mode}",
            "figures": {"quantization": figures},
        }
    )
    info = made.info.model_copy(update={"model_card": card, "postprocess": postprocess})
    bundle = assemble(info, made.model, source.smoke.pixels, thresholds=thresholds)
    if request.fit is None:
        return bundle
    fitted = with_scores(bundle, fit_scores(score_split(bundle, request.fit)))
    digests = {**card.dataset_digests, "scores": split_digest(request.fit)}
    card = card.model_copy(update={"dataset_digests": digests})
    return dataclasses.replace(fitted, info=fitted.info.model_copy(update={"model_card": card}))


def _on_raw_scores(source: Bundle) -> tuple[Thresholds, Postprocess]:
    """What to decide by without the source's calibration: its own thresholds, if it had none."""
    postprocess = source.info.postprocess
    if not source.calibration.knots:
        return source.thresholds, postprocess
    floor = score_floor(Calibration(), MODERATE_THRESHOLDS, source.labels)
    floor = min(floor, postprocess.score_floor)
    return MODERATE_THRESHOLDS, postprocess.model_copy(update={"score_floor": floor})
