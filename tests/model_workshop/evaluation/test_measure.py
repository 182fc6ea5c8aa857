from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from foundation.bundle import Bundle
from foundation.errors import ConfigError, IntegrityError
from foundation.frames import Detections
from foundation.manifest import Calibration
from model_workshop.datasets import Split, read_split, split_digest
from model_workshop.evaluation.coco import evaluate
from model_workshop.evaluation.detecting import find
from model_workshop.evaluation.figures import Evaluation, read_evaluation
from model_workshop.evaluation.measure import (
    Grounds,
    Measured,
    Options,
    measure,
    measure_bundles,
    side_by_side,
)
from model_workshop.evaluation.page import render_page
from model_workshop.evaluation.wording import warnings
from tests.support.bundles import make_bundle
from tests.support.datasets import write_split
from tests.support.graphs import Family, family_bundle, family_model, replace_model

pytest.importorskip("pycocotools", reason="pycocotools is in the extra 'workshop'")
pytest.importorskip("jinja2", reason="jinja2 is in the extra 'workshop'")

_OPTIONS = Options(resamples=50)


def _split(directory: Path) -> Split:
    return read_split(write_split(directory, images=6, width=64, height=64, side=16))


def _dimmer(bundle: Bundle) -> Bundle:
    """The same model with halved scores: it reports nothing."""
    halves = dict.fromkeys(bundle.labels, ((0.0, 0.0), (1.0, 0.4)))
    return dataclasses.replace(bundle, calibration=Calibration(knots=halves))


def _fails_in_the_dark() -> Bundle:
    """The squares model, whose scores are no numbers where a picture has black cells."""
    bundle = make_bundle(name="fragile")
    model = onnx.load_from_string(bundle.model)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "nothing"))
    for node in model.graph.node:
        for position, name in enumerate(node.output):
            node.output[position] = "logits" if name == "heatmap" else name
    model.graph.node.extend(
        [
            helper.make_node("Log", ["pooled"], ["logarithm"]),
            helper.make_node("Mul", ["logarithm", "nothing"], ["trace"]),
            helper.make_node("Add", ["logits", "trace"], ["heatmap"]),
        ]
    )
    return replace_model(bundle, model.SerializeToString())


@pytest.fixture(scope="module")
def measured(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Evaluation, list[Measured], Grounds]:
    """The squares model and one that reports nothing, on six pictures."""
    split = _split(tmp_path_factory.mktemp("data") / "val")
    grounds = Grounds.prepare(split, _OPTIONS)
    bundle = make_bundle()
    both = [measure(one, find(one, split), grounds) for one in (bundle, _dimmer(bundle))]
    return side_by_side(both, grounds, _OPTIONS), both, grounds


def test_figures_are_those_of_pycocotools(
    measured: tuple[Evaluation, list[Measured], Grounds],
) -> None:
    """The same detections, accumulated here and there, for all objects and by class."""
    evaluation, _, grounds = measured
    expected = evaluate(make_bundle(), grounds.split)
    figures = evaluation.bundles[0]
    assert figures.overall.ap50_95.value == pytest.approx(expected.map50_95, abs=1e-6)
    assert figures.overall.ap50.value == pytest.approx(expected.map50, abs=1e-6)
    for label, value in expected.class_map50.items():
        stratum = figures.stratum(f"class/{label}")
        assert stratum is not None
        assert stratum.ap50.value == pytest.approx(value, abs=1e-6)


def test_evaluation_survives_its_file(
    measured: tuple[Evaluation, list[Measured], Grounds], tmp_path: Path
) -> None:
    """What is written is read back, and anything else is refused by name."""
    path = tmp_path / "evaluation.json"
    path.write_text(measured[0].model_dump_json(indent=1), encoding="utf-8")
    assert read_evaluation(path) == measured[0]
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"evaluation\.json is not an evaluation"):
        read_evaluation(path)


def test_differences_are_paired(measured: tuple[Evaluation, list[Measured], Grounds]) -> None:
    """Halved scores rank alike, image by image, so that AP differs by exactly nothing."""
    comparison = measured[0].comparisons[0]
    overall, blue = comparison.of("overall"), comparison.of("class/blue")
    assert overall is not None
    assert blue is not None
    assert (overall.ap50_95.value, overall.ap50_95.low, overall.ap50_95.high) == (0, 0, 0)
    assert (blue.ap50.value, blue.ap50.low) == (0, 0)
    assert overall.recall.high is not None
    assert overall.recall.high < 0


def test_strata_say_how_many_objects_and_images(
    measured: tuple[Evaluation, list[Measured], Grounds],
) -> None:
    """Six blue squares in six images, found by recall like the others."""
    figures = measured[0].bundles[0]
    blue = figures.stratum("class/blue")
    assert blue is not None
    assert (blue.objects, blue.images) == (6, 6)
    assert blue.recall.value is not None
    assert blue.ap50.low is not None
    assert figures.stratum("class/violet") is None


def test_few_images_give_figures_without_intervals(tmp_path: Path) -> None:
    """Four images do not say how much images differ."""
    split = read_split(write_split(tmp_path / "val", images=4, width=64, height=64, side=16))
    evaluation = measure_bundles([make_bundle()], split, options=_OPTIONS)
    overall = evaluation.bundles[0].overall
    assert overall.ap50.value is not None
    assert overall.ap50.low is None


def test_pictures_on_which_a_model_fails_are_counted(tmp_path: Path) -> None:
    """A score that is no number is not an empty picture: it is listed, and the page shouts."""
    split = _split(tmp_path / "val")
    black = np.zeros((64, 64, 3), np.uint8)
    cv2.imwrite(str(split.pictures[2].path), black)
    bundle = _fails_in_the_dark()
    grounds = Grounds.prepare(split, _OPTIONS)
    one = measure(bundle, find(bundle, split), grounds)
    evaluation = side_by_side([one], grounds, _OPTIONS)
    assert evaluation.bundles[0].failed_images == (3,)
    page = render_page(evaluation, [one], grounds)
    assert "FAILED on 1 of 6 images" in page
    assert "the model failed here" in page


def test_model_that_always_fails_is_refused(tmp_path: Path) -> None:
    """Nothing can be said of it, and the message names the bundle and the cause."""
    bundle = replace_model(make_bundle(), family_model(score_bias=float("nan")))
    with pytest.raises(IntegrityError, match=r"squares fails on every picture.*not finite"):
        measure_bundles([bundle], _split(tmp_path / "val"), options=_OPTIONS)


def test_crop_model_is_asked_at_proposals(tmp_path: Path) -> None:
    """The proposer itself sees whole frames; the other bundle says at whose proposals it was."""
    split = _split(tmp_path / "val")
    frame, crop = make_bundle(name="frame"), make_bundle(name="crop")
    evaluation = measure_bundles([frame, crop], split, proposer=frame, options=_OPTIONS)
    assert [one.proposer for one in evaluation.bundles] == [None, frame.digest]
    assert (evaluation.bundles[1].overall.recall.value or 0) > 0


def test_pictures_without_objects_have_no_figures(tmp_path: Path) -> None:
    """Nothing to find is no figure of 0, and no crash."""
    directory = write_split(tmp_path / "val", images=5, width=64, height=64)
    path = directory / "instances.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] == 2]
    path.write_text(json.dumps(document), encoding="utf-8")
    split = read_split(directory, images_max=1)
    grounds = Grounds.prepare(split, _OPTIONS)
    one = measure(make_bundle(), find(make_bundle(), split), grounds)
    evaluation = side_by_side([one], grounds, _OPTIONS)
    assert evaluation.bundles[0].overall.ap50_95.value is None
    assert evaluation.bundles[0].strata == ()
    assert "–" in render_page(evaluation, [one], grounds)  # noqa: RUF001


class _Links(HTMLParser):
    """Collects what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in {"href", "src", "data"}]


def test_page_needs_nothing_but_itself(
    measured: tuple[Evaluation, list[Measured], Grounds],
) -> None:
    """Pictures are inside, links lead into the page, and there are no scripts."""
    page = render_page(*measured)
    links = _Links()
    links.feed(page)
    assert all(link.startswith(("#", "data:image/webp;base64,")) for link in links.loaded)
    assert any(link.startswith("data:") for link in links.loaded)
    assert not {"script", "link", "iframe", "object"} & set(links.tags)
    assert "url(" not in page
    assert "@import" not in page


def test_page_shows_bundles_strata_and_worst_images(
    measured: tuple[Evaluation, list[Measured], Grounds],
) -> None:
    """Every bundle by name and digest, every dimension, every box of a shown picture."""
    evaluation, both, grounds = measured
    page = render_page(*measured)
    for bundle in evaluation.bundles:
        assert bundle.digest in page
    for words in ("Size:", "Contrast:", "Crowding:", "Rarity:", "The worst images", "blue"):
        assert words in page
    # The second bundle reports nothing: in each of its six pictures all three objects are missed.
    assert page.count("title>missed: ") >= 18
    assert not both[1].judgement.reported.any()
    assert len(grounds.split.pictures) == 6


@pytest.mark.parametrize(("part", "words"), [("train", "TRAINED on"), ("scores", "FROM THIS")])
def test_a_split_that_a_bundle_was_made_from_is_said_to_flatter(
    tmp_path: Path, part: str, words: str
) -> None:
    """Figures of the data of the fit are never given as though the data had been held out."""
    split = _split(tmp_path / "val")
    bundle = make_bundle()
    card = bundle.info.model_card.model_copy(
        update={"dataset_digests": {part: split_digest(split), "test": split_digest(split)}}
    )
    info = bundle.info.model_copy(update={"model_card": card})
    evaluation = measure_bundles(
        [bundle, dataclasses.replace(bundle, info=info)], split, options=_OPTIONS
    )
    assert [one.made_from for one in evaluation.bundles] == [(), (part,)]
    (warning,) = warnings(evaluation)
    assert words in warning


@pytest.mark.parametrize(
    ("change", "recall"),
    [({"score_floor": 0.9999}, 0.0), ({"detections_max": 1}, 1 / 3), ({}, 1.0)],
)
def test_what_a_service_never_finds_is_not_reported(
    tmp_path: Path, change: dict[str, float], recall: float
) -> None:
    """A floor above all scores would hold every floor of recall, and detect nothing in service."""
    split = read_split(write_split(tmp_path / "val", images=6, width=64, height=64, side=20))
    bundle = make_bundle()
    postprocess = bundle.info.postprocess.model_copy(update=change)
    info = bundle.info.model_copy(update={"postprocess": postprocess})
    bundle = dataclasses.replace(bundle, info=info)
    figures = measure_bundles([bundle], split, options=_OPTIONS).bundles[0].overall
    assert figures.recall.value == pytest.approx(recall)
    assert figures.ap50_95.value == pytest.approx(0.2, abs=0.1)


@pytest.mark.parametrize(
    ("family", "multi_label", "alarms"),
    [("yolov8", False, 0), ("yolov8", True, 3), ("grid", False, 3)],
)
def test_a_place_is_reported_under_as_many_classes_as_in_service(
    tmp_path: Path, family: Family, multi_label: bool, alarms: float
) -> None:
    """COCO's figures want every class of a place; a service names the best, unless it is a grid."""
    split, bundle = _split(tmp_path / "val"), family_bundle(family)
    postprocess = bundle.info.postprocess.model_copy(update={"multi_label": multi_label})
    info = bundle.info.model_copy(update={"postprocess": postprocess})
    bundle = dataclasses.replace(bundle, info=info)
    found = find(bundle, split)
    pairs = []
    for one in found.detections:
        sure = one.take(np.flatnonzero(one.scores > 0.9))
        order = np.repeat(np.arange(len(sure)), 2)
        pair, second = sure.take(order), np.arange(2 * len(sure)) % 2
        pairs.append(
            Detections(pair.boxes, pair.scores, ((pair.class_ids + second) % 3).astype(np.int32))
        )
    twice = dataclasses.replace(found, detections=tuple(pairs))
    overall = measure(bundle, twice, Grounds.prepare(split, _OPTIONS)).figures.overall
    assert overall.recall.value == 1.0
    assert overall.false_alarms_per_image.value == alarms
