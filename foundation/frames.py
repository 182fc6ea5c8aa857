"""Pixels and what is seen in them, with the conventions for images and boxes, said once.

Images are uint8 BGR of shape (height, width, 3), as OpenCV gives them, origin top left. Boxes are
float32 rows x1 y1 x2 y2 in pixels of the source frame, right and bottom exclusive. Detections are
one struct of arrays and never a list of objects, because the frame lane handles them per frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float32]
ClassIds = npt.NDArray[np.int32]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Detections:
    """What a model saw in one image, as a struct of arrays of one length N.

    Attributes:
        boxes: (N, 4) float32, x1 y1 x2 y2.
        scores: (N,) float32 in 0..1.
        class_ids: (N,) int32, indices into the labels of the model's bundle.
    """

    boxes: Boxes
    scores: Scores
    class_ids: ClassIds

    @staticmethod
    def empty() -> Detections:
        """No detections at all."""
        return Detections(
            np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32)
        )

    def __len__(self) -> int:
        return int(self.scores.shape[0])

    def take(self, indices: Indices | npt.NDArray[np.bool_]) -> Detections:
        """The detections at these positions (or where this mask is true), in that order."""
        return Detections(self.boxes[indices], self.scores[indices], self.class_ids[indices])

    def with_scores(self, scores: Scores) -> Detections:
        """The same boxes and classes with other scores, for example calibrated ones."""
        return Detections(self.boxes, scores, self.class_ids)
