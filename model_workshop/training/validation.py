"""A quick judgement of a net in the middle of its training: best F1 on held-out samples.

Not the figure that decides anything (that is measured on the bundle), but it costs seconds and says
whether a longer training still buys something.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from foundation.decoding import decode
from foundation.manifest import BundleInfo
from model_workshop.evaluation.matching import best_operating_point, match
from model_workshop.training.nets import GridDetector
from model_workshop.training.sampling import Sample


class Validator:
    """Runs a net over fixed samples as its bundle will be run."""

    def __init__(self, samples: Sequence[Sample], info: BundleInfo) -> None:
        """Keeps the samples.

        Args:
            samples: all of one size, a multiple of the net's deepest stride.
            info: says how outputs become detections.
        """
        self._samples = samples
        self._info = info

    def __call__(self, net: GridDetector) -> dict[str, float]:
        """Best F1 of an evaluated net over all thresholds, at IoU 0.33."""
        found = []
        for sample in self._samples:
            pixels = torch.from_numpy(np.ascontiguousarray(sample.pixels.transpose(2, 0, 1)))
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                heatmap, placement = net(pixels[None].float() / 255)
            half = placement[:, 2:].float().clamp(max=6.0).exp()
            offset = placement[:, :2].float()
            outputs = {
                "heatmap": heatmap.float().numpy(),
                "box": torch.cat([half - offset, half + offset], dim=1).numpy(),
            }
            found.append(decode(outputs, 0, self._info))
        truth = [(sample.boxes, sample.class_ids) for sample in self._samples]
        matches = match(found, truth, net.shape.classes)
        best = best_operating_point(matches.scores, matches.hits, int(matches.objects.sum()))
        return {"val_f1": best.f1}
