"""What asking buys: the gain model, which a bundle may carry as `policy.json`.

For every proposal it predicts the *gain* of an answer at each level: how much better the result
becomes where the proposal is. The unit is that of a quadratic score: a box that is published with
score s and is right to the degree q counts 2sq - s², an object that is not published counts 0. It
is a proper score (Brier, 1950), additive over boxes, and for a cloud that is always right its
expected gain is p(1 - p). Fitted by `model-workshop fit-policy` on pictures that both models have
seen, for one edge model and one cloud model; without one, p(1 - p) is what there is.

Beside the gain stand the costs: bytes, from pixels and texture, and the edge's own time to encode.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from foundation.errors import ConfigError
from foundation.frames import Pixels, Scores
from foundation.levels import Level
from foundation.pool import Pool
from foundation.settings import Settings

Floats = npt.NDArray[np.float32]

FRAMING_BYTES = 168
"""An escalation without its image and proposals: ids, names, instants, region, gRPC framing."""
PROPOSAL_BYTES = 48
_TEXTURE_STRIDE = 8
_TEXTURE_MIN = 0.05

Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]
Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
_UNITS = pydantic.Field(max_length=65_536)
Share = Annotated[float, pydantic.Field(ge=0, le=100, allow_inf_nan=False)]


class LevelCosts(Settings):
    """What a crop costs at one level.

    The image has `fixed_bytes` plus, for each pixel that is sent, exp(`log_bytes` +
    `texture_power` · ln(texture)) bytes; texture is that of `texture_of` before shrinking.
    """

    level: str
    fixed_bytes: Annotated[float, pydantic.Field(ge=0, le=1e6)] = 64.0
    log_bytes: Finite = math.log(0.08)
    texture_power: Annotated[float, pydantic.Field(ge=0, le=4)] = 0.0
    encode_s_per_megapixel: Annotated[float, pydantic.Field(ge=0, le=60)] = 0.05

    @pydantic.field_validator("level")
    @classmethod
    def _is_a_level(cls, text: str) -> str:
        try:
            Level.parse(text)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return text


class RiskUnits(Settings):
    """What the edge doubted and whether it was wrong, from which a promised risk is calibrated.

    A unit is a track, or a detection of a picture; a group is a board, a picture, a camera.
    """

    doubts: Annotated[tuple[Annotated[float, pydantic.Field(ge=0, le=1)], ...], _UNITS]
    wrong: Annotated[tuple[bool, ...], _UNITS]
    groups: Annotated[tuple[Annotated[int, pydantic.Field(ge=0)], ...], _UNITS]
    group_count: Annotated[int, pydantic.Field(ge=1)]

    @pydantic.model_validator(mode="after")
    def _belong_together(self) -> RiskUnits:
        if not len(self.doubts) == len(self.wrong) == len(self.groups):
            raise ValueError("doubts, wrong and groups must be equally long")
        if max(self.groups, default=0) >= self.group_count:
            raise ValueError("a group has a number that is not below group_count")
        return self


class GainModel(Settings):
    """The policy member of a bundle: gains by level, size and score, and what levels cost."""

    format: Literal["hardcase-policy/1"] = "hardcase-policy/1"
    edge_scores: str = ""
    """`Bundle.scores_digest` of the edge bundle whose scores it was fitted on."""
    cloud_bundle: str = ""
    """Digest of the bundle that answered."""
    rule: Literal["learned", "variance"] = "variance"
    """learned: measured gains. variance: p(1 - p), with what each level retains of it."""
    levels: Annotated[tuple[LevelCosts, ...], pydantic.Field(min_length=1, max_length=32)]
    score_knots: Annotated[tuple[Finite, ...], pydantic.Field(min_length=2)]
    """Calibrated scores between which gains are interpolated, from 0 to 1, rising."""
    size_edges_px: tuple[Positive, ...] = ()
    """Ends of the size classes, square root of a box's area in source pixels, rising."""
    gains: tuple[tuple[tuple[Finite, ...], ...], ...]
    """Gain by level, size class and score knot."""
    class_cost: Mapping[str, Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]] = (
        pydantic.Field(default_factory=dict)
    )
    """How much a class matters; absent labels count 1."""
    crop_share: Share = 1.0
    """What a crop keeps of the gain, for lack of surroundings; 0: crops are never worth it."""
    frame_share: Share = 0.0
    """By what the added gains of a whole frame's proposals are multiplied; 0: the cloud is not
    asked about whole frames."""
    frame_power: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0
    """To which power they are raised before: below 1 where many proposals are a crowd, about which
    an answer tells less than each by itself would promise."""
    pool: Pool | None = None
    """What the edge's and the cloud's opinion about one object say together; None: the cloud's
    stands by itself."""
    ordinary: Mapping[str, Any] | None = None
    """What ordinary frames are like; the edge node's novelty model, whose form is its own."""
    risk: RiskUnits | None = None
    """What a promised risk is calibrated on."""
    figures: Mapping[str, Any] = pydantic.Field(default_factory=dict)
    """What the fit reached, on which material."""

    @pydantic.model_validator(mode="after")
    def _tables_fit(self) -> GainModel:
        knots, edges = list(self.score_knots), list(self.size_edges_px)
        if knots != sorted(set(knots)) or knots[0] != 0 or knots[-1] != 1:
            raise ValueError("score_knots must rise from 0 to 1")
        if edges != sorted(set(edges)):
            raise ValueError("size_edges_px must rise")
        shape = (len(self.levels), len(edges) + 1, len(knots))
        if [len(self.gains), *{len(t) for t in self.gains}] != [shape[0], shape[1]] or {
            len(row) for table in self.gains for row in table
        } != {shape[2]}:
            raise ValueError(f"gains must be a table of {shape} levels, sizes and scores")
        return self

    @functools.cached_property
    def parsed_levels(self) -> tuple[Level, ...]:
        """The levels, in the order of every (L, ...) array here."""
        return tuple(Level.parse(costs.level) for costs in self.levels)

    def sides_px(self, otherwise: int) -> Floats:
        """Shortest side (L,) of a crop at each level; `otherwise` where a level has none itself."""
        own = [level.side_px for level in self.parsed_levels]
        return np.array([otherwise if side is None else side for side in own], np.float32)

    def with_levels(self, levels: Sequence[Level]) -> GainModel:
        """The same model with some of its levels only, in its own order."""
        kept = [at for at, level in enumerate(self.parsed_levels) if level in levels]
        # Not a copy: that would take what was derived from all levels along.
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        fields["levels"] = tuple(self.levels[at] for at in kept)
        fields["gains"] = tuple(self.gains[at] for at in kept)
        return GainModel(**fields)

    def gains_of(self, scores: Scores, sizes_px: Floats) -> Floats:
        """Expected gain (L, N) of an answer at each level about each of N proposals.

        What a class costs is not in it: `class_costs`.

        Args:
            scores: (N,) calibrated.
            sizes_px: (N,) square root of the box's area, source pixels.
        """
        inner, edges, at_zero, slopes = self._lines
        # Not np.clip: for a handful of numbers it takes several times as long.
        scores = np.minimum(np.maximum(scores, np.float32(0)), np.float32(1))
        line = edges.searchsorted(sizes_px, "right") * (len(inner) + 1)
        line += inner.searchsorted(scores, "right")
        return np.asarray(at_zero.take(line, axis=1) + slopes.take(line, axis=1) * scores)

    def frame_gain(self, gains: Floats) -> Floats:
        """Gain of an answer about a whole frame, whatever its shape, from the added gains in it."""
        powered = np.sign(gains) * np.abs(gains) ** np.float32(self.frame_power)
        return np.asarray(np.float32(self.frame_share) * powered, np.float32)

    @functools.cached_property
    def retention(self) -> Floats:
        """What each level (L,) keeps of the best one's gain about what is wholly in doubt."""
        middle = int(np.abs(np.array(self.score_knots) - 0.5).argmin())
        doubtful = np.array(self.gains, np.float32)[:, :, middle].mean(axis=1)
        best = float(doubtful.max())
        if best <= 0:
            return np.ones(len(doubtful), np.float32)
        return np.asarray(np.maximum(doubtful, 0) / np.float32(best), np.float32)

    def class_costs(self, labels: Sequence[str]) -> Floats:
        """How much each class matters (classes,)."""
        return np.array([self.class_cost.get(label, 1.0) for label in labels], np.float32)

    def image_bytes(self, pixels: npt.ArrayLike, texture: npt.ArrayLike) -> Floats:
        """Predicted size (L, R) of the encoded images of R regions.

        Args:
            pixels: (R,) source pixels of each region, or (L, R) where levels cut it differently.
            texture: (R,) or one number, of `texture_of`.
        """
        fixed, log_bytes, power, area, _ = self._costs
        log_texture = np.log(np.maximum(np.asarray(texture, np.float32), _TEXTURE_MIN))
        each = np.exp(log_bytes[:, None] + power[:, None] * np.atleast_1d(log_texture))
        sent = area[:, None] * np.atleast_1d(np.asarray(pixels, np.float32))
        return np.asarray(fixed[:, None] + sent * each, np.float32)

    def encode_s(self, pixels: npt.ArrayLike) -> Floats:
        """Predicted seconds (L, R) of one thread to encode R regions of so many source pixels.

        Args:
            pixels: (R,) of each region, or (L, R) where levels cut it differently.
        """
        *_, area, seconds = self._costs
        megapixels = np.atleast_1d(np.asarray(pixels, np.float32)) * np.float32(1e-6)
        return np.asarray((area * seconds)[:, None] * megapixels, np.float32)

    @functools.cached_property
    def _lines(self) -> tuple[Floats, Floats, Floats, Floats]:
        """The gain between two knots as a straight line over the score.

        Returns:
            The knots between the first and the last one, the ends of size classes, and for each
            level and line, those of one size class side by side, its value at a score of 0 and its
            slope (L, lines).
        """
        knots, table = np.array(self.score_knots), np.array(self.gains)
        slopes = np.diff(table, axis=2) / np.diff(knots)
        at_zero = table[:, :, :-1] - slopes * knots[:-1]
        levels, edges = len(table), np.array(self.size_edges_px, np.float32)
        return (
            knots[1:-1].astype(np.float32),
            edges,
            at_zero.reshape(levels, -1).astype(np.float32),
            slopes.reshape(levels, -1).astype(np.float32),
        )

    @functools.cached_property
    def _costs(self) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        rows = [
            (c.fixed_bytes, c.log_bytes, c.texture_power, level.scale**2, c.encode_s_per_megapixel)
            for c, level in zip(self.levels, self.parsed_levels, strict=True)
        ]
        columns = np.array(rows, np.float32).T
        return (columns[0], columns[1], columns[2], columns[3], columns[4])


def texture_of(pixels: Pixels) -> float:
    """How much there is to encode: the mean step between neighbouring pixels of one channel.

    Args:
        pixels: (height, width, 3) uint8 BGR; every eighth row and column is looked at.
    """
    green = pixels[:, :, 1]
    here = green[:-1:_TEXTURE_STRIDE, :-1:_TEXTURE_STRIDE].astype(np.int16)
    if here.size == 0:
        return _TEXTURE_MIN
    right = green[:-1:_TEXTURE_STRIDE, 1::_TEXTURE_STRIDE][:, : here.shape[1]]
    below = green[1::_TEXTURE_STRIDE, :-1:_TEXTURE_STRIDE][: here.shape[0]]
    # Sums of integers, which are exact, and take half the time of means.
    return int(np.abs(here - right).sum() + np.abs(here - below).sum()) / (2 * here.size)


def variance_gains(levels: Sequence[LevelCosts], **shares: float) -> GainModel:
    """The gain model of a bundle that carries none: p(1 - p), whatever the level.

    Args:
        levels: what may be chosen; the cheapest is always taken, since all are worth the same.
        shares: `crop_share` and `frame_share`, where they differ from the defaults.
    """
    knots = tuple(k / 20 for k in range(21))
    row = tuple(p * (1 - p) for p in knots)
    gains = tuple((row,) for _ in levels)
    return GainModel(levels=tuple(levels), score_knots=knots, gains=gains, **shares)
