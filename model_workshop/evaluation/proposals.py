"""Asks a crop model where a frame model proposes something, as the services do, off-line.

Crops are cut by the services' own geometry and go through the uplink's codec.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foundation.bundle import Bundle
from foundation.decoding import suppress
from foundation.detector import Detector
from foundation.escalations import Encoding
from foundation.frames import Boxes, Detections, Pixels
from foundation.geometry import crop_region
from foundation.images import decode_image, encode_image
from model_workshop.datasets import Split
from model_workshop.evaluation.coco import check_labels
from model_workshop.evaluation.matching import match

CROP_SIDE_PX = 192
CROP_QUALITY = 80
PROPOSAL_FLOOR = 0.05
"""On calibrated scores."""
_RIM_PX = 24
"""An object nearer to a crop's edge than this is asked about again."""


class ProposalDetector:
    """A crop model that is asked at every proposal of a frame model."""

    def __init__(
        self, bundle: Bundle, detector: Detector, proposer: Bundle, asked: Detector, floor: float
    ) -> None:
        self._bundle = bundle
        self._detector = detector
        self._proposer = proposer
        self._asked = asked
        self._floor = floor

    @staticmethod
    def open(
        bundle: Bundle, proposer: Bundle, *, floor: float = PROPOSAL_FLOOR, threads: int = 1
    ) -> ProposalDetector:
        """Loads both models.

        Args:
            bundle: the crop model.
            proposer: the frame model.
            floor: calibrated score from which a detection of the frame model is a proposal.
            threads: of one inference.

        Raises:
            IntegrityError: a model does not load or is not what its manifest says.
        """
        detector = Detector.open(bundle, intra_op_threads=threads, batch_max=8)
        asked = Detector.open(proposer, intra_op_threads=threads)
        return ProposalDetector(bundle, detector, proposer, asked, floor)

    def detect(self, pixels: Pixels) -> Detections:
        """What the crop model says of a picture (height, width, 3); raw scores, best first.

        Raises:
            RejectedError: a model failed on this picture.
        """
        proposals = self._asked.detect(pixels)
        scores = self._proposer.calibration.apply(proposals, self._proposer.labels)
        boxes = proposals.boxes[scores >= self._floor]
        return _ask(self._detector, self._bundle, pixels, boxes)


def detect_at_proposals(
    bundle: Bundle, proposer: Bundle, split: Split, *, floor: float = PROPOSAL_FLOOR
) -> list[Detections]:
    """What a crop model says of every picture when asked at every proposal of a frame model.

    Crops go through the uplink's codec; overlapping crops see an object once.
    """
    check_labels(proposer, split)
    asking = ProposalDetector.open(bundle, proposer, floor=floor)
    return [asking.detect(picture.read()) for picture in split.pictures]


def _ask(detector: Detector, bundle: Bundle, pixels: Pixels, boxes: Boxes) -> Detections:
    height, width = pixels.shape[:2]
    crops: list[Pixels] = []
    regions: list[tuple[int, int, int, int]] = []
    for box in boxes:
        if any(_inside(box, region) for region in regions):
            continue
        r = crop_region(
            box,
            margin=1.0,
            side_min_px=CROP_SIDE_PX,
            frame_width=width,
            frame_height=height,
        )
        data = encode_image(pixels[r.y1 : r.y2, r.x1 : r.x2], Encoding.WEBP, CROP_QUALITY)
        crops.append(decode_image(data, Encoding.WEBP, side_min_px=1, pixels_max=width * height))
        regions.append((r.x1, r.y1, r.x2, r.y2))
    parts = []
    for found, region in zip(detector.detect_batch(crops), regions, strict=True):
        offset = np.array([region[0], region[1]] * 2, np.float32)
        parts.append(Detections(found.boxes + offset, found.scores, found.class_ids))
    return _merge(parts, bundle)


def _merge(parts: list[Detections], bundle: Bundle) -> Detections:
    """Detections of overlapping crops, each object once."""
    together = Detections(
        np.concatenate([Detections.empty().boxes, *(part.boxes for part in parts)]),
        np.concatenate([Detections.empty().scores, *(part.scores for part in parts)]),
        np.concatenate([Detections.empty().class_ids, *(part.class_ids for part in parts)]),
    )
    return suppress(together, bundle.info.postprocess)


def _inside(box: npt.NDArray[np.float32], region: tuple[int, int, int, int]) -> bool:
    """Whether a box lies well within a region that is asked about anyway."""
    x1, y1, x2, y2 = region
    return bool(
        box[0] >= x1 + _RIM_PX
        and box[1] >= y1 + _RIM_PX
        and box[2] <= x2 - _RIM_PX
        and box[3] <= y2 - _RIM_PX
    )


def mistaken_places(proposer: Bundle, split: Split, *, per_picture: int = 3) -> dict[int, Boxes]:
    """Best-scored boxes by image id where a frame model sees what is not there."""
    check_labels(proposer, split)
    detector = Detector.open(proposer)
    places = {}
    for picture in split.pictures:
        found = detector.detect(picture.read())
        hits = match([found], [(picture.boxes, picture.class_ids)], len(split.labels)).hits
        places[picture.image_id] = found.take(np.flatnonzero(~hits)[:per_picture]).boxes
    return places
