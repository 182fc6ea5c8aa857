"""`edge-node spool` as an operator runs it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_node.__main__ import main
from edge_node.adapters.spool.cipher import Cipher
from edge_node.adapters.spool.database import FILE, SpoolDatabase
from edge_node.adapters.spool.entries import Ended
from edge_node.adapters.spool.folder import FolderLock
from edge_node.values import Cause, EscalationOutcome, Kept
from foundation.clock import SystemClock
from foundation.escalations import Answer, Encoding, LabelledBoxes, Verdict
from foundation.images import encode_image
from tests.edge_node.escalations import candidate, escalation
from tests.edge_node.spooled import KEY

PICTURE = np.full((48, 64, 3), 90, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A spool with one answered, one failed and one waiting escalation."""
    fill(tmp_path / "spool")
    return tmp_path / "spool"


def fill(folder: Path, key: str = "") -> None:
    """Writes it as an edge node does."""
    folder.mkdir()
    cipher = Cipher(bytes.fromhex(key) if key else None)
    now_ns = SystemClock().now_ns()
    found = LabelledBoxes(
        np.array([[11, 21, 19, 29]], np.float32), np.array([0.9], np.float32), ("red",)
    )
    verdict = Verdict("a" * 32, Answer(found), "c" * 64)
    with SpoolDatabase.open(folder, cipher) as database, database.transaction():
        for letter in "abw":
            crop = escalation(letter * 32)
            image = encode_image(PICTURE, Encoding.WEBP, 80)
            crop = type(crop)(
                **{name: getattr(crop, name) for name in crop.__slots__} | {"image": image}
            )
            database.append(Kept(crop, candidate(letter * 32).question, 0.2, "run", ""))
        answered, failed = EscalationOutcome.ANSWERED, EscalationOutcome.FAILED
        database.end(Ended("a" * 32, answered, Cause.NONE, now_ns, verdict))
        database.end(Ended("b" * 32, failed, Cause.REJECTED, now_ns))


def test_ls_lists_what_is_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By state, with the totals."""
    assert main(["spool", "ls", "--folder", str(folder)]) == 0
    text = capsys.readouterr().out
    for part in (
        "aaaaaaaaaaaa",
        "answered",
        "failed (rejected)",
        "waiting",
        "1 wait",
        "2 have ended",
    ):
        assert part in text
    assert main(["spool", "ls", "--folder", str(folder), "--state", "waiting"]) == 0
    assert "aaaaaaaaaaaa" not in capsys.readouterr().out


def test_show_draws_both_opinions(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Enlarged, in two colours."""
    target = tmp_path / "crop.png"
    assert main(["spool", "show", "aa", "--folder", str(folder), "--out", str(target)]) == 0
    text = capsys.readouterr().out
    assert "edge: blue 0.40" in text
    assert "cloud: red 0.90" in text
    pixels = cv2.imread(str(target))
    assert pixels is not None
    assert pixels.shape == (288, 384, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 3


def test_export_is_a_coco_split_with_clean_crops(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Boxes in crop pixels; the image is byte for byte what the cloud saw."""
    out = tmp_path / "out"
    assert main(["spool", "export", "--folder", str(folder), "--out", str(out)]) == 0
    assert "1 crops, 1 boxes of the cloud, 1 of the edge" in capsys.readouterr().out
    cloud = json.loads((out / "instances.json").read_text())
    edge = json.loads((out / "edge.json").read_text())
    assert cloud["images"] == edge["images"]
    [image] = cloud["images"]
    assert (image["width"], image["height"], image["camera"]) == (64, 48, "cam")
    image_bytes = (out / "images" / image["file_name"]).read_bytes()
    assert image_bytes == encode_image(PICTURE, Encoding.WEBP, 80)
    assert cloud["annotations"][0]["bbox"] == [11, 21, 8, 8]
    assert cloud["categories"] == [{"id": 1, "name": "red"}]
    assert edge["categories"] == [{"id": 1, "name": "blue"}]
    assert main(["spool", "export", "--folder", str(folder), "--out", str(out)]) == 78
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["crop.foo", "crop", "crop.exr"])
def test_show_wants_a_suffix_of_a_picture(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """And says which."""
    target = tmp_path / name
    assert main(["spool", "show", "aa", "--folder", str(folder), "--out", str(target)]) == 78
    said = capsys.readouterr().err
    assert str(target) in said
    assert "Choose a path that ends in .png" in said
    assert not target.exists()


@pytest.mark.parametrize("place", ["missing", "file"])
def test_show_names_the_folder_that_cannot_be_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    """It is not there, or is none; the suffix is right."""
    (tmp_path / "file").write_text("")
    target = tmp_path / place / "crop.png"
    assert main(["spool", "show", "aa", "--folder", str(folder), "--out", str(target)]) == 78
    said = capsys.readouterr().err
    assert f"Cannot write crop.png in {target.parent}" in said
    assert "Choose a folder" in said
    assert "ends in .png" not in said


def test_purge_makes_no_spool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is none; and asks whether it is meant before it opens anything."""
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        purge = ["spool", "purge", "--folder", str(tmp_path / name)]
        assert main(purge) == 78
        assert "--yes" in capsys.readouterr().err
        assert main([*purge, "--yes"]) == 78
        said = capsys.readouterr()
        assert (
            f"There is no spool in {tmp_path / name}. Name the folder of spool.folder" in said.err
        )
        assert not said.out
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_purge_must_be_meant(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What waits ends as evicted; what has ended is forgotten."""
    purge = ["spool", "purge", "--folder", str(folder), "--state", "all"]
    assert main(purge) == 78
    assert "--yes" in capsys.readouterr().err
    assert main([*purge, "--yes"]) == 0
    assert "3 are purged" in capsys.readouterr().out
    assert main(["spool", "ls", "--folder", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "evicted (purged)" in text
    assert "0 wait (0 bytes), 1 have ended (0 bytes)" in text


def test_what_an_edge_node_has_in_hand_is_not_purged(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would get no end in the results; what has ended may go."""
    purge = ["spool", "purge", "--folder", str(folder), "--yes"]
    with FolderLock(folder):
        for state in ("waiting", "all"):
            assert main([*purge, "--state", state]) == 78
            assert (
                "Stop the edge node first, or purge with --state ended" in capsys.readouterr().err
            )
        assert main([*purge, "--state", "ended"]) == 0
    assert "2 are purged" in capsys.readouterr().out


def test_check_finds_damage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1; of a sound one 0."""
    assert main(["spool", "check", "--folder", str(folder)]) == 0
    assert "nothing is damaged" in capsys.readouterr().out
    file = folder / FILE
    data = bytearray(file.read_bytes())
    at = data.find(b"WEBP")
    data[at] ^= 0xFF
    file.write_bytes(bytes(data))
    assert main(["spool", "check", "--folder", str(folder)]) == 1
    assert "damaged" in capsys.readouterr().out
    file.write_bytes(b"x" * 10_000)
    assert main(["spool", "check", "--folder", str(folder)]) == 78
    assert "moves it aside" in capsys.readouterr().err


def test_commands_name_what_is_missing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No folder, no spool, no such id, no key."""
    assert main(["spool", "ls"]) == 78
    assert "--folder" in capsys.readouterr().err
    assert main(["spool", "ls", "--folder", str(tmp_path / "nowhere")]) == 78
    assert "no spool" in capsys.readouterr().err
    assert main(["spool", "show", "zz", "--folder", str(folder)]) == 78
    assert "begins with 'zz'" in capsys.readouterr().err
    fill(tmp_path / "sealed", KEY)
    assert main(["spool", "ls", "--folder", str(tmp_path / "sealed")]) == 78
    assert "key" in capsys.readouterr().err
    (tmp_path / "key").write_text(KEY)
    options = ["--folder", str(tmp_path / "sealed"), "--key-file", str(tmp_path / "key")]
    assert main(["spool", "check", *options]) == 0
