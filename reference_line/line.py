"""The line: boards one after another under a camera, frame by frame, with the truth about each.

Frame ``i`` sees the line from ``position(i)`` on; boards travel to the left.  A frame's pixels and
truth depend on the seed, the settings and its index alone, never on which frames were asked for
before.  A ``Line`` is for one thread at a time.  Rendering a board takes some 0.3 s, a frame a few
milliseconds: whoever plays a line in real time renders boards ahead elsewhere and hands them over
with ``install``.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reference_line.board import BELT_BGR, BOARD_PITCH_PX, Board, render_board
from reference_line.optics import FRAME_HEIGHT, FRAME_WIDTH, Camera
from reference_line.truth import VISIBILITY_MIN, BoardDefect, FrameTruth, PhysicalDefect

DEFECT_IDS_PER_BOARD: Final = 1000
_JITTER_PX: Final = 0.25
_BOARDS_KEPT: Final = 5

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LineSettings:
    """How the line runs.

    Attributes:
        speed_px: Belt speed in native pixels a frame, above 0.5 (the jitter's reach).
        defective: False runs the good twin of every board.
    """

    speed_px: float = 6.0
    defective: bool = True


class Line:
    """A synthetic inspection line.

    Args:
        seed: Non-negative; the same seed gives the same pixels, bit for bit on one machine.
        settings: How the line runs.
    """

    def __init__(self, seed: int, *, settings: LineSettings | None = None) -> None:
        self.seed = seed
        self.settings = settings or LineSettings()
        self._camera: Camera | None = None
        self._boards: OrderedDict[int, Board] = OrderedDict()
        self._defects: dict[int, tuple[BoardDefect, ...]] = {}
        self._strip = np.empty((FRAME_HEIGHT, FRAME_WIDTH + 1, 3), np.uint8)

    def position(self, index: int) -> float:
        """Return the line coordinate, px, of the left edge of frame ``index``."""
        jitter = np.random.default_rng((self.seed, 2, index)).uniform(-_JITTER_PX, _JITTER_PX)
        return max(0.0, index * self.settings.speed_px + float(jitter))

    def board_of(self, index: int) -> int:
        """Return the number of the board under the middle of frame ``index``."""
        return int((self.position(index) + FRAME_WIDTH / 2) // BOARD_PITCH_PX)

    def boards_in(self, index: int) -> range:
        """Return the numbers of the boards (with their gaps) that frame ``index`` sees."""
        left = math.floor(self.position(index))
        return range(left // BOARD_PITCH_PX, (left + FRAME_WIDTH) // BOARD_PITCH_PX + 1)

    def board(self, number: int) -> Board:
        """Return a board, rendering it if it is not among the last few used."""
        board = self._boards.get(number)
        if board is None:
            board = render_board(self.seed, number, defective=self.settings.defective)
            self.install(number, board)
        self._boards.move_to_end(number)
        return board

    def has_board(self, number: int) -> bool:
        """Tell whether a board is at hand, so that its frames render without delay."""
        return number in self._boards

    def install(self, number: int, board: Board) -> None:
        """Take over a board that was rendered elsewhere with this line's seed and settings."""
        self._boards[number] = board
        while len(self._boards) > _BOARDS_KEPT:
            self._boards.popitem(last=False)

    def _defects_on(self, number: int) -> tuple[BoardDefect, ...]:
        """Return a board's defects, which outlive its texture here: they are small."""
        if number not in self._defects:
            self._defects[number] = self.board(number).defects
        return self._defects[number]

    def frame(self, index: int, out: Pixels | None = None) -> Pixels:
        """Render frame ``index``.

        Args:
            index: Frame number, from 0.
            out: uint8 (FRAME_HEIGHT, FRAME_WIDTH, 3), C-contiguous, to render into; else fresh.

        Returns:
            The BGR frame (``out`` if given).
        """
        if out is None:
            out = np.empty((FRAME_HEIGHT, FRAME_WIDTH, 3), np.uint8)
        if self._camera is None:
            self._camera = Camera((self.seed,))
        position = self.position(index)
        left = math.floor(position)
        self._camera.expose(self._view(left), position - left, index, out)
        return out

    def _view(self, left: int) -> Pixels:
        """Return the line's pixels from ``left`` on, (FRAME_HEIGHT, FRAME_WIDTH + 1, 3)."""
        number, start = divmod(left, BOARD_PITCH_PX)
        width = FRAME_WIDTH + 1
        texture = self.board(number).texture
        if start + width <= BOARD_PITCH_PX:
            return texture[:, start : start + width]
        split = BOARD_PITCH_PX - start
        self._strip[:, :split] = texture[:, start:]
        self._strip[:, split:] = self.board(number + 1).texture[:, : width - split]
        return self._strip

    def truth(self, index: int) -> FrameTruth:
        """Return what frame ``index`` shows (renders the boards in view if need be)."""
        left = self.position(index)
        seen = [
            (number * DEFECT_IDS_PER_BOARD + k, defect, number * BOARD_PITCH_PX - left)
            for number in self.boards_in(index)
            for k, defect in enumerate(self._defects_on(number))
        ]
        return _frame_truth(seen)

    def defects(self, first_index: int, last_index: int) -> tuple[PhysicalDefect, ...]:
        """Return the defects shown whole in at least one frame of ``first_index..last_index``.

        Both ends are inclusive; each defect's own frame range is not cut to them.
        """
        first_board = self.boards_in(first_index).start
        last_board = self.boards_in(last_index).stop
        found = [
            self._physical(number, k, defect)
            for number in range(first_board, last_board)
            for k, defect in enumerate(self._defects_on(number))
        ]
        return tuple(
            d
            for d in found
            if d.first_frame <= d.last_frame
            and d.first_frame <= last_index
            and d.last_frame >= first_index
        )

    def _physical(self, number: int, k: int, defect: BoardDefect) -> PhysicalDefect:
        x1, _, x2, _ = defect.box
        left, right = number * BOARD_PITCH_PX + x1, number * BOARD_PITCH_PX + x2
        speed = self.settings.speed_px
        first = max(0, math.floor((right - FRAME_WIDTH) / speed) - 1)
        while self.position(first) < right - FRAME_WIDTH:
            first += 1
        last = math.floor(left / speed) + 1
        while self.position(last) > left:
            last -= 1
        return PhysicalDefect(
            number * DEFECT_IDS_PER_BOARD + k, number, defect.class_id, defect.size_px, first, last
        )


def expose_board(
    board: Board, number: int, offset: float, camera: Camera, index: int
) -> tuple[Pixels, FrameTruth]:
    """Take a picture that shows one board alone, as datasets need it.

    Args:
        board: The board.
        number: Its number, which its defects' ids are made of.
        offset: Texture coordinate of the frame's left edge, px, above -FRAME_WIDTH and below
            BOARD_PITCH_PX; where the frame reaches beyond the texture it shows empty belt.
        camera: The camera that takes it.
        index: Frame number, which keys the camera's flicker and noise.

    Returns:
        uint8 BGR (FRAME_HEIGHT, FRAME_WIDTH, 3) and its truth.
    """
    left = math.floor(offset)
    strip = np.empty((FRAME_HEIGHT, FRAME_WIDTH + 1, 3), np.uint8)
    strip[:] = np.rint(BELT_BGR)
    start, stop = max(left, 0), min(left + FRAME_WIDTH + 1, BOARD_PITCH_PX)
    strip[:, start - left : stop - left] = board.texture[:, start:stop]
    out = np.empty((FRAME_HEIGHT, FRAME_WIDTH, 3), np.uint8)
    camera.expose(strip, offset - left, index, out)
    ids = [
        (number * DEFECT_IDS_PER_BOARD + k, defect, -offset)
        for k, defect in enumerate(board.defects)
    ]
    return out, _frame_truth(ids)


def _frame_truth(seen: list[tuple[int, BoardDefect, float]]) -> FrameTruth:
    """Clip defects, each with its texture's x in the frame, and drop those barely in sight."""
    whole = np.array([d.box for _, d, _ in seen], dtype=np.float64).reshape(-1, 4)
    whole[:, 0::2] += np.array([shift for _, _, shift in seen]).reshape(-1, 1)
    limits = np.array([FRAME_WIDTH, FRAME_HEIGHT, FRAME_WIDTH, FRAME_HEIGHT], dtype=np.float64)
    clipped = np.clip(whole, 0.0, limits)
    area = (whole[:, 2] - whole[:, 0]) * (whole[:, 3] - whole[:, 1])
    inside = (clipped[:, 2] - clipped[:, 0]) * (clipped[:, 3] - clipped[:, 1])
    visibility = inside / area
    keep = visibility >= VISIBILITY_MIN
    return FrameTruth(
        boxes=clipped[keep].astype(np.float32),
        class_ids=np.array([d.class_id for _, d, _ in seen], dtype=np.int32)[keep],
        defect_ids=np.array([i for i, _, _ in seen], dtype=np.int64)[keep],
        sizes_px=np.array([d.size_px for _, d, _ in seen], dtype=np.float32)[keep],
        visibility=visibility[keep].astype(np.float32),
    )
