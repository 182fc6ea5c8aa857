from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is in the extra 'train'")

from foundation.errors import EXIT_OK, ConfigError  # noqa: E402
from foundation.frames import Detections  # noqa: E402
from model_workshop.datasets import read_split  # noqa: E402
from model_workshop.training.lessons import TrainingPlan  # noqa: E402
from model_workshop.training.nets import NetShape  # noqa: E402
from model_workshop.training.recipe import Material, edge_recipe  # noqa: E402
from model_workshop.training.stages import finetune_stage, train_stage  # noqa: E402
from reference_line.ablation import main, recall_at  # noqa: E402
from tests.support.datasets import write_dataset, write_split  # noqa: E402


def test_table_has_a_row_for_every_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Size, speed, figures in float and INT8, and how far each run is from the first."""
    plan = TrainingPlan(steps=60, batch_size=4, learning_rate=1e-2, average_decay=0.9, stretch=60)
    shape = NetShape(3, stem=8, stem_depth=1, widths=(16, 16), depths=(1, 1), head=1)
    recipe = dataclasses.replace(
        edge_recipe(plan), shape=shape, width=160, height=128, window=(96, 96)
    )
    data, test = write_dataset(tmp_path / "data"), write_split(tmp_path / "test", seed=7)
    material = Material.read([data])
    train_stage(recipe, material, tmp_path / "plain")
    few = dataclasses.replace(recipe, plan=dataclasses.replace(plan, steps=2, learning_rate=1e-5))
    finetune_stage(few, material, tmp_path / "tuned", start=tmp_path / "plain")
    capsys.readouterr()
    arms = [f"{name}={tmp_path / name}" for name in ("plain", "tuned")]
    assert main([*arms, "--data", str(data), "--test", str(test), "--rounds", "2"]) == EXIT_OK
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "4 frames with 12 defects"
    rows = [line.split("|")[1:-1] for line in lines if line.startswith("| ")]
    assert [row[0].strip() for row in rows] == ["arm", "plain", "tuned"]
    assert len({len(row) for row in rows}) == 1
    assert rows[1][1] == " 60 "
    assert rows[1][9] == " — "


def test_recall_counts_the_best_of_all_frames(tmp_path: Path) -> None:
    """A limit of so many a frame is one floor for all frames, not a quota of each."""
    split = read_split(write_split(tmp_path / "split", images=2))
    found = [
        Detections(p.boxes, p.class_ids * 0 + score, p.class_ids)
        for p, score in zip(split.pictures, (0.9, 0.5), strict=True)
    ]
    assert recall_at(found, split, 3) == 1.0
    assert recall_at([*found[:1], Detections.empty()], split, 3) == 0.5


def test_arm_without_a_folder_is_refused(tmp_path: Path) -> None:
    """Every arm has a name for its row."""
    data, test = write_dataset(tmp_path / "data"), write_split(tmp_path / "test", seed=7)
    with pytest.raises(ConfigError, match="NAME=WORK"):
        main(["plain", "--data", str(data), "--test", str(test)])
