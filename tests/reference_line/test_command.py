from pathlib import Path

import cv2
import pytest

from reference_line.__main__ import main


def test_preview_writes_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`preview` draws frames and a row of crops for each class, and says where."""
    out = tmp_path / "deep" / "preview.png"
    assert main(["preview", "--out", str(out), "--seed", "3"]) == 0
    picture = cv2.imread(str(out))
    assert picture is not None
    assert picture.shape[0] > 2000
    assert str(out) in capsys.readouterr().out


def test_export_reports_a_folder_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in the way is named, with what to do, and the exit status says failure."""
    (tmp_path / "taken").write_text("")
    arguments = ["--boards-train", "1", "--boards-val", "0", "--boards-test", "0"]
    assert main(["export", "--out", str(tmp_path / "taken"), *arguments]) == 1
    assert "Give an --out" in capsys.readouterr().err


def test_negative_counts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Counts are checked before anything is rendered."""
    with pytest.raises(SystemExit):
        main(["export", "--out", "x", "--boards-train", "-1"])
    assert "-1 is negative" in capsys.readouterr().err
