"""The present frame as the policy sees it, and the one way by which its pixels may leave."""

from __future__ import annotations

from dataclasses import dataclass

from edge_node.logic.egress import NOTHING_HIDDEN, Redaction
from foundation.escalations import Region
from foundation.frames import Pixels
from foundation.gains import texture_of


@dataclass(frozen=True, slots=True)
class View:
    """A frame.

    Attributes:
        sequence: Its number.
        captured_at_ns: When it was captured.
        now_ns: The present instant.
        pixels: uint8 BGR (height, width, 3), as captured; to be looked at only.
        redaction: What of it may not leave.
    """

    sequence: int
    captured_at_ns: int
    now_ns: int
    pixels: Pixels
    redaction: Redaction = NOTHING_HIDDEN

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[0])

    def texture(self, region: Region) -> float:
        """What there is to encode in a region."""
        return texture_of(self.pixels[region.y1 : region.y2, region.x1 : region.x2])

    def cut(self, region: Region) -> Pixels:
        """A copy of a region as it may leave; whatever is sent was cut here."""
        crop = self.pixels[region.y1 : region.y2, region.x1 : region.x2].copy()
        self.redaction.apply(crop, region)
        return crop
