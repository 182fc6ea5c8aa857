"""What asking bought, proposal by proposal: the observations that a gain model is fitted on.

The gain is in units of the quadratic score of `foundation.gains`: a box that is published with
score s and is right to the degree q counts 2sq - s². A file of observations is one .npz:

    meta            JSON text: digests of both bundles, levels, labels, groups, floor, reference
    score           (N,) float32 calibrated score of a proposal
    size_px         (N,) float32 square root of its box's area
    class_id        (N,) int32
    unit            (N,) int32 the unit that was asked about; a proposal occurs once in each
    gain            (N, L) float32 what asking about the unit at a level changed at the proposal
    unit_frame      (U,) int32 position of the frame
    unit_group      (U,) int32 index into the groups of `meta`
    unit_whole      (U,) bool whether the unit is a whole frame, else it is a crop
    unit_gain       (U, L) float32 the change in a unit without a proposal; 0 elsewhere
    unit_pixels     (U, L) int64 source pixels that the image covers
    unit_texture    (U,) float32 `foundation.gains.texture_of`
    unit_bytes      (U, L) int64 encoded image
    unit_encode_s   (U, L) float32 seconds that encoding took, in one thread
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_node.logic.cells import small_picture
from edge_node.logic.fuse_still import StillView, trace_still
from edge_node.logic.novelty import FRAMES_MIN, describe_frame, fit_novelty
from foundation.errors import ConfigError
from foundation.escalations import Region
from foundation.frames import Boxes, ClassIds, Detections, Scores
from foundation.geometry import box_areas, crop_within, intersection_matrix, iou_matrix
from foundation.levels import Level
from model_workshop.evaluation.truth import Array
from replay.answers import Ask, inside_of
from replay.outcomes import Outcomes, watched
from replay.planned import GAIN_FLOOR
from replay.utility import COCO_IOUS

FORMAT = "hardcase-observations/2"
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Reference:
    """What is there in one frame.

    Attributes:
        boxes: (O, 4) source pixels.
        class_ids: (O,).
        weights: (O,) 1 for labels; the cloud's score where it is the reference.
        crowds: (C, 4) areas in which boxes of `crowd_classes` count neither way.
        crowd_classes: (C,).
    """

    boxes: Boxes
    class_ids: ClassIds
    weights: Scores
    crowds: Boxes
    crowd_classes: ClassIds


def qualities(found: Detections, reference: Reference) -> Array:
    """2sq - s² (D,) of every box of a result.

    q is the mean over COCO's ten overlaps of whether the box covers its object so well, times the
    object's weight. Each object belongs to the best box that covers it by half; a box that has none
    and lies in a crowd of its class counts 0.
    """
    right = np.zeros(len(found))
    overlap = iou_matrix(found.boxes, reference.boxes)
    overlap[found.class_ids[:, None] != reference.class_ids[None, :]] = 0
    if overlap.size:
        order = np.argsort(-found.scores, kind="stable")
        for row in order[overlap[order].max(axis=1) >= COCO_IOUS[0]].tolist():
            best = int(overlap[row].argmax())
            if overlap[row, best] >= COCO_IOUS[0]:
                degree = float((overlap[row, best] >= COCO_IOUS - _ROUNDING).mean())
                right[row] = degree * float(reference.weights[best])
                overlap[:, best] = 0
    scores = found.scores.astype(np.float64)
    quality = 2 * scores * right - scores**2
    if len(reference.crowds):
        share = intersection_matrix(found.boxes, reference.crowds)
        share /= np.maximum(box_areas(found.boxes), np.float32(1e-6))[:, None]
        share[found.class_ids[:, None] != reference.crowd_classes[None, :]] = 0
        quality[(right == 0) & (share.max(axis=1) >= COCO_IOUS[0])] = 0
    return np.asarray(quality)


def gains_of(
    edge: Detections,
    members: npt.NDArray[np.intp],
    fused: Detections,
    origins: npt.NDArray[np.intp],
    reference: Reference,
) -> Array:
    """What a verdict changed (M,) at each of some of the edge's detections.

    A box of the result counts for the detection that it stands for; where that is none of the
    members, or the cloud added it, for the member whose centre is nearest. Without members the
    change has no place, and is returned as the only value (1,).
    """
    before, after = qualities(edge, reference), qualities(fused, reference)
    if len(members) == 0:
        return np.array([after.sum() - before.sum()])
    owners = _nearest(edge.boxes, edge.boxes[members])
    owners[members] = np.arange(len(members))
    owners_after = _nearest(fused.boxes, edge.boxes[members])
    known = origins >= 0
    owners_after[known] = owners[origins[known]]
    change = np.bincount(owners_after, after, len(members))
    return np.asarray(change - np.bincount(owners, before, len(members)), np.float64)


@dataclass(frozen=True, slots=True)
class _Unit:
    """One frame or crop that was asked about at every level.

    Attributes:
        whole: it is a frame.
        proposals: M detections that lie whole inside.
        gain: (M, L), or (1, L) without proposals.
        pixels: source pixels by level.
        texture: of `texture_of`.
        images: bytes and seconds of encoding by level.
    """

    whole: bool
    proposals: Detections
    gain: Array
    pixels: tuple[int, ...]
    texture: float
    images: tuple[tuple[int, float], ...]


def observe(outcomes: Outcomes, levels: Sequence[str], *, crops: bool) -> dict[str, Any]:
    """Asks about every frame, and every crop of it, at every level.

    Args:
        outcomes: of the material.
        levels: that are tried.
        crops: whether crops are asked about too.

    Returns:
        The arrays of a file of observations, but `meta`.
    """
    units: list[_Unit] = []
    frames: list[int] = []
    own = (Level.parse(level).side_px for level in levels)
    sides = [outcomes.crop.side_min_px if side is None else side for side in own]
    positions = range(len(outcomes))
    for position in watched(positions, f"observing {outcomes.material.name}"):
        frame = outcomes.frames[position]
        whole = Region(0, 0, frame.width, frame.height)
        others = [r for r in outcomes.crops(position, max(sides)) if r != whole] if crops else []
        for region in [whole, *others]:
            units.append(_ask_about(outcomes, position, region, levels, sides))
            frames.append(position)
    asked = [unit.proposals for unit in units]
    boxes = np.concatenate([one.boxes for one in asked])
    placed = [unit.gain if len(unit.proposals) else unit.gain[:0] for unit in units]
    nowhere = [np.zeros(len(levels)) if len(unit.proposals) else unit.gain[0] for unit in units]
    return {
        "score": np.concatenate([one.scores for one in asked]),
        "size_px": np.sqrt(box_areas(boxes)),
        "class_id": np.concatenate([one.class_ids for one in asked]).astype(np.int32),
        "unit": np.repeat(np.arange(len(units)), [len(one) for one in asked]).astype(np.int32),
        "gain": np.concatenate(placed).astype(np.float32),
        "unit_frame": np.array(frames, np.int32),
        "unit_group": outcomes.groups[frames].astype(np.int32),
        "unit_whole": np.array([unit.whole for unit in units], np.bool_),
        "unit_gain": np.array(nowhere, np.float32),
        "unit_pixels": np.array([unit.pixels for unit in units], np.int64),
        "unit_texture": np.array([unit.texture for unit in units], np.float32),
        "unit_bytes": np.array([[size for size, _ in unit.images] for unit in units], np.int64),
        "unit_encode_s": np.array([[s for _, s in unit.images] for unit in units], np.float32),
    }


def _ask_about(
    outcomes: Outcomes,
    position: int,
    region: Region,
    levels: Sequence[str],
    sides: Sequence[int],
) -> _Unit:
    frame, edge = outcomes.frames[position], outcomes.edge[position]
    reference = reference_of(outcomes, position)
    members = np.flatnonzero((edge.scores >= GAIN_FLOOR) & inside_of(edge, region))
    whole = region.covers(*frame.size)
    found = outcomes.proposals(position)
    reasons = found.boxes[inside_of(found, region)]
    gains, images, pixels = [], [], []
    for level, side_px in zip(levels, sides, strict=True):
        part = region
        if len(reasons) and not whole:
            margin = outcomes.crop.margin
            part = crop_within(region, reasons, margin=margin, side_min_px=side_px)
        pixels.append(part.width * part.height)
        ask = Ask((part.x1, part.y1, part.x2, part.y2), level)
        view = StillView(part, outcomes.answers.answer(frame, ask))
        fused, origins = trace_still(edge, [view], frame.size)
        gains.append(gains_of(edge, members, fused, origins, reference))
        images.append(outcomes.answers.image(frame, ask))
    return _Unit(
        whole=whole,
        proposals=edge.take(members),
        gain=np.stack(gains, axis=1),
        pixels=tuple(pixels),
        texture=outcomes.answers.texture(frame, region),
        images=tuple(images),
    )


def reference_of(outcomes: Outcomes, position: int) -> Reference:
    """What is there in a frame: its labels, or else what the cloud sees in it as recorded."""
    if outcomes.material.split is None:
        found = outcomes.reported(position)
        nothing = Detections.empty()
        return Reference(
            found.boxes, found.class_ids, found.scores, nothing.boxes, nothing.class_ids
        )
    truth = outcomes.truth
    there = truth.images == position
    boxes = truth.boxes[there].astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    class_ids = truth.class_ids[there].astype(np.int32)
    crowd = truth.crowds[there]
    ones = np.ones(int((~crowd).sum()), np.float32)
    return Reference(boxes[~crowd], class_ids[~crowd], ones, boxes[crowd], class_ids[crowd])


def ordinary_of(outcomes: Outcomes) -> dict[str, Any] | None:
    """What ordinary frames are like, for the edge to know others by; None of too few frames."""
    if len(outcomes) < FRAMES_MIN:
        return None
    features = []
    for position in watched(range(len(outcomes)), f"describing {outcomes.material.name}"):
        pixels = outcomes.answers.pixels(outcomes.frames[position])
        scores = outcomes.edge[position].scores
        seen = scores[scores >= GAIN_FLOOR]
        features.append(describe_frame(seen, small_picture(pixels), pixels))
    return fit_novelty(np.array(features)).model_dump(mode="json")


def write_observations(
    path: Path, outcomes: Outcomes, levels: Sequence[str], *, crops: bool
) -> dict[str, Any]:
    """Observes, and writes the file, whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    arrays = observe(outcomes, levels, crops=crops)
    edge, cloud = outcomes.answers.edge_bundle, outcomes.answers.cloud_bundle
    meta = {
        "format": FORMAT,
        "edge_bundle": edge.digest,
        "edge_scores": edge.scores_digest,
        "cloud_bundle": cloud.digest,
        "levels": list(levels),
        "labels": list(outcomes.answers.labels),
        "groups": list(outcomes.material.groups),
        "frames": [frame.name for frame in outcomes.frames],
        "material": outcomes.material.name,
        "material_digest": outcomes.material.digest,
        "score_floor": GAIN_FLOOR,
        "reference": "cloud" if outcomes.material.split is None else "labels",
        "ordinary": ordinary_of(outcomes),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, meta=np.array(json.dumps(meta)), **arrays)
    scratch = path.with_name(f".{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(buffer.getvalue())
        scratch.replace(path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error}", remedy="Choose another file"
        ) from error
    return arrays


def _nearest(boxes: Boxes, members: Boxes) -> npt.NDArray[np.intp]:
    """Position (N,) of the member whose centre is nearest to that of each box."""
    centres, theirs = boxes[:, :2] + boxes[:, 2:], members[:, :2] + members[:, 2:]
    far = ((centres[:, None].astype(np.float64) - theirs[None]) ** 2).sum(axis=2)
    return np.asarray(far.argmin(axis=1), np.intp)
