from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from replay.answers import Answers
from replay.outcomes import Outcomes
from tests.replay.pair import open_answers, outcomes_of, write_material


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that remembers answers."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="session")
def answers(work: Path) -> Iterator[Answers]:
    """Both models of the little pair."""
    with open_answers(work) as opened:
        yield opened


@pytest.fixture(scope="session")
def outcomes(answers: Answers, tmp_path_factory: pytest.TempPathFactory, work: Path) -> Outcomes:
    """A labelled split of eight frames."""
    return outcomes_of(
        answers, write_material(tmp_path_factory.mktemp("val") / "val", images=8), work
    )


@pytest.fixture(scope="session")
def unlabelled(answers: Answers, tmp_path_factory: pytest.TempPathFactory, work: Path) -> Outcomes:
    """A folder of five frames without labels."""
    split = write_material(tmp_path_factory.mktemp("plain") / "val", images=5, seed=3)
    return outcomes_of(answers, split / "images", work)
