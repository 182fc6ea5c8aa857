"""Runs bundles over a split the way the services run them, and counts where a model fails.

A frame model sees whole pictures; a crop model is asked at a frame model's proposals. A picture on
which a model fails, for example with outputs that are no numbers, is never taken for an empty one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.errors import IntegrityError, RejectedError
from foundation.frames import Detections, Pixels
from model_workshop.datasets import Picture, Split
from model_workshop.evaluation.coco import check_labels, wide_open
from model_workshop.evaluation.proposals import ProposalDetector

Watch = Callable[[Iterable[Picture]], Iterable[Picture]]
"""Hands pictures through and may show how far it is."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a bundle detected in every picture of a split.

    Attributes:
        detections: raw, one entry a picture; nothing where the model failed.
        failed_images: ids of the pictures on which it failed.
        proposer: digest of the bundle at whose proposals it was asked.
    """

    detections: tuple[Detections, ...]
    failed_images: tuple[int, ...]
    proposer: str | None


def find(
    bundle: Bundle,
    split: Split,
    *,
    proposer: Bundle | None = None,
    threads: int = 1,
    watch: Watch = iter,
) -> Found:
    """Runs a bundle over a split, keeping every detection above 0.001 and up to 300 an image.

    Args:
        bundle: to run.
        split: with the bundle's labels.
        proposer: the frame bundle at whose proposals it is asked, unless it is that very bundle.
        threads: of one inference.
        watch: sees every picture pass.

    Raises:
        ConfigError: the labels differ, or a picture cannot be read.
        IntegrityError: the model does not load, or fails on every picture.
    """
    check_labels(bundle, split)
    look, asked_at = _looker(bundle, proposer, split, threads)
    detections, failed = [], []
    reason: RejectedError | None = None
    for picture in watch(split.pictures):
        try:
            detections.append(look(picture.read()))
        except RejectedError as error:
            detections.append(Detections.empty())
            failed.append(picture.image_id)
            reason = error
    if reason is not None and len(failed) == len(split.pictures):
        raise IntegrityError(
            f"Bundle {bundle.info.name} fails on every picture of {split.directory}: "
            f"{reason.message}",
            remedy=reason.remedy,
        ) from reason
    return Found(tuple(detections), tuple(failed), asked_at)


def _looker(
    bundle: Bundle, proposer: Bundle | None, split: Split, threads: int
) -> tuple[Callable[[Pixels], Detections], str | None]:
    if proposer is None or proposer.digest == bundle.digest:
        return Detector.open(wide_open(bundle), intra_op_threads=threads).detect, None
    check_labels(proposer, split)
    asking = ProposalDetector.open(wide_open(bundle), proposer, threads=threads)
    return asking.detect, proposer.digest
