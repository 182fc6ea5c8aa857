"""Command lines of training that contradict themselves; PyTorch is not needed to say so."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from foundation.errors import ConfigError
from model_workshop.datasets import read_split
from model_workshop.training.arguments import (
    add_training_arguments,
    check_ends,
    check_judge,
    plan_of,
)
from tests.support.datasets import write_dataset


def parsed(*options: str) -> argparse.Namespace:
    """The command line of a step that goes on from another run."""
    parser = argparse.ArgumentParser()
    add_training_arguments(parser, learning_rate=1e-3)
    return parser.parse_args(["data", "--steps", "1", *options])


def test_a_run_that_would_go_on_from_itself_is_refused(tmp_path: Path) -> None:
    """The folder would be resumed, and called pruned without a channel less."""
    run, same = str(tmp_path / "run"), str(tmp_path / "other" / ".." / "run")
    with pytest.raises(ConfigError, match="the folder to go on from and that of this run"):
        check_ends(parsed("--from", run, "--work", same))
    check_ends(parsed("--from", run, "--work", str(tmp_path / "next")))


def test_floors_without_a_bundle_to_judge_are_refused(tmp_path: Path) -> None:
    """They would be read, found in order, and hold nothing back."""
    options = ["--from", "run", "--work", str(tmp_path), "--floors", "floors.yaml"]
    with pytest.raises(ConfigError, match="none is to be written"):
        check_ends(parsed(*options, "--floors-split", "val"))


@pytest.mark.parametrize(
    ("option", "value"),
    [("--learning-rate", "nan"), ("--minutes", "nan"), ("--minutes", "inf"), ("--threads", "0")],
)
def test_numbers_that_are_none_are_refused(option: str, value: str) -> None:
    """NaN is not below any limit, and a run with such a budget never ends."""
    with pytest.raises(ConfigError, match=f"^{option} is {value}"):
        plan_of(parsed("--from", "run", "--work", "next", option, value))


@pytest.mark.parametrize(("judge", "is_refused"), [("train", True), ("val", True), ("test", False)])
def test_floors_are_not_held_where_the_model_is_from(
    tmp_path: Path, judge: str, is_refused: bool
) -> None:
    """The gate would refuse such a split, too, but only after the training."""
    data = write_dataset(tmp_path / "data")
    options = ["--floors", "floors.yaml", "--floors-split", str(data / judge)]
    arguments = parsed("--from", "run", "--work", "next", *options)
    made_from = [read_split(data / name) for name in ("train", "val")]
    if is_refused:
        with pytest.raises(ConfigError, match=r"Splits share images \(4\)"):
            check_judge(arguments, *made_from)
    else:
        check_judge(arguments, *made_from)
