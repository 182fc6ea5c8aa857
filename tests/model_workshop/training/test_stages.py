from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is in the extra 'train'")

from foundation.bundle import Bundle  # noqa: E402
from foundation.detector import Detector  # noqa: E402
from foundation.errors import EXIT_OK, ConfigError  # noqa: E402
from foundation.geometry import Letterbox  # noqa: E402
from model_workshop.__main__ import main  # noqa: E402
from model_workshop.evaluation.coco import evaluate  # noqa: E402
from model_workshop.training.checkpoints import FILE, trained_checkpoint  # noqa: E402
from model_workshop.training.finishing import draft  # noqa: E402
from model_workshop.training.lessons import TrainingPlan  # noqa: E402
from model_workshop.training.nets import EDGE, NetShape  # noqa: E402
from model_workshop.training.recipe import (  # noqa: E402
    Material,
    Recipe,
    edge_recipe,
    recipe_of,
    sampler_for,
)
from model_workshop.training.stages import (  # noqa: E402
    distil_stage,
    finetune_stage,
    prune_stage,
    train_stage,
)
from model_workshop.training.teaching import ask_all  # noqa: E402
from tests.support.datasets import write_dataset, write_split  # noqa: E402

TINY = NetShape(3, stem=8, stem_depth=1, widths=(16, 16), depths=(1, 1), head=1)
FEW = TrainingPlan(steps=4, batch_size=4, learning_rate=1e-3, stretch=2, seed=1)


@dataclasses.dataclass(frozen=True)
class Run:
    """A tiny net that has learned to find squares, and what it learned from."""

    recipe: Recipe
    material: Material
    folder: Path
    teacher: Bundle


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained once for all tests of this module."""
    root = tmp_path_factory.mktemp("stages")
    plan = TrainingPlan(
        steps=80, batch_size=4, learning_rate=1e-2, average_decay=0.95, stretch=40, seed=1
    )
    recipe = dataclasses.replace(
        edge_recipe(plan), shape=TINY, width=160, height=128, window=(96, 96)
    )
    material = Material.read([write_dataset(root / "data", images=6)])
    train_stage(recipe, material, root / "work")
    bundles = draft(recipe, material, root / "work")
    assert bundles.integer is not None
    return Run(recipe, material, root / "work", bundles.integer)


def _briefly(run: Run, **changes: object) -> Recipe:
    plan = dataclasses.replace(FEW, **changes)  # type: ignore[arg-type]
    return recipe_of(trained_checkpoint(run.folder), plan)


def test_checkpoint_says_what_it_was_trained_for(run: Run) -> None:
    """Whoever goes on from a run needs to be told only where it lies."""
    checkpoint = trained_checkpoint(run.folder)
    assert checkpoint.step == 80
    assert recipe_of(checkpoint, run.recipe.plan) == run.recipe
    assert evaluate(run.teacher, run.material.test).best.f1 > 0.8
    assert (run.folder / "curve.svg").exists()


def test_stages_stack(run: Run, tmp_path: Path) -> None:
    """Distilled, then pruned, then fine-tuned: smaller, folded, and still a detector."""
    pytest.importorskip("torch_pruning", reason="torch_pruning is in the extra 'train'")
    recipe = _briefly(run)
    distil_stage(
        recipe, run.material, tmp_path / "distilled", start=run.folder, teacher=run.teacher
    )
    prune_stage(recipe, run.material, tmp_path / "pruned", start=tmp_path / "distilled", keep=0.5)
    pruned = trained_checkpoint(tmp_path / "pruned")
    assert pruned.shape == dataclasses.replace(TINY, stem=8, widths=(8, 8))
    finetune_stage(recipe, run.material, tmp_path / "tuned", start=tmp_path / "pruned")
    tuned = trained_checkpoint(tmp_path / "tuned")
    assert tuned.folded
    told = " ".join(tuned.facts["story"])
    assert ["distilled" in told, "pruned to 50%" in told, "INT8" in told] == [True] * 3
    bundles = draft(recipe_of(tuned, FEW), run.material, tmp_path / "tuned")
    assert bundles.integer is not None
    Detector.open(bundles.integer).check_smoke()


def test_finetuning_goes_on_with_the_ranges_it_began_with(run: Run, tmp_path: Path) -> None:
    """A second call trains further on the same grid, not on one of its own."""
    finetune_stage(_briefly(run), run.material, tmp_path / "tuned", start=run.folder)
    ranges = trained_checkpoint(tmp_path / "tuned").facts["ranges"]
    finetune_stage(_briefly(run, steps=6), run.material, tmp_path / "tuned", start=run.folder)
    again = trained_checkpoint(tmp_path / "tuned")
    assert again.step == 6
    assert again.facts["ranges"] == ranges
    with pytest.raises(ConfigError, match="comes after pruning"):
        prune_stage(
            _briefly(run), run.material, tmp_path / "no", start=tmp_path / "tuned", keep=0.5
        )


def test_opinions_lie_where_the_objects_are(run: Run, tmp_path: Path) -> None:
    """Wherever a window is cut and however it is mirrored, the teacher is hot at the objects."""
    student = Letterbox(run.recipe.letterbox, run.recipe.width, run.recipe.height)
    opinions = ask_all(run.teacher, run.material.train, tmp_path, student)
    sampler = sampler_for(run.recipe, run.material, opinions=opinions)
    random = np.random.default_rng(0)
    objects = hot = 0
    for _ in range(30):
        sample = sampler.draw(random)
        assert sample.opinion is not None
        for box, class_id in zip(sample.boxes, sample.class_ids, strict=True):
            x, y = ((box[:2] + box[2:]) / 8).astype(int)
            near = sample.opinion[class_id, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            objects += 1
            hot += int(near.max() > sample.opinion[class_id].mean() + 1.0)
    assert hot > 0.9 * objects > 20
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    ask_all(run.teacher, run.material.train, tmp_path, student)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept


def test_teacher_of_other_labels_is_refused(run: Run, tmp_path: Path) -> None:
    """A teacher must name what the student is to learn, in the same order."""
    info = run.teacher.info.model_copy(update={"labels": ("red", "green", "blue")})
    stranger = dataclasses.replace(run.teacher, info=info)
    with pytest.raises(ConfigError, match="in the same order"):
        distil_stage(
            _briefly(run), run.material, tmp_path / "no", start=run.folder, teacher=stranger
        )


def test_datasets_of_other_labels_are_refused(run: Run, tmp_path: Path) -> None:
    """Several datasets train one net only where they speak of the same classes."""
    other = write_dataset(tmp_path / "other")
    path = other / "train" / "instances.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"blue"', '"teal"'), encoding="utf-8")
    with pytest.raises(ConfigError, match="teal"):
        Material.read([run.material.val.directory.parent, other])
    for name in ("val", "test"):
        edited = other / name / "instances.json"
        text = edited.read_text(encoding="utf-8").replace('"blue"', '"teal"')
        edited.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="learned blue, green, red"):
        train_stage(_briefly(run), Material.read([other]), tmp_path / "no", start=run.folder)
    with pytest.raises(ConfigError, match="learned blue, green, red"):
        train_stage(run.recipe, Material.read([other]), run.folder)


def test_several_datasets_are_trained_on_together(run: Run, tmp_path: Path) -> None:
    """Pictures of the first, then of the second; validation and test are the first's."""
    write_split(tmp_path / "more" / "train", images=3, seed=9)
    material = Material.read([run.material.val.directory.parent, tmp_path / "more"])
    assert len(material.pictures) == 6 + 3
    assert material.val.directory == run.material.val.directory


def test_loss_that_is_no_number_ends_the_run(run: Run, tmp_path: Path) -> None:
    """The error says so, and the checkpoint is that of before."""
    with pytest.raises(ConfigError, match="not a number"):
        train_stage(
            _briefly(run, learning_rate=1e30, steps=50),
            run.material,
            tmp_path / "work",
            start=run.folder,
        )
    net = trained_checkpoint(tmp_path / "work").averaged_net()
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())


def test_unwritable_work_folder_is_refused(run: Run, tmp_path: Path) -> None:
    """Nothing is trained that could not be kept."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be made"):
        train_stage(_briefly(run), run.material, tmp_path / "file" / "work", start=run.folder)


def test_damaged_checkpoint_is_refused(run: Run, tmp_path: Path) -> None:
    """Half a file is not taken for a run."""
    whole = (run.folder / FILE).read_bytes()
    for content in (whole[: len(whole) // 2], b"a note of somebody else"):
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(ConfigError, match="not a checkpoint"):
            trained_checkpoint(tmp_path)


@pytest.mark.parametrize("keep", [0.0, 1.0, 0.99])
def test_share_that_leaves_all_or_nothing_is_refused(run: Run, tmp_path: Path, keep: float) -> None:
    """Pruning takes something and leaves something."""
    with pytest.raises(ConfigError, match=r"kept|Nothing goes"):
        prune_stage(_briefly(run), run.material, tmp_path / "no", start=run.folder, keep=keep)


def test_width_scales_a_shape_in_blocks() -> None:
    """Half the width is half of every layer, in multiples of 8."""
    assert EDGE.scaled(0.5).widths == (24, 32, 64)
    assert EDGE.scaled(1.0) == EDGE


def test_interrupt_leaves_a_whole_checkpoint_to_go_on_from(run: Run, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a real process: it says how to go on, and the same command does."""
    command = [
        *(sys.executable, "-m", "model_workshop", "train"),
        str(run.material.val.directory.parent),
        *("--from", str(run.folder), "--work", str(tmp_path / "work"), "--batch-size", "4"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--minutes", "30"], stderr=subprocess.PIPE, text=True, env=environment
    )
    deadline = time.monotonic() + 45
    while not (tmp_path / "work" / FILE).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)  # some steps
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on" in said
    step = trained_checkpoint(tmp_path / "work").step
    assert main([*command[3:], "--steps", str(step + 2)]) == EXIT_OK
    assert trained_checkpoint(tmp_path / "work").step == step + 2
