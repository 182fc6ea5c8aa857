import cv2
import numpy as np
import pytest

from reference_line.artwork import Mask
from reference_line.binary.strokes import Contact, contact_of


def trace() -> Mask:
    """A trace 14 px wide across a patch."""
    material = np.zeros((60, 60), np.uint8)
    material[23:37] = 255
    return material


def ring() -> Mask:
    """An annular land."""
    material = np.zeros((60, 60), np.uint8)
    cv2.circle(material, (30, 30), 22, 255, -1)
    cv2.circle(material, (30, 30), 9, 0, -1)
    return material


def drawn(x1: int, y1: int, x2: int, y2: int) -> Mask:
    """A rectangular stroke."""
    mask = np.zeros((60, 60), np.uint8)
    mask[y1:y2, x1:x2] = 255
    return mask


@pytest.mark.parametrize(
    ("material", "stroke", "contact"),
    [
        (trace(), drawn(28, 18, 34, 42), Contact.DIVIDING),
        (trace(), drawn(24, 20, 34, 28), Contact.ATTACHED),
        (trace(), drawn(26, 27, 34, 33), Contact.ISOLATED),
        (ring(), drawn(27, 4, 33, 24), Contact.DIVIDING),
        (ring(), drawn(27, 4, 33, 15), Contact.ATTACHED),
    ],
    ids=["cut", "notch", "hole", "cut ring", "notched ring"],
)
def test_contact_names_what_a_stroke_does(material: Mask, stroke: Mask, contact: Contact) -> None:
    """Touching nothing, touching, dividing; a ring cut on one side joins inside and outside."""
    assert contact_of(material, stroke) is contact


@pytest.mark.parametrize(
    "stroke",
    [drawn(28, 18, 34, 36), drawn(26, 24, 34, 30), drawn(28, 5, 34, 20), drawn(28, 28, 31, 31)],
    ids=["one pixel left", "one pixel from the edge", "beside", "too small to see"],
)
def test_doubtful_strokes_are_refused(stroke: Mask) -> None:
    """What a slightly wider brush would make another defect, and what hardly shows."""
    assert contact_of(trace(), stroke) is None


def test_islands_inside_a_stroke_do_not_count() -> None:
    """A hollow loop inside copper is a pin-hole, though it cuts out a piece."""
    loop = drawn(20, 14, 42, 36)
    loop[18:32, 24:38] = 0
    assert contact_of(np.full((60, 60), 255, np.uint8), loop) is Contact.ISOLATED
