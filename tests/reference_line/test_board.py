import cv2
import numpy as np
import pytest

from reference_line.artwork import SUPERSAMPLE, Artwork, offset_path
from reference_line.board import BOARD_PITCH_PX, Board, render_board
from reference_line.defects import place_defects
from reference_line.motifs import draw_board
from reference_line.optics import FRAME_HEIGHT
from reference_line.truth import BOX_PADDING_PX, BOX_SIDE_MIN_PX, LABELS, BoardDefect

AREA = (30.0, 24.0, BOARD_PITCH_PX - 30.0, FRAME_HEIGHT - 24.0)


@pytest.fixture(scope="module")
def boards() -> list[tuple[Board, Board]]:
    """A few boards, each with its good twin."""
    return [(render_board(3, k), render_board(3, k, defective=False)) for k in range(3)]


def draw_artwork(seed: int) -> Artwork:
    """Draw the artwork of a good board."""
    art = Artwork.blank(BOARD_PITCH_PX, FRAME_HEIGHT)
    draw_board(art, np.random.default_rng(seed), AREA)
    return art


def test_twin_differs_only_inside_the_boxes(boards: list[tuple[Board, Board]]) -> None:
    """All that a defect changes visibly lies in its box; what blur leaves outside is faint."""
    for flawed, good in boards:
        difference = np.abs(flawed.texture.astype(int) - good.texture.astype(int)).max(axis=2)
        strongest = difference.max()
        for defect in flawed.defects:
            x1, y1, x2, y2 = (int(v) for v in defect.box)
            assert difference[y1:y2, x1 : x2 + 1].max() >= 16
            difference[y1 - 2 : y2 + 3, x1 - 2 : x2 + 3] = 0
        assert difference.max() == 0 < strongest


def test_colour_look_is_the_one_that_the_shipped_bundles_know(
    boards: list[tuple[Board, Board]],
) -> None:
    """A board's colours and defects stay what they were; rounding may differ between machines."""
    board = boards[0][0]
    means = board.texture.reshape(-1, 3).mean(axis=0)
    assert means == pytest.approx([57.279, 99.810, 44.455], abs=0.02)
    assert [(d.class_id, d.tight_box) for d in board.defects[:3]] == [
        (0, (1458, 422, 1477, 436)),
        (1, (465, 872, 471, 879)),
        (2, (68, 467, 88, 478)),
    ]


def test_every_defect_survives_the_optics(boards: list[tuple[Board, Board]]) -> None:
    """Each changes the imaged copper by more than half of full coverage somewhere."""
    for flawed, good in boards:
        assert len(flawed.defects) >= 10
        assert min(d.peak for d in flawed.defects) > 0.5
        assert good.defects == ()


def test_box_is_the_padded_tight_box() -> None:
    """Padding on every side, then the least side about the centre."""
    large = BoardDefect(0, (100, 100, 120, 108), 1.0)
    p = BOX_PADDING_PX
    assert large.box == (100 - p, 100 - p, 120 + p, 108 + p)
    small = BoardDefect(0, (100, 100, 104, 103), 1.0)
    x1, y1, x2, y2 = small.box
    assert x2 - x1 == y2 - y1 == BOX_SIDE_MIN_PX
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == (102.0, 101.5)
    assert large.size_px == pytest.approx(np.sqrt(20 * 8))


def test_good_copper_has_no_specks_and_no_holes_like_defects() -> None:
    """Every piece of good copper, and every bare area, is larger than the largest defect."""
    for seed in range(4):
        copper = draw_artwork(seed).copper
        for mask in (copper, 255 - copper):
            count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
            areas = stats[1:count, cv2.CC_STAT_AREA] / SUPERSAMPLE**2
            sides = stats[1:count, cv2.CC_STAT_WIDTH : cv2.CC_STAT_HEIGHT + 1] / SUPERSAMPLE
            assert areas.min() >= 40.0
            assert sides.max(axis=1).min() >= 9.0


def test_defects_keep_apart_and_off_the_drills() -> None:
    """No two defects are close, none touches a drilled hole, classes take turns."""
    art = draw_artwork(11)
    copper, placed = place_defects(art, np.random.default_rng(1), AREA, 15)
    centres = np.array([d.centre for d in placed])
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    assert gaps[~np.eye(len(placed), dtype=bool)].min() > 40.0
    assert not cv2.bitwise_and(cv2.absdiff(copper, art.copper), art.drill).any()
    counts = np.bincount([d.class_id for d in placed], minlength=len(LABELS))
    assert counts.min() >= 1


def test_offset_path_keeps_its_distance_round_a_corner() -> None:
    """A mitred corner moves along the bisector, so both legs stay parallel."""
    moved = offset_path([(0, 0), (100, 0), (100, 100)], 10.0)
    assert np.allclose(moved, [(0, 10), (90, 10), (90, 100)])
