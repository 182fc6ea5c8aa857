import hashlib

import numpy as np
import pytest

from reference_line.board import BOARD_PITCH_PX
from reference_line.line import Line, LineSettings
from reference_line.optics import FRAME_HEIGHT, FRAME_WIDTH
from reference_line.truth import LABELS, VISIBILITY_MIN, FrameTruth

SEED = 5
ACROSS_A_GAP = 100  # a frame of the default speed that shows two boards


@pytest.fixture(scope="module")
def line() -> Line:
    """One line for the tests that do not mind what was rendered before."""
    return Line(SEED)


def digest(line: Line, indices: list[int]) -> list[str]:
    """Digest each frame's pixels and truth."""
    return [
        hashlib.sha256(
            line.frame(i).tobytes() + line.truth(i).boxes.tobytes() + line.truth(i).defect_ids.data
        ).hexdigest()
        for i in indices
    ]


def test_same_seed_gives_same_pixels_in_any_order(line: Line) -> None:
    """Two instances agree bit for bit, whether frames are asked for in sequence or at random."""
    in_sequence = digest(line, [98, 99, 100, 101, 320])
    at_random = digest(Line(SEED), [320, 100, 98, 101, 99])
    assert [at_random[k] for k in (2, 4, 1, 3, 0)] == in_sequence


def test_other_seed_gives_other_pixels(line: Line) -> None:
    """The seed matters."""
    assert not np.array_equal(Line(SEED + 1).frame(3), line.frame(3))


def test_frame_renders_into_a_given_buffer(line: Line) -> None:
    """`out` is filled and returned; without it the array is fresh."""
    out = np.zeros((FRAME_HEIGHT, FRAME_WIDTH, 3), np.uint8)
    assert line.frame(7, out) is out
    fresh = line.frame(7)
    assert fresh is not out
    assert np.array_equal(fresh, out)


def test_scene_moves_left_at_the_belt_speed(line: Line) -> None:
    """A defect's box moves by the difference of the positions, the speed within the jitter."""
    before, after = line.truth(10), line.truth(11)
    shared = set(before.defect_ids) & set(after.defect_ids)
    inside = [
        i
        for i in shared
        if before.visibility[before.defect_ids == i] == after.visibility[after.defect_ids == i] == 1
    ]
    moves = [
        (before.boxes[before.defect_ids == i] - after.boxes[after.defect_ids == i])[0, 0]
        for i in inside
    ]
    assert moves
    assert np.allclose(moves, line.position(11) - line.position(10), atol=1e-3)
    assert abs(moves[0] - line.settings.speed_px) <= 0.5


def check_truth(truth: FrameTruth) -> None:
    """Assert what every truth promises."""
    n = len(truth)
    assert truth.boxes.shape == (n, 4)
    assert truth.boxes.dtype == np.float32
    assert truth.class_ids.dtype == np.int32
    assert truth.defect_ids.dtype == np.int64
    assert truth.sizes_px.dtype == np.float32
    assert (truth.boxes[:, :2] >= 0).all()
    assert (truth.boxes[:, 2] <= FRAME_WIDTH).all()
    assert (truth.boxes[:, 3] <= FRAME_HEIGHT).all()
    assert (truth.boxes[:, 2:] > truth.boxes[:, :2]).all()
    assert ((truth.visibility >= VISIBILITY_MIN) & (truth.visibility <= 1)).all()
    assert len(set(truth.defect_ids)) == n


def test_truth_keeps_its_promises(line: Line) -> None:
    """Boxes lie inside the frame, types are as documented, ids are unique."""
    for index in (0, 60, ACROSS_A_GAP, 200, 267):
        check_truth(line.truth(index))


def test_physical_defects_name_their_whole_frame_range(line: Line) -> None:
    """A defect is wholly visible in its first and last frame, and not one frame further."""
    found = line.defects(0, 300)
    assert found
    for defect in found:
        for index in {defect.first_frame, defect.last_frame}:
            truth = line.truth(index)
            assert truth.visibility[truth.defect_ids == defect.defect_id].tolist() == [1.0]
        outside = [defect.last_frame + 1] + [defect.first_frame - 1] * (defect.first_frame > 0)
        for index in outside:
            truth = line.truth(index)
            assert 1.0 not in truth.visibility[truth.defect_ids == defect.defect_id]


def test_defects_are_those_of_the_frames_asked_about(line: Line) -> None:
    """Every defect wholly visible in some frame of the range is listed, and no other."""
    listed = {d.defect_id for d in line.defects(90, 110)}
    seen: set[int] = set()
    for index in range(90, 111):
        truth = line.truth(index)
        seen |= set(truth.defect_ids[truth.visibility == 1.0].tolist())
    assert listed == seen


def test_every_class_occurs_with_sizes_from_4_to_16_px(line: Line) -> None:
    """A few boards show each class; sizes keep to their range, with a good share of small ones."""
    found = line.defects(0, 1600)
    assert {d.label for d in found} == set(LABELS)
    sizes = np.array([d.size_px for d in found])
    assert sizes.min() >= 3.0
    assert sizes.max() <= 18.5
    assert 0.3 < float((sizes < 8.0).mean()) < 0.7


def test_good_twin_differs_only_where_the_truth_says(line: Line) -> None:
    """Without defects the line gives the same frame but for the pixels of the true boxes."""
    twin = Line(SEED, settings=LineSettings(defective=False))
    difference = np.abs(
        line.frame(ACROSS_A_GAP).astype(int) - twin.frame(ACROSS_A_GAP).astype(int)
    ).max(axis=2)
    left = line.position(ACROSS_A_GAP)
    outside = difference.copy()
    for number in line.boards_in(ACROSS_A_GAP):
        for defect in line.board(number).defects:
            x1, y1, x2, y2 = defect.box
            shift = number * BOARD_PITCH_PX - left
            x = slice(max(0, int(x1 + shift) - 2), max(0, int(x2 + shift) + 3))
            outside[max(0, int(y1) - 2) : int(y2) + 3, x] = 0
    assert outside.max() == 0
    truth = line.truth(ACROSS_A_GAP)
    assert len(truth) > 0
    for x1, y1, x2, y2 in truth.boxes.astype(int)[truth.visibility == 1]:
        assert difference[y1:y2, x1:x2].max() >= 14
    assert len(twin.truth(ACROSS_A_GAP)) == 0


def test_board_of_names_the_board_under_the_middle(line: Line) -> None:
    """The board number grows along the line, and a frame sees at most two boards."""
    assert line.board_of(0) == 0
    assert line.board_of(BOARD_PITCH_PX // 6 + 10) == 1
    assert list(line.boards_in(ACROSS_A_GAP)) == [0, 1]
