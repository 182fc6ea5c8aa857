"""Letterboxes, crop regions and box arithmetic, as properties."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.escalations import Region
from foundation.frames import Boxes, Pixels
from foundation.geometry import (
    Anchor,
    Interpolation,
    Letterbox,
    LetterboxSpec,
    Placement,
    ResizeKind,
    box_areas,
    clip_boxes,
    crop_region,
    crop_within,
    intersection_matrix,
    iou_matrix,
)

SIDES = st.integers(1, 3000)
SPECS = st.builds(
    LetterboxSpec,
    kind=st.sampled_from(ResizeKind),
    anchor=st.sampled_from(Anchor),
    scale_max=st.sampled_from([1.0, 2.0, 1e9]),
)


@st.composite
def boxes_inside(draw: st.DrawFn, width: float, height: float, count_max: int = 5) -> Boxes:
    """Up to `count_max` boxes (N, 4) with a positive area inside an image of this size."""

    def span(limit: float) -> tuple[float, float]:
        start = draw(st.floats(0, 0.9)) * limit
        end = start + draw(st.floats(0.05, 1)) * (limit - start)
        return start, end

    rows = []
    for _ in range(draw(st.integers(1, count_max))):
        (x1, x2), (y1, y2) = span(width), span(height)
        rows.append((x1, y1, x2, y2))
    return np.array(rows, np.float32)


def noise(width: int, height: int) -> Pixels:
    """A reproducible picture that is different everywhere."""
    return np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)


def render(pixels: Pixels, spec: LetterboxSpec, width: int, height: int) -> Pixels:
    """A letterboxed image."""
    letterbox = Letterbox(spec, width, height)
    out = np.full((height, width, 3), 7, np.uint8)
    letterbox.render(pixels, letterbox.placement(pixels.shape[1], pixels.shape[0]), out)
    return out


# --- letterbox ------------------------------------------------------------------------------------


@given(spec=SPECS, width=SIDES, height=SIDES, input_width=SIDES, input_height=SIDES)
def test_a_placement_lies_inside_the_input(
    spec: LetterboxSpec, width: int, height: int, input_width: int, input_height: int
) -> None:
    """Never empty, never larger than the input, whatever the sizes."""
    placed = Letterbox(spec, input_width, input_height).placement(width, height)
    assert placed.width >= 1
    assert placed.height >= 1
    assert placed.offset_x >= 0
    assert placed.offset_y >= 0
    assert placed.offset_x + placed.width <= input_width
    assert placed.offset_y + placed.height <= input_height
    if spec.anchor is Anchor.TOP_LEFT or spec.kind is ResizeKind.STRETCH:
        assert (placed.offset_x, placed.offset_y) == (0, 0)
    else:
        assert abs(input_width - placed.width - 2 * placed.offset_x) <= 1
        assert abs(input_height - placed.height - 2 * placed.offset_y) <= 1


@given(width=SIDES, height=SIDES, scale_max=st.sampled_from([0.5, 1.0, 2.0, 1e9]))
def test_a_letterbox_keeps_the_aspect(width: int, height: int, scale_max: float) -> None:
    """Both sides are scaled alike to within a pixel, and by no more than allowed."""
    placed = Letterbox(LetterboxSpec(scale_max=scale_max), 320, 192).placement(width, height)
    scale = min(320 / width, 192 / height, scale_max)
    assert placed.width == pytest.approx(max(1, width * scale), abs=1)
    assert placed.height == pytest.approx(max(1, height * scale), abs=1)


@given(spec=SPECS, width=st.integers(2, 3000), height=st.integers(2, 3000), data=st.data())
def test_boxes_come_back_to_the_source(
    spec: LetterboxSpec, width: int, height: int, data: st.DataObject
) -> None:
    """From source pixels into the input by the placement, and back by `to_source`."""
    boxes = data.draw(boxes_inside(width, height))
    placed = Letterbox(spec, 416, 320).placement(width, height)
    scale = np.array([placed.width / width, placed.height / height] * 2)
    there = boxes * scale + [placed.offset_x, placed.offset_y] * 2
    back = placed.to_source(there.astype(np.float32))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, boxes, atol=1e-3 * max(1.0, *(1 / scale)), rtol=1e-4)


def test_to_source_clips() -> None:
    """What reaches into the padding ends at the edge of the source."""
    placed = Placement(100, 50, 200, 100, 0, 50)
    boxes = np.array([[-10, 0, 500, 500], [0, 0, 200, 40]], np.float32)
    assert placed.to_source(boxes).tolist() == [[0, 0, 100, 50], [0, 0, 100, 0]]


@pytest.mark.parametrize("anchor", list(Anchor))
@pytest.mark.parametrize("size", [(80, 40), (40, 80), (13, 7), (64, 48), (200, 3)])
def test_render_is_resize_and_paste(anchor: Anchor, size: tuple[int, int]) -> None:
    """Compared with the obvious way, padding included."""
    pixels, spec = noise(*size), LetterboxSpec(anchor=anchor, pad_value=99)
    placed = Letterbox(spec, 64, 48).placement(*size)
    wanted = np.full((48, 64, 3), 99, np.uint8)
    resized = cv2.resize(pixels, (placed.width, placed.height), interpolation=cv2.INTER_LINEAR)
    wanted[
        placed.offset_y : placed.offset_y + placed.height,
        placed.offset_x : placed.offset_x + placed.width,
    ] = resized
    np.testing.assert_array_equal(render(pixels, spec, 64, 48), wanted)


def test_stretching_fills_the_input() -> None:
    """Without padding, and the boxes come back by two scales."""
    pixels = noise(128, 24)
    out = render(pixels, LetterboxSpec(kind=ResizeKind.STRETCH), 64, 48)
    np.testing.assert_array_equal(out, cv2.resize(pixels, (64, 48)))
    placed = Letterbox(LetterboxSpec(kind=ResizeKind.STRETCH), 64, 48).placement(128, 24)
    whole = np.array([[0, 0, 64, 48]], np.float32)
    assert placed.to_source(whole).tolist() == [[0, 0, 128, 24]]


def test_an_image_of_the_inputs_size_is_copied() -> None:
    """Not a bit of it changes."""
    pixels = noise(64, 48)
    np.testing.assert_array_equal(render(pixels, LetterboxSpec(), 64, 48), pixels)


def test_halving_is_area_averaging_at_powers_of_two() -> None:
    """An eighth of the size by three halvings is nearly the exact average; linear is far off."""
    pixels = noise(512, 384)
    exact = cv2.resize(pixels, (64, 48), interpolation=cv2.INTER_AREA).astype(int)
    halved = render(pixels, LetterboxSpec(interpolation=Interpolation.HALVING), 64, 48).astype(int)
    linear = render(pixels, LetterboxSpec(interpolation=Interpolation.LINEAR), 64, 48).astype(int)
    assert np.abs(halved - exact).max() <= 2
    assert np.abs(linear - exact).mean() > 10


@pytest.mark.parametrize("size", [(64, 48), (100, 75), (127, 95), (40, 30)])
def test_halving_changes_nothing_above_one_half(size: tuple[int, int]) -> None:
    """Where there is nothing to halve, both interpolations are the same."""
    pixels = noise(*size)
    halved = render(pixels, LetterboxSpec(interpolation=Interpolation.HALVING), 64, 48)
    linear = render(pixels, LetterboxSpec(interpolation=Interpolation.LINEAR), 64, 48)
    np.testing.assert_array_equal(halved, linear)


def test_ever_new_sizes_do_not_disturb_each_other() -> None:
    """One letterbox renders many sizes in turn as fresh ones would."""
    spec = LetterboxSpec(interpolation=Interpolation.HALVING)
    letterbox = Letterbox(spec, 32, 32)
    out = np.empty((32, 32, 3), np.uint8)
    for side in [*range(64, 264, 4), 64, 128, 256]:
        pixels = noise(side, side)
        letterbox.render(pixels, letterbox.placement(side, side), out)
        np.testing.assert_array_equal(out, render(pixels, spec, 32, 32))


# --- crop regions ---------------------------------------------------------------------------------


@given(
    width=st.integers(1, 4000),
    height=st.integers(1, 4000),
    corners=st.lists(st.floats(-5000, 9000, width=32), min_size=4, max_size=4),
    margin=st.floats(1, 5),
    side_min_px=st.integers(1, 800),
)
def test_a_crop_lies_inside_the_frame(
    width: int, height: int, corners: list[float], margin: float, side_min_px: int
) -> None:
    """Wherever the box is, even outside the frame or inverted; never empty."""
    region = crop_region(
        np.array(corners, np.float32),
        margin=margin,
        side_min_px=side_min_px,
        frame_width=width,
        frame_height=height,
    )
    assert region.lies_inside(width, height)
    assert region.width >= min(side_min_px, width)
    assert region.height >= min(side_min_px, height)
    if region.width < width and region.height < height:
        assert region.width == region.height


@given(
    width=st.integers(16, 4000),
    height=st.integers(16, 4000),
    margin=st.floats(1.2, 4),
    data=st.data(),
)
def test_a_crop_contains_its_box(
    width: int, height: int, margin: float, data: st.DataObject
) -> None:
    """To the pixel that rounding may take from a box without margin."""
    box = data.draw(boxes_inside(width, height, count_max=1))[0]
    region = crop_region(box, margin=margin, side_min_px=8, frame_width=width, frame_height=height)
    x1, y1, x2, y2 = box.tolist()
    assert region.x1 <= x1 + 1
    assert region.y1 <= y1 + 1
    assert region.x2 >= x2 - 1
    assert region.y2 >= y2 - 1


def test_a_crop_is_shifted_inside_not_padded() -> None:
    """At the corner of the frame it keeps its size."""
    box = np.array([630, 470, 640, 480], np.float32)
    region = crop_region(box, margin=2, side_min_px=64, frame_width=640, frame_height=480)
    assert (region.x1, region.y1, region.x2, region.y2) == (576, 416, 640, 480)


@given(
    width=st.integers(16, 2000),
    height=st.integers(16, 2000),
    corner=st.tuples(st.integers(0, 3000), st.integers(0, 3000)),
    side_min_px=st.integers(1, 400),
    margin=st.floats(1.2, 4),
    data=st.data(),
)
def test_less_of_a_crop_still_shows_its_boxes(
    width: int,
    height: int,
    corner: tuple[int, int],
    side_min_px: int,
    margin: float,
    data: st.DataObject,
) -> None:
    """It lies in the crop, is as large as asked for, and around one box it is that box's crop."""
    x, y = corner
    whole = Region(x, y, x + width, y + height)
    corners = np.array([x, y, x, y], np.float32)
    boxes = data.draw(boxes_inside(width, height, count_max=4)) + corners
    part = crop_within(whole, boxes, margin=margin, side_min_px=side_min_px)
    assert x <= part.x1 < part.x2 <= x + width
    assert y <= part.y1 < part.y2 <= y + height
    assert part.width >= min(side_min_px, width)
    assert part.height >= min(side_min_px, height)
    assert (boxes[:, :2] >= np.array([part.x1, part.y1]) - 1).all()
    assert (boxes[:, 2:] <= np.array([part.x2, part.y2]) + 1).all()
    if len(boxes) == 1:
        alone = crop_region(
            boxes[0] - corners,
            margin=margin,
            side_min_px=side_min_px,
            frame_width=width,
            frame_height=height,
        )
        assert (part.width, part.height) == (alone.width, alone.height)


# --- boxes ----------------------------------------------------------------------------------------


@given(data=st.data())
def test_iou_properties(data: st.DataObject) -> None:
    """Between 0 and 1, symmetric, 1 with itself, unmoved by a shift."""
    first = data.draw(boxes_inside(500, 500))
    second = data.draw(boxes_inside(500, 500))
    iou = iou_matrix(first, second)
    assert iou.shape == (len(first), len(second))
    assert iou.dtype == np.float32
    assert ((iou >= 0) & (iou <= 1 + 1e-5)).all()
    np.testing.assert_allclose(iou, iou_matrix(second, first).T, atol=1e-6)
    np.testing.assert_allclose(np.diag(iou_matrix(first, first)), 1, atol=1e-4)
    np.testing.assert_allclose(iou_matrix(first + 64, second + 64), iou, atol=1e-3)


def test_iou_of_known_boxes() -> None:
    """Half overlap, touching, apart, without an area."""
    one = np.array([[0, 0, 10, 10]], np.float32)
    many = np.array(
        [[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [30, 30, 40, 40], [5, 5, 5, 5]],
        np.float32,
    )
    np.testing.assert_allclose(iou_matrix(one, many)[0], [1, 1 / 3, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(intersection_matrix(one, many)[0], [100, 50, 0, 0, 0])


def test_no_boxes_give_empty_matrices() -> None:
    """With the shapes that callers index."""
    none, one = np.zeros((0, 4), np.float32), np.array([[0, 0, 1, 1]], np.float32)
    assert iou_matrix(none, one).shape == (0, 1)
    assert iou_matrix(one, none).shape == (1, 0)
    assert iou_matrix(none, none).shape == (0, 0)
    assert box_areas(none).shape == (0,)
    assert clip_boxes(none, 5, 5).shape == (0, 4)


@given(data=st.data())
def test_areas(data: st.DataObject) -> None:
    """As the definition says."""
    boxes = data.draw(boxes_inside(500, 500))
    rows: list[list[float]] = boxes.tolist()
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in rows]
    np.testing.assert_allclose(box_areas(boxes), areas, rtol=1e-3)


def test_an_inverted_box_has_no_area() -> None:
    """Not a negative one."""
    assert box_areas(np.array([[10, 10, 0, 0], [10, 0, 0, 10]], np.float32)).tolist() == [0, 0]
