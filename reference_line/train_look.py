"""How a model of the binary look was made: ``python -m reference_line.train_look --help``.

The net is the cloud model's, trained from nothing on windows of pictures that
``reference-line export --look binary`` wrote; the bundle takes whole pictures, for the net is fully
convolutional.  docs/workshop/look.md has the commands that were run and the figures they gave.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Final

import numpy as np
import torch

from foundation.bundle import Bundle
from foundation.frames import Pixels
from foundation.geometry import LetterboxSpec
from foundation.manifest import BundleInfo, GridOutputs, InputContract, ModelCard, Postprocess
from foundation.supervision import exit_code_of
from model_workshop.assemble import RUNTIME_MIN, assemble
from model_workshop.datasets import Split, read_split
from model_workshop.outputs import check_output
from model_workshop.training import export
from model_workshop.training.lessons import Lesson, TrainingPlan
from model_workshop.training.loop import train
from model_workshop.training.nets import CLOUD, STRIDE, GridDetector
from model_workshop.training.sampling import Sample, cut, mirror, turn
from reference_line.binary.picture import PADDING_AFTER_PX, PADDING_BEFORE_PX
from reference_line.binary.scenes import SIDE_PX

SEED: Final = 20261120
_PADDING: Final = np.array(
    [-PADDING_BEFORE_PX, -PADDING_BEFORE_PX, PADDING_AFTER_PX, PADDING_AFTER_PX], np.float32
)
_LOUD_SHARE: Final = 0.75
_SCORE_FLOOR: Final = 0.02
_NMS_IOU: Final = 0.3


class WindowSampler:
    """Windows of binary pictures, three in four of them somewhere about a defect.

    Windows are turned and mirrored without their padding, which is not the same on all sides: a
    mirrored box would follow another convention.
    """

    def __init__(self, split: Split, side: int) -> None:
        """Reads every picture once; one channel is kept, for the three are equal.

        Args:
            split: The training pictures.
            side: Side of a window, px.
        """
        self._side = side
        self._wholes = [
            Sample(np.ascontiguousarray(p.read()[:, :, :1]), p.boxes, p.class_ids)
            for p in split.pictures
        ]

    def draw(self, random: np.random.Generator) -> Sample:
        """One window."""
        whole = self._wholes[random.integers(len(self._wholes))]
        last = np.array(whole.pixels.shape[1::-1]) - self._side
        start = random.uniform(0, last)
        if len(whole.boxes) and random.random() < _LOUD_SHARE:
            box = whole.boxes[random.integers(len(whole.boxes))]
            start = (box[:2] + box[2:]) / 2 - random.uniform(0.1, 0.9, 2) * self._side
        x, y = (int(v) for v in np.clip(start, 0, last))
        window = cut(_grown(whole, -1), x, y, self._side, self._side)
        varied = _grown(mirror(turn(window, random), random), 1)
        boxes = np.clip(varied.boxes, 0, self._side)
        return Sample(np.repeat(varied.pixels, 3, axis=2), boxes, varied.class_ids)


def _grown(sample: Sample, times: int) -> Sample:
    """Add the convention's padding to all boxes, or with -1 take it away."""
    return dataclasses.replace(sample, boxes=sample.boxes + times * _PADDING)


def assemble_look(
    net: GridDetector, smoke: Pixels, *, labels: tuple[str, ...], card: ModelCard
) -> Bundle:
    """Wrap a trained net as a bundle for whole pictures.

    Args:
        net: The trained net.
        smoke: uint8 BGR (SIDE_PX, SIDE_PX, 3) with defects.
        labels: Class names.
        card: What it was made from.
    """
    core = export.export_core(net, width=SIDE_PX, height=SIDE_PX, dynamic_batch=False)
    model = export.wrap(
        core, width=SIDE_PX, height=SIDE_PX, classes=len(labels), dynamic_batch=False
    )
    info = BundleInfo(
        name="cloud-binary-look",
        version="1",
        license="Apache-2.0",
        labels=labels,
        input=InputContract(
            name=export.IMAGE, dtype="uint8", layout="NHWC", width=SIDE_PX, height=SIDE_PX
        ),
        letterbox=LetterboxSpec(),
        outputs=GridOutputs(heatmap=export.HEATMAP, box=export.BOX, stride=STRIDE),
        postprocess=Postprocess(score_floor=_SCORE_FLOOR, nms_iou=_NMS_IOU, detections_max=100),
        opset=export.OPSET,
        runtime_min=RUNTIME_MIN,
        model_card=card,
    )
    return assemble(info, model.SerializeToString(), smoke)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="python -m reference_line.train_look")
    parser.add_argument(
        "--data", type=Path, required=True, help="written by reference-line export --look binary"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="bundle to write")
    parser.add_argument("--steps", type=int, default=2000, help="training budget")
    parser.add_argument("--minutes", type=float, help="training budget, if it ends first")
    parser.add_argument("--window", type=int, default=128, help="side of a training window, px")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    return exit_code_of(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    check_output(arguments.out)
    split = read_split(arguments.data / "train")
    plan = TrainingPlan(
        steps=arguments.steps, minutes=arguments.minutes, threads=arguments.threads, seed=SEED
    )
    torch.manual_seed(SEED)
    start = GridDetector(dataclasses.replace(CLOUD, classes=len(split.labels)))
    lesson = Lesson(WindowSampler(split, arguments.window))
    net = train(start, lesson, plan, arguments.work)
    card = ModelCard(
        description="GridDetector for binarized boards, trained on synthetic ones only",
        script=f"python -m reference_line.train_look --steps {arguments.steps} "
        f"--window {arguments.window}",
        seed=SEED,
    )
    smoke = max(read_split(arguments.data / "val").pictures, key=lambda p: len(p.boxes)).read()
    assemble_look(net, smoke, labels=split.labels, card=card).write(arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    sys.exit(main())
