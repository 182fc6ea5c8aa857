"""The objects of a split as arrays, with what a `Split` leaves out: crowds and stated sizes.

Boxes stay as they were annotated, because pycocotools wants them so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_workshop.datasets import Split

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Truth:
    """Every annotation of a split, image after image.

    Attributes:
        images: (O,) index of the picture within the split.
        class_ids: (O,) class indices.
        boxes: (O, 4) x y width height in pixels.
        areas: (O,) COCO's `area` in square pixels; that of the box where an annotation has none.
        crowds: (O,) whether it stands for many objects; such a one is neither found nor missed.
        sizes_px: (O,) how large the object is: its `size_px` where the annotation states one,
            else the square root of the area of its box.
    """

    images: npt.NDArray[np.intp]
    class_ids: npt.NDArray[np.intp]
    boxes: Array
    areas: Array
    crowds: Mask
    sizes_px: Array

    def __len__(self) -> int:
        return len(self.images)

    @property
    def objects(self) -> Mask:
        """(O,) what can be found or missed: everything that is no crowd."""
        return ~self.crowds


def read_truth(split: Split) -> Truth:
    """Reads the annotations of a split's pictures from its file, which `read_split` has checked."""
    document = json.loads(split.annotation_path.read_text(encoding="utf-8"))
    position = {picture.image_id: index for index, picture in enumerate(split.pictures)}
    class_of = {category_id: index for index, category_id in enumerate(split.category_ids)}
    kept = [a for a in document["annotations"] if a["image_id"] in position]
    kept.sort(key=lambda annotation: position[annotation["image_id"]])
    boxes = np.array([a["bbox"] for a in kept], np.float64).reshape(-1, 4)
    own = boxes[:, 2] * boxes[:, 3]
    areas = [a.get("area", area) for a, area in zip(kept, own.tolist(), strict=True)]
    sizes = [a.get("size_px", area**0.5) for a, area in zip(kept, own.tolist(), strict=True)]
    return Truth(
        np.array([position[a["image_id"]] for a in kept], np.intp),
        np.array([class_of[a["category_id"]] for a in kept], np.intp),
        boxes,
        np.array(areas, np.float64),
        np.array([bool(a.get("iscrowd", 0)) for a in kept], np.bool_),
        np.array(sizes, np.float64),
    )
