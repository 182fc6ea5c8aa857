import numpy as np
import pytest

from reference_line.binary.picture import BinaryPicture, render_picture
from reference_line.binary.scenes import SIDE_PX
from reference_line.truth import LABELS

PICTURES = 6
TAKES_COPPER = {LABELS.index(label) for label in ("open", "mousebite", "pin_hole")}


@pytest.fixture(scope="module")
def pictures() -> list[BinaryPicture]:
    """A few pictures of the binary look."""
    return [render_picture(5, k) for k in range(PICTURES)]


def test_picture_repeats_bit_for_bit(pictures: list[BinaryPicture]) -> None:
    """Seed, board and frame decide everything."""
    again = render_picture(5, 1)
    assert np.array_equal(again.tested, pictures[1].tested)
    assert np.array_equal(again.boxes, pictures[1].boxes)


def test_specimens_share_the_board_but_not_the_defects(pictures: list[BinaryPicture]) -> None:
    """Another frame of a board shows the same artwork with other defects and other edges."""
    other = render_picture(5, 1, 1)
    assert not np.array_equal(other.boxes, pictures[1].boxes)
    assert np.mean(other.template != pictures[1].template) < 0.1


def test_picture_is_black_and_white(pictures: list[BinaryPicture]) -> None:
    """Grey comes from the JPEG file alone."""
    for picture in pictures:
        assert picture.tested.shape == (SIDE_PX, SIDE_PX, 3)
        assert set(np.unique(picture.tested)) <= {0, 255}


def test_every_box_lies_inside_and_holds_a_visible_change(pictures: list[BinaryPicture]) -> None:
    """Tested and template differ inside each box and nowhere else."""
    for picture in pictures:
        changed = (picture.tested != picture.template).any(axis=2)
        assert picture.boxes.min() >= 0
        assert picture.boxes.max() <= SIDE_PX
        for x1, y1, x2, y2 in picture.boxes.astype(int):
            assert np.count_nonzero(changed[y1:y2, x1:x2]) >= 20
        for x1, y1, x2, y2 in picture.boxes.astype(int):
            changed[y1:y2, x1:x2] = False
        assert not changed.any()


def test_class_says_whether_copper_goes_or_comes(pictures: list[BinaryPicture]) -> None:
    """Opens, mouse bites and pin-holes turn black to white; the other three white to black."""
    for picture in pictures:
        step = picture.tested[:, :, 0].astype(int) - picture.template[:, :, 0]
        for (x1, y1, x2, y2), class_id in zip(
            picture.boxes.astype(int), picture.class_ids, strict=True
        ):
            # Without the padding, which a neighbour's box may share.
            inner = step[y1 + 11 : y2 - 8, x1 + 11 : x2 - 8]
            assert (inner.sum() > 0) == (int(class_id) in TAKES_COPPER)


def test_every_class_occurs(pictures: list[BinaryPicture]) -> None:
    """Classes take turns."""
    counts = np.bincount(np.concatenate([p.class_ids for p in pictures]), minlength=len(LABELS))
    assert counts.min() >= 4
