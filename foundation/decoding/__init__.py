"""From a model's raw outputs to detections, for every output family a bundle may declare.

Decoding is done in float outside the graph, because boxes in pixels and scores in 0..1 that share a
tensor do not survive quantization. All functions are pure; boxes are in model input pixels. A value
that is no finite number fails the image: a broken model must never look like an empty scene.
"""

from foundation.decoding.candidates import suppress
from foundation.decoding.contract import check_outputs
from foundation.decoding.families import decode, yolox_grid

__all__ = ["check_outputs", "decode", "suppress", "yolox_grid"]
