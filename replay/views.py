"""What a policy may look at, and the part of a material on which it may be set.

A policy sees a frame as the edge sees it: the answers of the cloud are kept from it.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foundation.escalations import Region
from foundation.frames import Detections
from replay.answers import whole_ask
from replay.outcomes import Asks, Outcomes

_SEED = 20_260_000


@dataclass(frozen=True, slots=True)
class View:
    """A frame as the edge sees it.

    Attributes:
        name: of the frame.
        group: of the frame.
        moment_s: seconds since the first frame of a video; of still images None.
        size: width and height.
        seen: all detections, calibrated.
        doubtful: those from where the edge's bundle begins to ask; what a detector would list.
        proposals: those that may be the reason of a crop.
        crops: regions around them.
        texture: looks at the pixels of a region.
    """

    name: str
    group: str
    moment_s: float | None
    size: tuple[int, int]
    seen: Detections
    doubtful: Detections
    proposals: Detections
    crops: tuple[Region, ...]
    texture: Callable[[Region], float]


@dataclass(frozen=True)
class Part:
    """Some frames of a material, with whole groups.

    Attributes:
        outcomes: of the material.
        positions: of the frames, rising.
    """

    outcomes: Outcomes
    positions: tuple[int, ...]

    @staticmethod
    def whole(outcomes: Outcomes) -> Part:
        """All frames."""
        return Part(outcomes, tuple(range(len(outcomes))))

    @functools.cached_property
    def views(self) -> list[View]:
        """The frames as the edge sees them."""
        return [_view(self.outcomes, position) for position in self.positions]

    def bytes_of(self, choices: Sequence[Asks]) -> int:
        """Bytes of one choice a frame."""
        pairs = zip(self.positions, choices, strict=True)
        return sum(self.outcomes.bytes_of(position, asks) for position, asks in pairs)

    def base_bytes(self) -> int:
        """Bytes of all frames at the base level."""
        return self.outcomes.base_bytes(self.positions)

    def at(self, level: str) -> list[Asks]:
        """All frames whole, at one level."""
        frames = self.outcomes.frames
        return [(whole_ask(frames[position], level),) for position in self.positions]

    def utility(self, choices: Sequence[Asks] | None) -> float:
        """mAP50-95 of one choice a frame; None is the cloud on the frames as recorded."""
        outcomes = self.outcomes
        matched = [outcomes.judge.match(0, Detections.empty())] * len(outcomes)
        for number, position in enumerate(self.positions):
            matched[position] = (
                outcomes.matched_by_cloud(position)
                if choices is None
                else outcomes.matched(position, choices[number])
            )
        return float(outcomes.judge.samples(matched, self._weights())[0])

    def _weights(self) -> npt.NDArray[np.float64]:
        own = np.zeros((1, int(self.outcomes.groups.max()) + 1))
        own[0, self.outcomes.groups[list(self.positions)]] = 1.0
        return own


def jitter(*names: object) -> float:
    """A number in 0..1 that depends on names alone: what breaks ties, and what chance means."""
    number = zlib.crc32("|".join(map(str, names)).encode())
    return float(np.random.default_rng((_SEED, number)).random())


def _view(outcomes: Outcomes, position: int) -> View:
    frame = outcomes.frames[position]
    return View(
        name=frame.name,
        group=frame.group,
        moment_s=frame.moment_s,
        size=frame.size,
        seen=outcomes.edge[position],
        doubtful=outcomes.doubtful(position),
        proposals=outcomes.proposals(position),
        crops=outcomes.crops(position),
        texture=lambda region: outcomes.answers.texture(frame, region),
    )
