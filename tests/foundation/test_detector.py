"""Detector: real graphs of every family and input, and graphs that break their promise."""

from __future__ import annotations

import dataclasses
from typing import get_args

import numpy as np
import pytest

from foundation.bundle import Bundle, Smoke
from foundation.detector import Detector
from foundation.errors import ConfigError, IntegrityError, RejectedError, RejectReason
from foundation.frames import Detections, Pixels
from foundation.geometry import Anchor, LetterboxSpec
from foundation.manifest import BundleInfo, InputContract
from tests.support.bundles import BOX_SIDE_PX, LABELS, make_bundle, paint_square
from tests.support.graphs import (
    NORMALIZED,
    RAW,
    Family,
    family_bundle,
    family_model,
    model_with_two_inputs,
    replace_model,
)


def with_info(bundle: Bundle, **changes: object) -> Bundle:
    """The same bundle with another description."""
    return dataclasses.replace(bundle, info=bundle.info.model_copy(update=changes))


def with_input(bundle: Bundle, **changes: object) -> Bundle:
    """The same bundle with another input contract."""
    return with_info(bundle, input=bundle.info.input.model_copy(update=changes))


def scene(width: int = 64, height: int = 64) -> Pixels:
    """Three squares of three colours and scores, best first: red, blue, green."""
    pixels = np.zeros((height, width, 3), np.uint8)
    paint_square(pixels, 8, 8, label="blue", score=0.9)
    paint_square(pixels, 40, 8, label="green", score=0.7)
    paint_square(pixels, 16, 40, label="red", score=0.97)
    return pixels


def assert_same(found: Detections, wanted: Detections) -> None:
    """The same detections in the same order, up to what float arithmetic leaves open."""
    assert found.class_ids.tolist() == wanted.class_ids.tolist()
    np.testing.assert_allclose(found.boxes, wanted.boxes, atol=1e-2)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)


def test_squares_are_found_where_they_are() -> None:
    """Class, score and place of three painted squares."""
    found = Detector.open(make_bundle()).detect(scene())
    assert [LABELS[i] for i in found.class_ids] == ["red", "blue", "green"]
    np.testing.assert_allclose(found.scores, [0.97, 0.9, 0.7], atol=0.02)
    assert found.boxes.shape == (3, 4)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.class_ids.dtype == np.int32
    centers = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    np.testing.assert_allclose(centers, [[24, 48], [16, 16], [48, 16]], atol=BOX_SIDE_PX / 2)


def test_an_empty_scene_has_no_detections() -> None:
    """Nothing painted, nothing found."""
    found = Detector.open(make_bundle()).detect(np.zeros((64, 64, 3), np.uint8))
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


@pytest.mark.parametrize("family", get_args(Family))
@pytest.mark.parametrize(
    "contract",
    [
        RAW,
        NORMALIZED,
        RAW.model_copy(update={"color": "RGB"}),
        RAW.model_copy(update={"layout": "NCHW"}),
        NORMALIZED.model_copy(update={"layout": "NHWC", "color": "BGR"}),
        RAW.model_copy(update={"dynamic_batch": False}),
    ],
    ids=["uint8-nhwc", "float-nchw-rgb", "uint8-rgb", "uint8-nchw", "float-nhwc", "batch-1"],
)
def test_every_family_and_input_detects_the_same(family: Family, contract: InputContract) -> None:
    """One image, every way of putting it in and taking detections out: one answer."""
    reference = Detector.open(make_bundle()).detect(scene())
    detector = Detector.open(family_bundle(family, contract))
    detector.check_smoke()
    assert_same(detector.detect(scene()), reference)


@pytest.mark.parametrize("batch_max", [1, 2, 3, 8])
def test_a_batch_gives_what_single_images_give(batch_max: int) -> None:
    """Images of different sizes, more of them than fit one run."""
    detector = Detector.open(make_bundle(), batch_max=batch_max)
    images = [scene(), scene(128, 96), np.zeros((7, 5, 3), np.uint8), scene(64, 80), scene()]
    together = detector.detect_batch(images)
    single = Detector.open(make_bundle())
    assert len(together) == len(images)
    for found, image in zip(together, images, strict=True):
        assert_same(found, single.detect(image))


def test_a_fixed_batch_runs_one_by_one() -> None:
    """A graph for one image serves batches as well."""
    bundle = family_bundle("grid", RAW.model_copy(update={"dynamic_batch": False}))
    found = Detector.open(bundle, batch_max=4).detect_batch([scene(), scene()])
    assert [len(detections) for detections in found] == [3, 3]


def test_loaded_buffers_run_to_what_detection_reads() -> None:
    """The run that a benchmark repeats is the one that detection makes."""
    detector = Detector.open(make_bundle())
    detector.detect(np.zeros((64, 64, 3), np.uint8))
    buffers = detector.load([scene()])
    buffers.run()
    heatmap = buffers.outputs["heatmap"].copy()
    detector.detect(scene())
    np.testing.assert_array_equal(buffers.outputs["heatmap"], heatmap)
    assert heatmap.max() > 0


def test_no_images_give_no_answers() -> None:
    """An empty batch is no error."""
    assert Detector.open(make_bundle()).detect_batch([]) == []


@pytest.mark.parametrize("anchor", list(Anchor))
def test_boxes_are_in_the_pixels_of_the_image(anchor: Anchor) -> None:
    """A wide image four times as large as the input, wherever the letterbox puts it."""
    bundle = with_info(make_bundle(), letterbox=LetterboxSpec(anchor=anchor))
    pixels = np.zeros((128, 256, 3), np.uint8)
    paint_square(pixels, 160, 64, side=64)
    found = Detector.open(bundle).detect(pixels)
    center = (found.boxes[0, :2] + found.boxes[0, 2:]) / 2
    np.testing.assert_allclose(center, [192, 96], atol=32)


def test_boxes_are_clipped_to_the_image() -> None:
    """A box that would reach past the edge ends there."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    paint_square(pixels, 0, 0, side=8)
    assert Detector.open(make_bundle()).detect(pixels).boxes.tolist() == [[0, 0, 16, 16]]


def test_what_lies_in_the_padding_alone_is_not_reported() -> None:
    """Bright padding makes detections of no area in the image; they are none."""
    bundle = with_info(make_bundle(), letterbox=LetterboxSpec(pad_value=255))
    found = Detector.open(bundle).detect(np.zeros((64, 8, 3), np.uint8))
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    assert (sides > 0).all()


def test_pixels_need_not_be_contiguous() -> None:
    """A view into a larger image detects like its copy."""
    large = np.zeros((200, 200, 3), np.uint8)
    large[50:114, 60:124] = scene()
    view = large[50:114, 60:124]
    detector = Detector.open(make_bundle())
    assert_same(detector.detect(view), detector.detect(scene()))


@pytest.mark.parametrize(
    "model",
    [family_model(score_bias=float("nan")), family_model(box_side=float("nan"))],
    ids=["scores", "boxes"],
)
def test_a_model_that_puts_out_no_numbers_fails_the_image(model: bytes) -> None:
    """NaN is a failure that is counted, not an empty scene."""
    detector = Detector.open(replace_model(make_bundle(), model))
    with pytest.raises(RejectedError, match="not finite") as caught:
        detector.detect(scene())
    assert caught.value.reason is RejectReason.INFERENCE_FAILED
    assert caught.value.remedy


def test_smoke_fails_on_a_model_that_puts_out_no_numbers() -> None:
    """A service refuses to start on it, instead of dropping every frame."""
    broken = replace_model(make_bundle(), family_model(score_bias=float("nan")))
    with pytest.raises(IntegrityError, match=r"smoke test failed: .* not finite"):
        Detector.open(broken).check_smoke()


def test_smoke_passes_on_what_it_was_made_with() -> None:
    """A sound bundle proves itself."""
    Detector.open(make_bundle()).check_smoke()


@pytest.mark.parametrize(
    ("model", "seen"),
    [
        (family_model(score_bias=-14.0), "found none there"),
        (family_model(score_bias=-8.5), "got score 0.71"),
        (family_model(box_side=60.0), "found none there"),
    ],
    ids=["blind", "other score", "other box"],
)
def test_smoke_fails_on_another_model(model: bytes, seen: str) -> None:
    """The message says what was expected and what came."""
    bundle = make_bundle()
    pixels = np.zeros((64, 64, 3), np.uint8)
    paint_square(pixels, 16, 24, label="green", score=0.8)
    expected = Detector.open(bundle).detect(pixels)
    other = dataclasses.replace(bundle, model=model, smoke=Smoke(pixels, expected))
    with pytest.raises(IntegrityError, match=r"expected green with score 0\.80 at") as caught:
        Detector.open(other).check_smoke()
    assert "squares" in caught.value.message
    assert seen in caught.value.message
    assert caught.value.remedy


def test_smoke_fails_on_detections_out_of_nowhere() -> None:
    """A model that sees what it did not see where it was made is not the same model."""
    bundle = make_bundle()
    pixels = scene()
    all_found = Detector.open(bundle).detect(pixels)
    forgetful = dataclasses.replace(bundle, smoke=Smoke(pixels, all_found.take(np.array([2]))))
    with pytest.raises(IntegrityError, match=r"found red with score 0.9. at .* unexpectedly"):
        Detector.open(forgetful).check_smoke()


def test_smoke_that_expects_nothing_proves_nothing() -> None:
    """A bundle without a true expectation is refused."""
    bundle = make_bundle()
    blank = dataclasses.replace(bundle, smoke=Smoke(bundle.smoke.pixels, Detections.empty()))
    with pytest.raises(IntegrityError, match="proves nothing"):
        Detector.open(blank).check_smoke()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "picture"},
        {"dtype": "float32"},
        {"width": 128},
        {"layout": "NCHW"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_input_that_is_not_the_manifests_is_refused(change: dict[str, object]) -> None:
    """The message shows what the graph takes and what the manifest says."""
    with pytest.raises(IntegrityError, match="the model takes 'image' uint8") as caught:
        Detector.open(with_input(make_bundle(), **change))
    assert caught.value.remedy


def test_a_fixed_graph_is_no_dynamic_one() -> None:
    """A manifest must not promise batches that the graph cannot take."""
    fixed = family_model(contract=RAW.model_copy(update={"dynamic_batch": False}))
    with pytest.raises(IntegrityError, match=r"\(1, 64, 64, 3\)"):
        Detector.open(replace_model(make_bundle(), fixed))


def test_outputs_without_the_batch_are_refused_at_once() -> None:
    """A graph that answers one image whatever it is given fails when it is opened."""
    bundle = make_bundle()
    outputs = bundle.info.outputs.model_copy(update={"heatmap": "heatmap_cut", "box": "box_cut"})
    cut = with_info(replace_model(bundle, family_model(batch=1)), outputs=outputs)
    Detector.open(cut)
    with pytest.raises(IntegrityError, match="answers 4 images with 'heatmap_cut'"):
        Detector.open(cut, batch_max=4)


@pytest.mark.parametrize("family", get_args(Family))
def test_classes_that_are_not_the_labels_are_refused(family: Family) -> None:
    """Four classes and three labels."""
    bundle = replace_model(family_bundle(family), family_model(family, classes=4))
    with pytest.raises(IntegrityError, match="tells 4 classes apart, but there are 3 labels"):
        Detector.open(bundle)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"outputs": {"family": "grid", "stride": 16}}, "not those of family grid"),
        ({"outputs": {"family": "grid", "stride": 8, "box": "boxes"}}, "no output 'boxes'"),
        ({"outputs": {"family": "yolov8", "name": "heatmap"}}, "floats with 3 axes"),
    ],
    ids=["stride", "name", "family"],
)
def test_outputs_that_are_not_the_manifests_are_refused(
    info: dict[str, object], message: str
) -> None:
    """A wrong stride would put every box in the wrong place without anybody noticing."""
    document = make_bundle().info.model_dump() | info
    bundle = dataclasses.replace(make_bundle(), info=BundleInfo.model_validate(document))
    with pytest.raises(IntegrityError, match=message) as caught:
        Detector.open(bundle)
    assert caught.value.remedy


def test_yolox_with_other_strides_is_refused() -> None:
    """The cells must be as many as the strides make."""
    bundle = family_bundle("yolox")
    outputs = bundle.info.outputs.model_copy(update={"strides": (8, 16)})
    with pytest.raises(IntegrityError, match="not those of family yolox"):
        Detector.open(with_info(bundle, outputs=outputs))


def test_a_graph_with_two_inputs_is_refused() -> None:
    """There is one image."""
    with pytest.raises(IntegrityError, match=r"inputs \['a', 'b'\], not just an image"):
        Detector.open(replace_model(make_bundle(), model_with_two_inputs()))


def test_an_absent_provider_is_a_setting_to_correct() -> None:
    """The message lists those that are there."""
    with pytest.raises(ConfigError, match="no execution provider WarpDrive") as caught:
        Detector.open(make_bundle(), providers=("WarpDrive",))
    assert "CPUExecutionProvider" in caught.value.remedy


@pytest.mark.parametrize("runtime_min", ["99.0", "1.999"])
def test_a_bundle_for_a_newer_runtime_is_refused(runtime_min: str) -> None:
    """Compared by number, not by text."""
    with pytest.raises(ConfigError, match=f"needs ONNX Runtime {runtime_min} or newer"):
        Detector.open(with_info(make_bundle(), runtime_min=runtime_min))


@pytest.mark.parametrize("runtime_min", ["1.2", "0.99"])
def test_a_bundle_for_an_older_runtime_runs(runtime_min: str) -> None:
    """1.2 is older than 1.22."""
    Detector.open(with_info(make_bundle(), runtime_min=runtime_min)).check_smoke()
