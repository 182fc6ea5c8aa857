"""What the line knows about itself: labels, per-frame truth and physical defects.

Frame of reference: source pixels of the camera, origin top left, boxes x1 y1 x2 y2 with the right
and bottom edge exclusive.  The box convention, which every dataset and evaluation inherits:

* the *tight* box bounds the pixels that the defect changed by at least 35 % of its own peak change
  (measured after the optics, before illumination and noise);
* the *truth* box is the tight box grown by ``BOX_PADDING_PX`` on every side and then, about its
  centre, to at least ``BOX_SIDE_MIN_PX`` a side;
* the *size* of a defect is the square root of its tight box's area.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

LABELS: Final[tuple[str, ...]] = (
    "open",
    "short",
    "mousebite",
    "spur",
    "spurious_copper",
    "pin_hole",
)
BOX_PADDING_PX: Final = 2
BOX_SIDE_MIN_PX: Final = 10
VISIBILITY_MIN: Final = 0.5
"""Share of the truth box inside the frame below which a defect is not part of a frame's truth."""


@dataclass(frozen=True, slots=True)
class BoardDefect:
    """One defect in the pixels of its board's texture (origin: the texture's top left corner)."""

    class_id: int
    tight_box: tuple[int, int, int, int]
    peak: float
    """Largest change of copper coverage that the optics let through, 0 to 1."""

    @property
    def size_px(self) -> float:
        """Square root of the tight box's area, px."""
        x1, y1, x2, y2 = self.tight_box
        return float(np.sqrt((x2 - x1) * (y2 - y1)))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The padded truth box, px."""
        x1, y1, x2, y2 = self.tight_box
        half_x = max((x2 - x1) / 2 + BOX_PADDING_PX, BOX_SIDE_MIN_PX / 2)
        half_y = max((y2 - y1) / 2 + BOX_PADDING_PX, BOX_SIDE_MIN_PX / 2)
        cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
        return (cx - half_x, cy - half_y, cx + half_x, cy + half_y)


@dataclass(frozen=True, slots=True)
class PhysicalDefect:
    """One defect on one board, whichever frames it is seen in.

    ``first_frame`` and ``last_frame`` bound, inclusive, the frames that show its whole truth box.
    """

    defect_id: int
    board: int
    class_id: int
    size_px: float
    first_frame: int
    last_frame: int

    @property
    def label(self) -> str:
        """The defect's class name."""
        return LABELS[self.class_id]


@dataclass(frozen=True, slots=True, eq=False)
class FrameTruth:
    """The defects of one frame, as a struct of arrays of equal length N.

    Attributes:
        boxes: float32 (N, 4), truth boxes clipped to the frame, source pixels.
        class_ids: int32 (N,), index into ``LABELS``.
        defect_ids: int64 (N,), unique over a line and the same in every frame.
        sizes_px: float32 (N,), the physical size (not reduced by clipping).
        visibility: float32 (N,), share of the truth box inside the frame, ``VISIBILITY_MIN`` to 1.
    """

    boxes: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    defect_ids: NDArray[np.int64]
    sizes_px: NDArray[np.float32]
    visibility: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.class_ids)
