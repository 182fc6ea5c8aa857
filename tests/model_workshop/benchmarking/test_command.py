"""The command line of the benchmark: what it writes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.errors import EXIT_CONFIG, EXIT_OK
from foundation.tuning import core_count, read_tuning
from model_workshop.__main__ import main
from tests.support.bundles import write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bundle on disk."""
    return str(write_bundle(tmp_path_factory.mktemp("bench") / "bundle"))


def test_it_prints_and_writes_what_it_found(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table, the figures, and a tuning file for this bundle."""
    tuning, figures = tmp_path / "tuning.yaml", tmp_path / "figures.json"
    quick = ["--providers", "cpu", "--threads", "1", "--samples", "4", "--warm-up", "0"]
    outputs = ["--tuning", str(tuning), "--json", str(figures)]
    assert main(["bench", bundle, *quick, *outputs]) == EXIT_OK
    printed = capsys.readouterr()
    assert "Chosen: cpu x1" in printed.out
    assert "detector.tuning" in printed.out
    assert "turn 1 of 4" in printed.err
    assert read_tuning(tuning).intra_op_threads == 1
    assert figures.stat().st_size > 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--providers", "quantum"], "There is no provider 'quantum'"),
        (["--threads", str(core_count() + 1)], f"on {core_count()} cores"),
        (["--threads", "one"], "is no list of numbers"),
        (["--samples", "0"], "--samples is 0"),
        (["--warm-up", "-1"], "--warm-up is -1"),
        (["--sustain-minutes", "1"], "a last minute beside the first"),
        (["--images", "nowhere"], "holds no images"),
        (["--reference", "nowhere"], "no bundle at nowhere"),
    ],
    ids=lambda value: "" if isinstance(value, str) else value[0],
)
def test_what_makes_no_sense_is_refused_before_any_run(
    flags: list[str], words: str, bundle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the flag or the thing in the message."""
    assert main(["bench", bundle, *flags]) == EXIT_CONFIG
    assert words in capsys.readouterr().err


def test_an_absent_bundle_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing is run."""
    assert main(["bench", "nowhere"]) == EXIT_CONFIG
    assert "There is no bundle at nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--tuning", "--json"])
def test_an_output_that_exists_is_refused_before_any_run(
    flag: str, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody measures for half an hour to learn that the path is taken."""
    taken = tmp_path / "taken"
    taken.write_text("")
    assert main(["bench", bundle, flag, str(taken)]) == EXIT_CONFIG
    assert "exists" in capsys.readouterr().err
