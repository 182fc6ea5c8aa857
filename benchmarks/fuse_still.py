"""What each rule of fusing still images is worth: mean average precision on COCO.

    python -m benchmarks.fuse_still --split DIR --edge MODEL --cloud MODEL [--json FILE]

DIR holds `images/` and `instances.json`; the models are public ONNX files of detectors of its
classes. The edge model sees whole images. Of each the three proposals worth most by p(1 - p) are
cut out with twice their size and shown to the cloud model, enlarged at most twofold, unencoded.
Then one rule at a time is changed, over the same detections. The last column is the share of the
gap in mAP50-95 between the edge alone and the cloud on whole images that is recovered.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_node.logic.fuse_still import StillRules, StillView, fuse_still
from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.escalations import Region
from foundation.frames import Boxes, Detections, Pixels
from foundation.geometry import crop_region
from model_workshop.datasets import Split, read_split
from model_workshop.evaluation.coco import score_detections, wide_open
from model_workshop.importing.families import import_model

CROPS = 3
MARGIN = 2.0
SIDE_MIN_PX = 160
PROPOSAL_SCORE_MIN = 0.05
ENLARGEMENT_MAX = 2.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What both models saw of one image."""

    edge: Detections
    views: list[StillView]
    whole: Detections
    size: tuple[int, int]


def open_bundle(path: Path, split: Split, *, enlarges: bool) -> Bundle:
    """A public model that keeps every detection down to the lowest."""
    smoke = split.pictures[0].read()
    bundle = wide_open(
        import_model(
            path,
            labels=split.labels,
            name=path.stem.replace("_", "-"),
            license_name="unknown",
            smoke_pixels=smoke,
        )
    )
    if enlarges:
        return bundle
    letterbox = bundle.info.letterbox.model_copy(update={"scale_max": ENLARGEMENT_MAX})
    info = bundle.info.model_copy(update={"letterbox": letterbox})
    return dataclasses.replace(bundle, info=info)


def look(pixels: Pixels, edge: Detector, cloud: Detector) -> Seen:
    """Both models on one image."""
    height, width = pixels.shape[:2]
    found = edge.detect(pixels)
    views = []
    for region in regions(found, width, height):
        crop = np.ascontiguousarray(pixels[region.y1 : region.y2, region.x1 : region.x2])
        seen = cloud.detect(crop)
        offset = np.array([region.x1, region.y1] * 2, np.float32)
        views.append(StillView(region, dataclasses.replace(seen, boxes=seen.boxes + offset)))
    return Seen(found, views, cloud.detect(pixels), (width, height))


def regions(found: Detections, width: int, height: int) -> list[Region]:
    """Crops around the proposals that are worth most and lie in no other crop."""
    chosen: list[Region] = []
    for at in np.argsort(-found.scores * (1 - found.scores), kind="stable").tolist():
        if len(chosen) == CROPS or found.scores[at] < PROPOSAL_SCORE_MIN:
            break
        box = found.boxes[at]
        if not any(holds(region, box) for region in chosen):
            chosen.append(
                crop_region(
                    box,
                    margin=MARGIN,
                    side_min_px=SIDE_MIN_PX,
                    frame_width=width,
                    frame_height=height,
                )
            )
    return chosen


def holds(region: Region, box: Boxes) -> bool:
    """Whether a region holds a box whole."""
    x1, y1, x2, y2 = box.tolist()
    return bool(region.x1 <= x1 and region.y1 <= y1 and x2 <= region.x2 and y2 <= region.y2)


RULES = {
    "all rules": StillRules(),
    "cut boxes are used": StillRules(border_px=-np.inf),
    "cut within 2 px": StillRules(border_px=2.0),
    "cut within 8 px": StillRules(border_px=8.0),
    "silence leaves the score": StillRules(silence=1.0),
    "silence leaves nothing": StillRules(silence=0.0),
    "agreement raises nothing": StillRules(agreement=0.0),
    "agreement raises twice": StillRules(agreement=0.6),
    "half a box is shown": StillRules(inside_share=0.5),
    "all of a box is shown": StillRules(inside_share=0.999),
    "one object from IoU 0.45": StillRules(same_iou=0.45),
    "one object from IoU 0.65": StillRules(same_iou=0.65),
}


def main() -> None:
    """Prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--split", type=Path, required=True, help="images with COCO annotations")
    parser.add_argument("--edge", type=Path, required=True, help="ONNX file of the small model")
    parser.add_argument("--cloud", type=Path, required=True, help="ONNX file of the large model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    split = read_split(arguments.split)
    edge = Detector.open(open_bundle(arguments.edge, split, enlarges=True))
    cloud = Detector.open(open_bundle(arguments.cloud, split, enlarges=False))
    seen = [look(picture.read(), edge, cloud) for picture in split.pictures]
    figures = {
        "edge alone": score_detections(split, [one.edge for one in seen]),
        "cloud on every image": score_detections(split, [one.whole for one in seen]),
        **{
            name: score_detections(
                split, [fuse_still(one.edge, one.views, one.size, rules) for one in seen]
            )
            for name, rules in RULES.items()
        },
    }
    low, high = (figures[name].map50_95 for name in ("edge alone", "cloud on every image"))
    print(f"{len(seen)} images\n{'':<28}{'mAP50-95':>10}{'mAP50':>10}{'gap':>8}")
    document = {}
    for name, found in figures.items():
        share = (found.map50_95 - low) / (high - low)
        print(f"{name:<28}{100 * found.map50_95:>10.2f}{100 * found.map50:>10.2f}{share:>8.1%}")
        document[name] = {"map50_95": found.map50_95, "map50": found.map50, "gap": share}
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
