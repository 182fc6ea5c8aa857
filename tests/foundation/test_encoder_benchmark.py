"""The comparison of encoders at equal quality and by a detector; how a held lock is found."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.encoders import Cost, bytes_at_equal_psnr, line_crops, pauses
from benchmarks.encoders_efforts import AVIF_SEEN, avif_efforts, avif_shipped
from benchmarks.encoders_seen import QUALITIES, SCALE, Seen, advantage, at_equal_bytes, see
from foundation.escalations import Encoding
from foundation.frames import Detections, Pixels
from foundation.images import encode_image


def curve(sizes: Sequence[int], errors: Sequence[float]) -> dict[int, Cost]:
    """A way's costs at rising quality."""
    return {
        number: Cost(size_bytes=[size], errors=[error])
        for number, (size, error) in enumerate(zip(sizes, errors, strict=True))
    }


BASE = curve([100, 200, 400], [400.0, 200.0, 100.0])


@pytest.mark.parametrize(
    ("other", "ratio"),
    [
        (curve([100, 200, 400], [400.0, 200.0, 100.0]), 1.0),
        (curve([50, 100, 200], [400.0, 200.0, 100.0]), 0.5),
        (curve([200, 400, 800], [200.0, 100.0, 50.0]), 1.0),
        (curve([600, 1200], [200.0, 100.0]), 3.0),
        (curve([100, 200], [10.0, 5.0]), None),
    ],
    ids=["the same", "half everywhere", "the same line, further up", "a part of it", "apart"],
)
def test_bytes_are_compared_where_both_reach(other: dict[int, Cost], ratio: float | None) -> None:
    """Quality numbers do not matter, only what came out."""
    found = bytes_at_equal_psnr(other, BASE)
    assert found == (None if ratio is None else pytest.approx(ratio))


def test_a_held_lock_shows() -> None:
    """A thread beside a long power pauses about as long; beside a sleep it goes on."""
    held = pauses(lambda: 3**600_000, 3)
    assert held["longest_pause_ms"] > 0.5 * held["duration_ms"]
    free = pauses(lambda: time.sleep(0.3), 3)
    assert free["longest_pause_ms"] < 0.9 * free["duration_ms"]


def test_line_crops_are_whole_and_differ() -> None:
    """Of the size that the table names."""
    crops = line_crops(2)
    assert [crop.shape for crop in crops] == [(192, 192, 3)] * 2
    assert (crops[0] != crops[1]).any()


def test_the_effort_that_ships_is_judged() -> None:
    """Under the name by which the others are compared with it, byte for byte what crops are."""
    [pixels] = line_crops(1)
    encode = avif_efforts(AVIF_SEEN)[avif_shipped()]
    assert encode(pixels, 45) == encode_image(pixels, Encoding.AVIF, 45)


BASE_POINTS = [(4.0, 0.4), (5.0, 0.6), (6.0, 0.8)]


@pytest.mark.parametrize(
    ("way", "more"),
    [
        (BASE_POINTS, 0.0),
        ([(4.0, 0.5), (6.0, 0.9)], 0.1),
        ([(4.5, 0.5), (7.0, 1.0)], 0.0),
        ([(7.0, 0.8), (5.0, 0.4)], -0.2),
        ([(6.0, 0.1), (7.0, 0.2)], None),
    ],
    ids=["the same", "more everywhere", "the same line, further up", "unsorted", "apart"],
)
def test_agreement_is_compared_where_both_have_the_bytes(
    way: Sequence[tuple[float, float]], more: float | None
) -> None:
    """In between, points are joined by straight lines."""
    found = at_equal_bytes(way, BASE_POINTS)
    assert found == (None if more is None else pytest.approx(more, abs=1e-9))


def object_of(score: float) -> Detections:
    """One detection."""
    return Detections(
        np.array([[8, 8, 40, 40]], np.float32), np.array([score], np.float32), np.zeros(1, np.int32)
    )


def kept(scores: Sequence[Sequence[float]]) -> dict[int, Seen]:
    """A way at qualities that differ by the same factor of bytes, with scores by image."""
    return {
        number: Seen([100 * 2**number] * len(row), [], [object_of(score) for score in row])
        for number, row in enumerate(scores)
    }


def test_the_error_is_of_the_difference_between_ways() -> None:
    """Images that lose differently, but the same by both ways, leave no doubt; others do."""
    untouched = [object_of(1.0)] * 3
    base = kept([[0.2, 0.4, 0.6], [0.3, 0.5, 0.7]])
    alike = advantage(kept([[0.3, 0.5, 0.7], [0.4, 0.6, 0.8]]), base, untouched)
    assert alike is not None
    assert list(alike) == pytest.approx([0.1, 0.0], abs=1e-6)
    unlike = advantage(kept([[0.2, 0.4, 0.9], [0.3, 0.5, 1.0]]), base, untouched)
    # The jackknife's error of a mean is the textbook's: of 0, 0 and 0.3 it is 0.1.
    assert unlike is not None
    assert list(unlike) == pytest.approx([0.1, 0.1])


def test_one_image_has_no_error() -> None:
    """And so no advantage is claimed."""
    way = kept([[0.2], [0.3]])
    assert advantage(way, way, [object_of(1.0)]) is None


class LeftHalf:
    """Finds the left half of every image, and remembers how large images were."""

    def __init__(self) -> None:
        self.widths: list[int] = []

    def detect(self, pixels: Pixels) -> Detections:
        """One detection."""
        height, width = pixels.shape[:2]
        self.widths.append(width)
        box = np.array([[0, 0, width / 2, height]], np.float32)
        return Detections(box, np.ones(1, np.float32), np.zeros(1, np.int32))


def test_detections_of_a_shrunk_image_are_compared_where_they_lie() -> None:
    """The detector is shown the shrunk image, and its boxes are those of the whole one."""
    [pixels] = line_crops(1)
    detector = LeftHalf()
    untouched, found = see([pixels], {"only": avif_efforts(AVIF_SEEN)[avif_shipped()]}, detector)
    assert detector.widths == [192] + [round(192 * SCALE)] * len(QUALITIES)
    for seen in found["only"].values():
        assert seen.detections[0].boxes == pytest.approx(untouched[0].boxes)
        assert seen.point(untouched, [0])[1] == pytest.approx(1)
    low, high = (found["only"][quality].size_bytes[0] for quality in QUALITIES)
    assert low < high
