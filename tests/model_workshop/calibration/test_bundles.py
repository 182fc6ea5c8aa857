from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from foundation.bundle import Bundle
from foundation.errors import EXIT_CONFIG, EXIT_OK, ConfigError
from foundation.gains import GainModel, LevelCosts
from model_workshop.__main__ import main
from model_workshop.calibration.bundles import calibrate_bundle
from model_workshop.datasets import read_split, split_digest
from tests.support.bundles import make_bundle, write_bundle
from tests.support.datasets import write_split

pytest.importorskip("pycocotools", reason="pycocotools is in the extra 'workshop'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, a split to fit on and another to check with."""
    folder = tmp_path_factory.mktemp("calibrate")
    write_bundle(folder / "bundle")
    for seed, name in enumerate(("val", "test")):
        write_split(folder / name, images=20, width=64, height=64, side=20, seed=seed)
    return folder


def test_calibrate_writes_and_reports(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors before and after on both splits, who borrows, and a card that says what was used."""
    out = tmp_path / "out.zip"
    paths = [str(folder / name) for name in ("bundle", "val")]
    status = main(["calibrate", *paths, "--check", str(folder / "test"), "--out", str(out)])
    assert status == EXIT_OK
    printed = capsys.readouterr().out
    assert "each image judged by a fit to others" in printed
    assert "other images than those of the fit" in printed
    assert printed.count("\n  all ") == 2
    assert "No accuracy floor was given" in printed
    source, written = Bundle.open(folder / "bundle"), Bundle.open(out)
    card = written.info.model_card
    assert card.parents == (source.digest,)
    assert card.dataset_digests["scores"] == split_digest(read_split(folder / "val"))
    assert set(card.figures["calibration_error"]) == {"cross_fitted", "check"}
    assert written.model == source.model
    assert written.calibration.knots


def test_the_training_split_is_refused(folder: Path) -> None:
    """There the scores are better than anywhere else, and so would be what they are worth."""
    split, other = (read_split(folder / name) for name in ("val", "test"))
    bundle = make_bundle()
    card = bundle.info.model_card.model_copy(
        update={"dataset_digests": {"train": split_digest(split)}}
    )
    info = bundle.info.model_copy(update={"model_card": card})
    trained = dataclasses.replace(bundle, info=info)
    for fit, check in ((split, None), (other, split)):
        with pytest.raises(ConfigError, match=r"squares was trained on .*val"):
            calibrate_bundle(trained, fit, check=check)


def test_the_same_images_to_fit_and_to_check_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A check on the images of the fit checks nothing."""
    val = str(folder / "val")
    out = ["--out", str(tmp_path / "out")]
    assert main(["calibrate", str(folder / "bundle"), val, "--check", val, *out]) == EXIT_CONFIG
    assert "Splits share images (20): " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_crop_model_is_calibrated_where_it_is_asked(tmp_path: Path) -> None:
    """Its scores are those at the proposals of the frame model that ships with it."""
    split = read_split(write_split(tmp_path / "val", images=5, width=320, height=256, side=20))
    frame = make_bundle(320, 256, name="frame")
    result = calibrate_bundle(make_bundle(192, 192), split, proposer=frame)
    assert frame.digest in result.bundle.info.model_card.parents
    assert result.tables[0].hits["all"] > 0


def test_a_policy_goes_with_the_scores_that_it_was_fitted_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is written opens, and says that asking has to be fitted anew; the same fit keeps it."""
    source = make_bundle()
    levels = (LevelCosts(level="webp80"),)
    for name in ("first", "again"):
        policy = GainModel(
            edge_scores=source.scores_digest,
            levels=levels,
            score_knots=(0.0, 1.0),
            gains=(((0.0, 1.0),),),
        )
        dataclasses.replace(source, policy=policy).write(tmp_path / f"{name}-before")
        paths = [str(tmp_path / f"{name}-before"), str(folder / "val")]
        assert main(["calibrate", *paths, "--out", str(tmp_path / name)]) == EXIT_OK
        source = Bundle.open(tmp_path / name)
        kept = name == "again"
        assert (source.policy is not None) is kept
        assert ("policy was fitted on other scores" in capsys.readouterr().out) is not kept
