"""Novelty: how unlike the ordinary frames a frame is, from what the edge has in hand.

A few numbers describe a frame: how many candidates there are and how sure the model is of them, how
bright, contrasty, detailed and coloured the picture is. Their Mahalanobis distance to the ordinary
frames is turned into a p-value by comparing it with the distances of ordinary frames that had no
part in the mean and covariance: of ordinary frames, a share p or less has a p-value of p or less.
Source: Vovk, Cross-conformal predictors, arXiv 1208.0806; the covariance is shrunk after Ledoit and
Wolf, A well-conditioned estimator for large-dimensional covariance matrices, 2004.

A model that is shown what it never saw is wrong with confidence. So an unlike frame is asked about
as a whole, once per episode, and its scores are pulled towards how often the model is right at all.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pydantic

from edge_node.logic.rows import Floats
from foundation.errors import ConfigError
from foundation.frames import Pixels, Scores
from foundation.settings import Settings

FEATURES = (
    "candidates_log",
    "score_mean",
    "score_max",
    "doubtful_share",
    "brightness",
    "contrast_log",
    "gradient_log",
    "detail_log",
    "blueness",
    "redness",
)
FRAMES_MIN = 100
"""Fewer ordinary frames cannot tell what happens once in a hundred."""
DISTANCES_MAX = 256
_DOUBTFUL = (0.2, 0.8)
_FOLDS = 5
_SHRINK_MIN = 0.02
_CONSTANT = 1e-6
"""Standard deviation, in units of the feature's mean, below which it says nothing."""
_COLOR_STEP_PX, _DETAIL_STEP_PX = 32, 16

Array = npt.NDArray[np.float64]


def describe_frame(scores: Scores, picture: Floats, pixels: Pixels) -> Array:
    """The features of a frame (len(FEATURES),) float64; finite whatever the frame.

    Args:
        scores: Calibrated scores (N,) of all candidates above the detector's floor.
        picture: Its small picture, as `cells.small_picture` makes it.
        pixels: (height, width, 3) uint8 BGR, at least 32 pixels a side.
    """
    count = len(scores)
    doubtful = (scores > _DOUBTFUL[0]) & (scores < _DOUBTFUL[1])
    across, down = picture[:, 1:] - picture[:, :-1], picture[1:] - picture[:-1]
    half = _DETAIL_STEP_PX // 2
    lines = pixels[half::_DETAIL_STEP_PX, :, 1]
    here, beside = lines[:, half::_DETAIL_STEP_PX], lines[:, half + 1 :: _DETAIL_STEP_PX]
    fine = here[:, : beside.shape[1]].astype(np.int16) - beside
    few = pixels[_COLOR_STEP_PX // 2 :: _COLOR_STEP_PX, _COLOR_STEP_PX // 2 :: _COLOR_STEP_PX]
    blue, green, red = (float(few[..., channel].mean()) for channel in range(3))
    light = blue + green + red + 1
    return np.array(
        [
            np.log1p(count),
            scores.mean() if count else 0.0,
            scores.max() if count else 0.0,
            doubtful.mean() if count else 0.0,
            picture.mean(),
            np.log1p(picture.std()),
            np.log1p(np.abs(across).mean() + np.abs(down).mean()),
            np.log1p(np.abs(fine).mean()),
            blue / light,
            red / light,
        ]
    )


class NoveltyModel(Settings):
    """What ordinary frames are like: fitted numbers, fit for JSON."""

    features: tuple[str, ...] = FEATURES
    """What was fitted; a model of other features than this version computes is refused."""
    mean: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    """Inverse of the shrunk covariance."""
    distances: Annotated[tuple[float, ...], pydantic.Field(max_length=DISTANCES_MAX)]
    """Distances of ordinary frames, rising."""

    @pydantic.model_validator(mode="after")
    def _belongs_together(self) -> NoveltyModel:
        count = len(FEATURES)
        if self.features != FEATURES:
            raise ValueError(f"the features are not {', '.join(FEATURES)}")
        if len(self.mean) != count or [len(row) for row in self.precision] != [count] * count:
            raise ValueError(f"mean and precision must be of {count} features")
        if np.linalg.eigvalsh(np.array(self.precision)).min() <= 0:
            raise ValueError("the precision must be positive definite")
        if len(self.distances) < FRAMES_MIN or list(self.distances) != sorted(self.distances):
            raise ValueError(f"the distances must rise and be {FRAMES_MIN} at least")
        return self

    def score(self, features: Array) -> float:
        """The p-value of a frame (len(FEATURES),): small for what ordinary frames are not like.

        It is at least 1 / (1 + number of distances); features that are no numbers get that.
        """
        mean, precision, distances = self._arrays
        away = features - mean
        distance = float(np.sqrt(away @ precision @ away))
        as_far = len(distances) - int(np.searchsorted(distances, distance, side="left"))
        return (1 + as_far) / (1 + len(distances))

    @functools.cached_property
    def _arrays(self) -> tuple[Array, Array, Array]:
        return np.array(self.mean), np.array(self.precision), np.array(self.distances)


def fit_novelty(frames: Array) -> NoveltyModel:
    """Learns what ordinary frames are like.

    Args:
        frames: (N, len(FEATURES)) in the order of capture: frames that follow each other are
            alike, so a frame's distance is measured without its neighbours.

    Raises:
        ConfigError: There are too few frames, a value is no number, or a feature never changes.
    """
    remedy = "Give ordinary frames of this camera, taken over all that it ordinarily sees"
    if frames.ndim != 2 or frames.shape[1] != len(FEATURES):
        raise ConfigError(
            f"Novelty is fitted on {len(FEATURES)} features a frame, not on an array {frames.shape}"
        )
    if len(frames) < FRAMES_MIN:
        raise ConfigError(
            f"Novelty needs {FRAMES_MIN} ordinary frames and got {len(frames)}", remedy=remedy
        )
    if not np.isfinite(frames).all():
        first = int(np.flatnonzero(~np.isfinite(frames).all(axis=1))[0])
        raise ConfigError(f"A feature of frame {first} is no finite number", remedy=remedy)
    middle, scale = frames.mean(axis=0), frames.std(axis=0)
    constant = scale <= _CONSTANT * np.maximum(np.abs(middle), 1)
    if constant.any():
        names = ", ".join(name for name, same in zip(FEATURES, constant, strict=True) if same)
        raise ConfigError(f"In all {len(frames)} frames {names} is the same", remedy=remedy)
    values = (frames - middle) / scale
    distances = []
    for fold in np.array_split(np.arange(len(values)), _FOLDS):
        rest = np.delete(values, fold, axis=0)
        away = values[fold] - rest.mean(axis=0)
        inverse = np.linalg.inv(_shrunk_covariance(rest))
        distances.append(np.sqrt(np.einsum("ni,ij,nj->n", away, inverse, away)))
    ordered = np.sort(np.concatenate(distances))
    kept = min(len(ordered), DISTANCES_MAX)
    ordered = ordered[((np.arange(kept) + 0.5) * len(ordered) / kept).astype(int)]
    precision = np.linalg.inv(_shrunk_covariance(values)) / np.outer(scale, scale)
    return NoveltyModel(
        mean=tuple(middle.tolist()),
        precision=tuple(tuple(row) for row in ((precision + precision.T) / 2).tolist()),
        distances=tuple(ordered.tolist()),
    )


def _shrunk_covariance(values: Array) -> Array:
    """Covariance of standardized values (N, F), shrunk towards the identity: invertible."""
    values = values - values.mean(axis=0)
    count, width = values.shape
    sample = values.T @ values / count
    away = float(((sample - np.eye(width)) ** 2).sum())
    products = np.einsum("ni,nj->nij", values, values)
    luck = float(((products - sample) ** 2).sum()) / count**2
    share = min(1.0, max(_SHRINK_MIN, luck / away if away > 0 else 1.0))
    return np.asarray((1 - share) * sample + share * np.eye(width))


@dataclass(frozen=True, slots=True)
class NoveltyRules:
    """When a frame is novel, and what that is worth.

    Attributes:
        enter: p-value at or below which frames begin an episode.
        leave: p-value at or above which they end it.
        hold_frames: So many in a row do: one ordinary frame in a hundred has a p-value of 0.01.
        ordinary: p-value from which scores are trusted as they are.
        pull_max: Share of the way to the base rate that scores of the most novel frames go.
    """

    enter: float = 0.01
    leave: float = 0.1
    hold_frames: int = 5
    ordinary: float = 0.1
    pull_max: float = 0.5


class NoveltyWatch:
    """Owns the episodes of one camera: when a frame is to be asked about as a whole.

    Attributes:
        novel: Whether an episode is going on.
        due: Whether nobody was asked about it yet.
    """

    def __init__(self, rules: NoveltyRules) -> None:
        self._rules = rules
        self._in_a_row = 0
        self.novel = False
        self.due = False

    def observe(self, p_value: float) -> bool:
        """Takes a frame's p-value; returns `due`."""
        rules = self._rules
        turns = p_value >= rules.leave if self.novel else p_value <= rules.enter
        self._in_a_row = self._in_a_row + 1 if turns else 0
        if self._in_a_row >= rules.hold_frames:
            self.novel = self.due = not self.novel
            self._in_a_row = 0
        return self.due

    def settle(self) -> None:
        """The episode has been asked about."""
        self.due = False


def temper(
    scores: Scores, p_value: float, *, base_rate: Scores | float, rules: NoveltyRules
) -> Scores:
    """Calibrated scores (N,) trusted less the more novel their frame is; order is kept.

    A calibration holds for frames like those it was fitted on. Elsewhere what is left is how often
    a candidate is right at all.

    Args:
        scores: Calibrated.
        p_value: Of the frame.
        base_rate: Share of the ordinary frames' candidates that are right: one, or (N,) by class;
            order is then kept within a class.
        rules: What counts.
    """
    pull = rules.pull_max * max(0.0, 1 - p_value / rules.ordinary)
    return np.asarray(scores + np.float32(pull) * (base_rate - scores), np.float32)
