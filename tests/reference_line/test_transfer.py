from pathlib import Path

import cv2
import numpy as np
import pytest

from foundation.errors import ConfigError
from foundation.frames import Detections
from reference_line.transfer import (
    RealPicture,
    average_precision,
    main,
    measure_transfer,
    read_pictures,
)
from reference_line.truth import LABELS

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "deeppcb_look"
ONCE = np.ones(4, np.int64)


def picture(*rows: tuple[float, ...]) -> RealPicture:
    """A picture whose truth is rows of x1 y1 x2 y2 class."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    return RealPicture("p", Path("p"), table[:, :4], table[:, 4].astype(np.int32))


def detections(*rows: tuple[float, ...]) -> Detections:
    """Detections as rows of x1 y1 x2 y2 class score."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 5], table[:, 4].astype(np.int32))


def test_average_precision_is_the_area_under_the_interpolated_curve() -> None:
    """By hand: right, wrong, right, wrong of two objects: recall 1/2 at 1, 1 at 2/3."""
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    hits = np.array([True, False, True, False])
    assert average_precision(scores, hits, ONCE, 2) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(scores[::-1], hits[::-1], ONCE, 2) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(scores, ~hits, ONCE, 4) == pytest.approx((1 / 2 + 1 / 2) / 4)


def test_weights_count_a_picture_several_times() -> None:
    """A detection of weight two is two detections."""
    scores, hits = np.array([0.9, 0.8, 0.8]), np.array([False, True, True])
    twice = average_precision(scores[:2], hits[:2], np.array([1, 2]), 2)
    assert twice == pytest.approx(average_precision(scores, hits, ONCE[:3], 2))


def test_overlap_decides_what_counts() -> None:
    """A box that overlaps by 0.4 is right at 0.33 and wrong at 0.5."""
    truth = [picture((0, 0, 10, 10, 2))]
    found = [detections((0, 0, 10, 4, 2, 0.9))]
    assert measure_transfer(truth, found, 0.33).by_class == {LABELS[2]: 1.0}
    assert measure_transfer(truth, found, 0.5).mean == 0.0


def test_interval_covers_what_other_pictures_would_give() -> None:
    """Half the pictures right: the mean is a half, the interval reaches well to both sides."""
    truth = [picture((0, 0, 10, 10, 0)) for _ in range(12)]
    found = [detections((0, 0, 10, 10, 0, 0.9)) if k % 2 else detections() for k in range(12)]
    result = measure_transfer(truth, found, 0.5)
    assert result.mean == pytest.approx(0.5)
    assert 0.1 < result.interval[0] < 0.35
    assert 0.65 < result.interval[1] < 0.9


def test_pictures_are_read_with_their_groups(tmp_path: Path) -> None:
    """Classes count from 1 in the files; a name's beginning chooses pictures."""
    for name in ("100_1", "200_1"):
        cv2.imwrite(str(tmp_path / f"{name}_test.jpg"), np.zeros((8, 8, 3), np.uint8))
        (tmp_path / f"{name}.txt").write_text("1 2 5 6 3\n\n0 0 4 4 6\n")
    both, one = read_pictures(tmp_path), read_pictures(tmp_path, ("200",))
    assert [p.name for p in both] == ["100_1", "200_1"]
    assert [p.name for p in one] == ["200_1"]
    assert one[0].class_ids.tolist() == [2, 5]
    assert one[0].boxes[0].tolist() == [1, 2, 5, 6]


@pytest.mark.parametrize("text", ["1 2 3", "a b c d 1", "0 0 4 4 7", "0 0 4 4 0"])
def test_malformed_truth_is_named(tmp_path: Path, text: str) -> None:
    """The file is in the message, the layout in the remedy."""
    cv2.imwrite(str(tmp_path / "bad_test.jpg"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.txt"):
        read_pictures(tmp_path)


def test_folder_without_pictures_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says what a folder has to hold."""
    assert main(["--bundle", str(tmp_path), "--data", str(tmp_path)]) == 78
    assert "NAME_test.jpg" in capsys.readouterr().err


@pytest.mark.shared_data
@pytest.mark.skipif(not DATA.exists(), reason="../shared/data is absent")
def test_real_pictures_are_read_whole() -> None:
    """Fourteen boards, every class on several of them."""
    pictures = read_pictures(DATA)
    counts = np.bincount(np.concatenate([p.class_ids for p in pictures]), minlength=len(LABELS))
    assert len(pictures) == 14
    assert counts.min() >= 10
