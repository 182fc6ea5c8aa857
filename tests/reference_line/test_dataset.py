import json
from pathlib import Path
from typing import Any

import cv2
import pytest
from pycocotools.coco import COCO

from reference_line.board import BOARD_PITCH_PX
from reference_line.dataset import ExportPlan, Look, export_dataset, frame_offsets
from reference_line.optics import FRAME_HEIGHT, FRAME_WIDTH
from reference_line.truth import LABELS

PLAN = ExportPlan(seed=2, boards=(3, 1, 1), frames_per_board=2)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny dataset."""
    out = tmp_path_factory.mktemp("line")
    assert len(list(export_dataset(out, PLAN))) == 5
    return out


def load(out: Path, split: str) -> dict[str, Any]:
    """Read one split's annotations."""
    document: dict[str, Any] = json.loads((out / split / "instances.json").read_text())
    return document


def test_no_board_is_in_two_splits(exported: Path) -> None:
    """Each split has its own boards, and says which seed and generator made it."""
    boards = [{image["board"] for image in load(exported, s)["images"]} for s in ("train", "val")]
    boards.append({image["board"] for image in load(exported, "test")["images"]})
    assert [len(b) for b in boards] == [3, 1, 1]
    assert len(set.union(*boards)) == 5
    info = load(exported, "val")["info"]
    assert (info["seed"], info["split"]) == (2, "val")


def test_annotations_are_valid_coco(exported: Path) -> None:
    """COCO's own reader takes them; ids are class index + 1; boxes lie inside existing pictures."""
    coco = COCO(str(exported / "train" / "instances.json"))
    names = [c["name"] for c in coco.loadCats(coco.getCatIds())]
    assert names == list(LABELS)
    assert coco.getCatIds() == [1, 2, 3, 4, 5, 6]
    assert len(coco.getImgIds()) == 6
    assert len(coco.getAnnIds()) > 30
    for annotation in coco.loadAnns(coco.getAnnIds()):
        x, y, w, h = annotation["bbox"]
        assert x >= 0
        assert y >= 0
        assert w > 0
        assert h > 0
        assert x + w <= FRAME_WIDTH + 1e-3
        assert y + h <= FRAME_HEIGHT + 1e-3
    for image in coco.loadImgs(coco.getImgIds()):
        pixels = cv2.imread(str(exported / "train" / "images" / image["file_name"]))
        assert pixels is not None
        assert pixels.shape == (image["height"], image["width"], 3)


def test_export_repeats_bit_for_bit(exported: Path, tmp_path: Path) -> None:
    """The same plan writes the same annotations and pictures."""
    list(export_dataset(tmp_path, ExportPlan(2, (1, 0, 0), 2)))
    for name in ("00000_00.jpg", "00000_01.jpg"):
        ours, theirs = (root / "train" / "images" / name for root in (tmp_path, exported))
        assert ours.read_bytes() == theirs.read_bytes()


def test_binary_look_is_exported_with_its_own_convention(tmp_path: Path) -> None:
    """Specimens of one board, 640x640, in the layout that every look has."""
    list(export_dataset(tmp_path, ExportPlan(2, (1, 0, 0), 2, Look.BINARY)))
    document = load(tmp_path, "train")
    assert "brush" in document["info"]["box_convention"]
    assert [image["board"] for image in document["images"]] == [0, 0]
    ids = [annotation["defect_id"] for annotation in document["annotations"]]
    assert len(ids) == len(set(ids)) > 10
    for image in document["images"]:
        pixels = cv2.imread(str(tmp_path / "train" / "images" / image["file_name"]))
        assert pixels is not None
        assert pixels.shape == (image["height"], image["width"], 3) == (640, 640, 3)


def test_frames_of_a_board_see_all_of_it() -> None:
    """With two frames or more, offsets leave no column of the board unseen."""
    for board in range(20):
        offsets = frame_offsets(4, board, 2)
        assert min(offsets) <= 320
        assert max(offsets) - min(offsets) < FRAME_WIDTH
        assert max(offsets) + FRAME_WIDTH >= BOARD_PITCH_PX - 160
