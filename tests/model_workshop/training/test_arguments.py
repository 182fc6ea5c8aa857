"""Command lines of training that contradict themselves; PyTorch is not needed to say so."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from foundation.errors import ConfigError
from model_workshop.training.arguments import add_training_arguments, check_ends


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
