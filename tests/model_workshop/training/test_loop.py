from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is in the extra 'train'")

from foundation.bundle import Bundle  # noqa: E402
from foundation.detector import Detector  # noqa: E402
from foundation.errors import ConfigError  # noqa: E402
from foundation.geometry import Letterbox, LetterboxSpec  # noqa: E402
from foundation.session import ModelSession  # noqa: E402
from model_workshop.datasets import read_split  # noqa: E402
from model_workshop.evaluation.coco import evaluate  # noqa: E402
from model_workshop.quantization.static import quantize_model  # noqa: E402
from model_workshop.training import export  # noqa: E402
from model_workshop.training.checkpoints import trained_checkpoint  # noqa: E402
from model_workshop.training.finishing import finish  # noqa: E402
from model_workshop.training.lessons import Lesson, TrainingPlan  # noqa: E402
from model_workshop.training.loop import train  # noqa: E402
from model_workshop.training.nets import (  # noqa: E402
    CLOUD,
    EDGE,
    GridDetector,
    NetShape,
    multiply_adds,
    parameter_count,
)
from model_workshop.training.objectives import box_loss, focal_loss, grid_targets  # noqa: E402
from model_workshop.training.recipe import (  # noqa: E402
    Material,
    Recipe,
    cloud_recipe,
    edge_recipe,
)
from model_workshop.training.sampling import FrameSampler, Sample, Sampler  # noqa: E402
from model_workshop.training.stages import train_stage  # noqa: E402
from tests.support.datasets import write_dataset  # noqa: E402

TINY = NetShape(3, stem=8, stem_depth=1, widths=(16, 16), depths=(1, 1), head=1)
PLAN = TrainingPlan(steps=20, batch_size=4, learning_rate=1e-2, average_decay=0.95, seed=1)


def _small(recipe: Recipe) -> Recipe:
    """The same recipe for a net and pictures that train in seconds."""
    return dataclasses.replace(recipe, shape=TINY, width=160, height=128, window=(96, 96))


def test_shipped_shapes_are_what_the_documentation_says() -> None:
    """About 1 M parameters at the edge; ten times its multiply-adds a pixel in the cloud."""
    edge, cloud = GridDetector(EDGE), GridDetector(CLOUD)
    assert 0.8e6 < parameter_count(edge) < 1.1e6
    assert parameter_count(cloud) * 4 < 8e6
    edge_per_pixel = multiply_adds(edge, 320, 416) / (1280 * 960)
    cloud_per_pixel = multiply_adds(cloud, 192, 192) / 192**2
    assert cloud_per_pixel > 10 * edge_per_pixel


def test_targets_mark_the_cell_of_the_centre() -> None:
    """One cell is exactly 1, its neighbours are less, and all near it learn the box."""
    boxes = np.array([[20, 12, 32, 20]], np.float32)
    heatmap, target, weight = grid_targets(boxes, np.array([1], np.int32), 3, 8, 16)
    assert np.argwhere(heatmap == 1.0).tolist() == [[1, 4, 6]]
    assert heatmap[0].max() == heatmap[2].max() == 0
    assert target[:, 4, 6].tolist() == [5, 3, 8, 5]
    assert weight[4, 6] == 1.0


def test_losses_vanish_at_the_target() -> None:
    """A net that says exactly what is asked for has nothing left to learn."""
    boxes = np.array([[20, 12, 32, 20]], np.float32)
    parts = grid_targets(boxes, np.array([1], np.int32), 3, 8, 16)
    heatmap, target, weight = (torch.from_numpy(part[None]) for part in parts)
    sure = torch.where(heatmap == 1.0, 20.0, -20.0)
    assert focal_loss(sure, heatmap).item() < 1e-6
    cells = torch.stack(torch.meshgrid(torch.arange(16), torch.arange(8), indexing="xy")) + 0.5
    offset = (target[0, :2] + target[0, 2:]) / 2 - cells
    half = ((target[0, 2:] - target[0, :2]) / 2).clamp(min=0.05).log()
    exact = torch.cat([offset, half])[None]
    assert box_loss(exact, target, weight).item() < 1e-5
    assert box_loss(exact + 0.2, target, weight).item() > 0.1


def _random_net() -> GridDetector:
    """A tiny net whose batch normalizations have seen something."""
    torch.manual_seed(3)
    net = GridDetector(TINY).train()
    with torch.no_grad():
        for _ in range(5):
            net(torch.rand(4, 3, 64, 96))
        net.outputs.weight.normal_(std=0.3)
        net.outputs.bias.zero_()  # else the prior takes most of the 256 steps
    return net.eval()


def _outputs(model: bytes, image: np.ndarray) -> dict[str, np.ndarray]:
    buffers = ModelSession.open(model).bind(image.shape)
    buffers.input[:] = image
    buffers.run()
    return {name: array.copy() for name, array in buffers.outputs.items()}


def test_exported_graph_says_what_the_net_says() -> None:
    """Folding, splitting and the uint8 input change nothing; distances are decoded as boxes."""
    net = _random_net()
    core = export.export_core(net, width=96, height=64, dynamic_batch=True)
    wrapped = export.wrap(core, width=96, height=64, classes=3, dynamic_batch=True)
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    found = _outputs(wrapped.SerializeToString(), image)
    pixels = torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        heatmap, placement = net(pixels)
    assert np.allclose(found["heatmap"], heatmap.numpy(), atol=1e-3)
    offset, half = placement[:, :2].numpy(), np.exp(placement[:, 2:].numpy())
    assert np.allclose(found["box"], np.concatenate([half - offset, half + offset], 1), atol=1e-3)


def test_integer_graph_reads_bytes_and_agrees() -> None:
    """The INT8 model quantizes nothing in front: the camera's bytes are its integers."""
    net = _random_net()
    core = export.export_core(net, width=96, height=64, dynamic_batch=False)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (8, 64, 96, 3), np.uint8)
    tensors = [image.transpose(2, 0, 1)[None] * export.PIXEL_SCALE for image in images]
    integer = quantize_model(core, tensors, input_scale=export.PIXEL_SCALE)
    wrapped = export.wrap(integer, width=96, height=64, classes=3, dynamic_batch=False)
    first = [node.op_type for node in wrapped.graph.node[:2]]
    assert first == ["Transpose", "DequantizeLinear"]
    floating = export.wrap(core, width=96, height=64, classes=3, dynamic_batch=False)
    exact = _outputs(floating.SerializeToString(), images[:1])
    rounded = _outputs(wrapped.SerializeToString(), images[:1])
    spread = exact["heatmap"].std()
    # Processors without VNNI saturate sums of products, and come to a tenth.
    assert np.abs(exact["heatmap"] - rounded["heatmap"]).mean() < 0.15 * spread


class _PowerCutError(Exception):
    """What ends a run in the middle."""


class _CutSampler:
    """Draws like another sampler, until it fails."""

    def __init__(self, sampler: Sampler, draws: int) -> None:
        self._sampler, self._left = sampler, draws

    def draw(self, random: np.random.Generator) -> Sample:
        """A sample, or the end."""
        self._left -= 1
        if self._left < 0:
            raise _PowerCutError
        return self._sampler.draw(random)


def _sampler(folder: Path) -> FrameSampler:
    split = read_split(write_dataset(folder) / "train")
    return FrameSampler(split.pictures, Letterbox(LetterboxSpec(), 160, 128), (160, 128), (64, 64))


def _start() -> GridDetector:
    torch.manual_seed(1)
    return GridDetector(TINY)


def test_interrupted_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    """A run that is cut goes on from its last checkpoint as if it had not been."""
    sampler = _sampler(tmp_path / "data")
    plan = dataclasses.replace(PLAN, steps=12, batch_size=2, stretch=5)
    expected = train(_start(), Lesson(sampler), plan, tmp_path / "whole")
    cut = Lesson(_CutSampler(sampler, 2 * 7))
    with pytest.raises(_PowerCutError):
        train(_start(), cut, plan, tmp_path / "cut")
    assert trained_checkpoint(tmp_path / "cut").step == 5
    resumed = train(_start(), Lesson(sampler), plan, tmp_path / "cut")
    for name, value in expected.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_folder_of_another_shape_is_refused(tmp_path: Path) -> None:
    """Resuming with other widths is a mistake that must not silently start anew."""
    dataset = write_dataset(tmp_path / "data")
    recipe = _small(edge_recipe(PLAN))
    train_stage(recipe, Material.read([dataset]), tmp_path / "work")
    other = dataclasses.replace(recipe, shape=dataclasses.replace(TINY, head=2))
    with pytest.raises(ConfigError, match="another shape"):
        train(
            GridDetector(other.shape), Lesson(_sampler(tmp_path / "more")), PLAN, tmp_path / "work"
        )
    with pytest.raises(ConfigError, match="Train first"):
        trained_checkpoint(tmp_path / "nowhere")


@pytest.mark.slow
def test_recipes_make_a_pair_of_bundles(tmp_path: Path) -> None:
    """Both kinds train, export, calibrate and pass their own smoke test from a file."""
    dataset = write_dataset(tmp_path / "data", images=12)
    plan = dataclasses.replace(PLAN, steps=160)
    material, bundles = Material.read([dataset]), dict[str, Bundle]()
    for recipe in (_small(edge_recipe(plan)), _small(cloud_recipe(plan))):
        if recipe.name.startswith("cloud"):
            recipe = dataclasses.replace(recipe, width=96, height=96)  # noqa: PLW2901
        folder, proposer = tmp_path / recipe.name, bundles.get("edge-reference")
        train_stage(recipe, material, folder, proposer=proposer)
        finish(recipe, material, folder, proposer=proposer).write(tmp_path / "out" / recipe.name)
        bundles[recipe.name] = Bundle.open(tmp_path / "out" / recipe.name)
        Detector.open(bundles[recipe.name]).check_smoke()
    edge, cloud = bundles["edge-reference"], bundles["cloud-reference"]
    assert evaluate(edge, read_split(dataset / "test")).best.f1 > 0.8
    assert cloud.info.model_card.parents == (edge.digest,)
    assert cloud.info.model_card.figures["at_report_threshold"]["f1"] > 0.8
