from __future__ import annotations

from pathlib import Path

import pytest

from foundation.bundle import Bundle
from foundation.errors import EXIT_CONFIG, EXIT_OK
from model_workshop.__main__ import main
from tests.support.bundles import write_bundle
from tests.support.datasets import write_split


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with squares."""
    directory = tmp_path_factory.mktemp("squares") / "val"
    return write_split(directory, images=16, width=64, height=64, side=16)


def test_report_is_printed_and_scores_are_fitted(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Size, pace, agreement, loss and the calibrators; then the bundle opens."""
    bundle, out = write_bundle(tmp_path / "bundle"), tmp_path / "int8"
    splits = ["--evaluate", str(split), "--fit", str(split)]
    arguments = ["quantize", str(bundle), "--images", str(split / "images"), *splits]
    assert main([*arguments, "--out", str(out)]) == EXIT_OK
    printed = capsys.readouterr().out
    for words in ("size ", "times as fast", "agreement", "mAP50-95", "percentile 99.99", "chosen"):
        assert words in printed
    assert "give --fit SPLIT" not in printed
    assert Bundle.open(out).info.model_card.parents == (Bundle.open(bundle).digest,)


def test_unwritable_output_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The images are not even looked for."""
    bundle = write_bundle(tmp_path / "bundle")
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    out = tmp_path / "file" / "int8"
    arguments = ["quantize", str(bundle), "--images", "absent", "--out", str(out)]
    assert main(arguments) == EXIT_CONFIG
    assert "cannot be written" in capsys.readouterr().err


def test_too_few_images_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message counts them, names the least and says what to give."""
    bundle = write_bundle(tmp_path / "bundle")
    images = write_split(tmp_path / "val", images=1) / "images"
    arguments = ["quantize", str(bundle), "--images", str(images), "--out", str(tmp_path / "out")]
    assert main(arguments) == EXIT_CONFIG
    message = capsys.readouterr().err
    assert "holds 1 image" in message
    assert "at least 16" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--loss-max", "0.5"], "--loss-max is given without a split to hold it on"),
        (["--loss-max", "nan", "--evaluate", "{split}"], "--loss-max is nan"),
        (["--loss-max", "-1", "--evaluate", "{split}"], "--loss-max is -1.0"),
    ],
)
def test_a_loss_that_cannot_be_held_is_refused_before_any_work(
    split: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    """A limit that limits nothing would pass for one that was held."""
    bundle = write_bundle(tmp_path / "bundle")
    given = [option.format(split=split) for option in options]
    out = ["--out", str(tmp_path / "out")]
    assert main(["quantize", str(bundle), "--images", "absent", *out, *given]) == EXIT_CONFIG
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--images", "--evaluate", "--fit"])
def test_floors_are_not_held_where_the_model_was_made(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    """What a split helped to choose or to fit it can no longer judge."""
    bundle, floors = write_bundle(tmp_path / "bundle"), tmp_path / "floors.yaml"
    floors.write_text(
        "{objects_min: 1, too_few_objects: skip, "
        "floors_points: {judged_by: point, overall: {recall: 1}}}",
        encoding="utf-8",
    )
    gate = ["--floors", str(floors), "--floors-split", str(split)]
    made_from = {"--images": tmp_path / "absent", option: split}
    made_from["--images"] = made_from["--images"] / "images"
    given = ["--out", str(tmp_path / "out")]
    given += [str(part) for pair in made_from.items() for part in pair]
    assert main(["quantize", str(bundle), *given, *gate]) == EXIT_CONFIG
    assert "Splits share images (16)" in capsys.readouterr().err
