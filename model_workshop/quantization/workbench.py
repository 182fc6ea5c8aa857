"""INT8 versions of one float model, and how near each comes to it.

Observed once, a model is quantized in any number of variants without running it again. A variant is
judged by detections, not by the error of tensors: by its agreement with the float model on pictures
held out of the calibration, and by mAP where there is a split.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from foundation.bundle import Bundle
from foundation.detector import Detector
from model_workshop.datasets import Split
from model_workshop.evaluation.coco import evaluate
from model_workshop.onnx_files import at_least_opset, opset_of
from model_workshop.quantization.graph import (
    Block,
    blocks_of,
    clip_inactive,
    feed_pixels,
    pixel_front,
    refuse_integers,
    torn_nodes,
)
from model_workshop.quantization.pictures import CalibrationPictures, ModelInputs
from model_workshop.quantization.ranges import Calibrator, choose_range
from model_workshop.quantization.static import insert_pairs, observe, prepare

_PROBES = 6
_HARM_MIN = 0.1
_HARM_MAX = 0.5
_HARM_TIMES_MEDIAN = 4.0
_TAIL_HARM_MAX = 0.005


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What a block costs when it alone is INT8.

    Attributes:
        block: the nodes.
        harm: share of the agreement with the float model that is lost.
    """

    block: Block
    harm: float


@dataclass(frozen=True, slots=True)
class Trial:
    """An INT8 version of a model, and how good it is.

    Attributes:
        calibrator: what chose its ranges.
        float_blocks: what stayed float, apart from torn nodes.
        bundle: the float model's bundle with this version's graph.
        agreement: with the float model on held-out pictures, 0 to 1.
        map50_95: on the evaluation split, in 0..1; None where there is none.
    """

    calibrator: Calibrator
    float_blocks: tuple[Block, ...]
    bundle: Bundle
    agreement: float
    map50_95: float | None


class Workbench:
    """A float model with all that INT8 versions are made from and judged by.

    Attributes:
        bundle: the float model.
        blocks: in order.
        torn: see `torn_nodes`.
        map50_95: of the float model on the split; None where there is none.
    """

    def __init__(
        self, bundle: Bundle, pictures: CalibrationPictures, split: Split | None = None
    ) -> None:
        """Observes the model.

        Raises:
            IntegrityError: it is INT8 already, or does not run.
            ConfigError: a picture or the split does not fit the bundle.
        """
        model = onnx.load_from_string(bundle.model)
        refuse_integers(model, bundle.info.name)
        self.bundle = bundle
        self._pictures = pictures
        self._split = split
        self.map50_95 = None if split is None else evaluate(bundle, split).map50_95
        self._model = prepare(at_least_opset(model))
        paths = [pictures.paths[i] for i in pictures.calibrating]
        self._observations = observe(self._model, ModelInputs(Detector.open(bundle), paths))
        self._front = pixel_front(self._model)
        self.blocks = blocks_of(self._model)
        self.torn = torn_nodes(self._model, self._observations)

    def variant(
        self,
        calibrator: Calibrator,
        *,
        float_nodes: Collection[str] = (),
        only_nodes: Collection[str] = (),
    ) -> Bundle:
        """The bundle with an INT8 graph.

        Args:
            calibrator: chooses the ranges.
            float_nodes: names of nodes that stay float.
            only_nodes: the nodes to quantize; all where empty.
        """
        ranges = {name: choose_range(seen, calibrator) for name, seen in self._observations.items()}
        front = self._front
        graph = insert_pairs(
            self._model,
            clip_inactive(self._model, ranges, float_nodes),
            float_nodes=float_nodes,
            only_nodes=only_nodes,
            pinned={} if front is None else {front.tensor: np.float32(front.scale)},
        )
        if front is not None:
            feed_pixels(graph, front)
        info = self.bundle.info.model_copy(update={"opset": opset_of(graph)})
        return dataclasses.replace(self.bundle, info=info, model=graph.SerializeToString())

    def try_out(self, calibrator: Calibrator, float_blocks: Sequence[Block]) -> Trial:
        """Makes an INT8 version that keeps torn nodes and some blocks float, and judges it."""
        kept = {*self.torn, *(name for block in float_blocks for name in block.nodes)}
        made = self.variant(calibrator, float_nodes=kept)
        score = None if self._split is None else evaluate(made, self._split).map50_95
        agreed = self._pictures.agreement_of(made, self._pictures.held_out)
        return Trial(calibrator, tuple(float_blocks), made, agreed, score)

    def sensitivity(self, block: Block) -> Sensitivity:
        """What a block costs by itself.

        With MinMax ranges, which clip nothing: what is harmed then is harmed by the spread of its
        values alone, and no other calibrator can keep both ends of it.
        """
        alone = self.variant(Calibrator.MINMAX, only_nodes=block.nodes)
        agreed = self._pictures.agreement_of(alone, self._pictures.probes(_PROBES))
        return Sensitivity(block, 1.0 - agreed)


def split_destroyed(
    sensitivities: Sequence[Sensitivity],
) -> tuple[list[Sensitivity], list[Sensitivity]]:
    """The blocks that 8 bits destroy and the others, both the most harmful first.

    Destroyed is what harms far more alone than the model's blocks do. The tail has nothing to gain
    from integers, and so is kept from any harm that can be told from none.
    """
    ordered = sorted(sensitivities, key=lambda entry: -entry.harm)
    median = ordered[len(ordered) // 2].harm
    limit = min(max(_HARM_MIN, _HARM_TIMES_MEDIAN * median), _HARM_MAX)
    groups: tuple[list[Sensitivity], list[Sensitivity]] = ([], [])
    for entry in ordered:
        groups[entry.harm <= (limit if entry.block.mixes else _TAIL_HARM_MAX)].append(entry)
    return groups
