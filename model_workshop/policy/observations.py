"""Reads observations: what asking about frames and crops changed, proposal by proposal.

`hardcase-replay --observe` writes them; the arrays are described there.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from foundation.errors import ConfigError

FORMAT = "hardcase-observations/2"
_REMEDY = "Write it with `hardcase-replay MATERIAL --edge BUNDLE --cloud BUNDLE --observe FILE`"
_SHAPES = {
    "score": "N",
    "size_px": "N",
    "class_id": "N",
    "unit": "N",
    "gain": "NL",
    "unit_group": "U",
    "unit_whole": "U",
    "unit_gain": "UL",
    "unit_pixels": "UL",
    "unit_texture": "U",
    "unit_bytes": "UL",
    "unit_encode_s": "UL",
}

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Observations:
    """What asking bought: N proposals in U units at L levels.

    Attributes:
        meta: Digests of both bundles, levels, labels, material, reference.
        score: (N,) calibrated score of a proposal.
        size_px: (N,) square root of its box's area.
        class_id: (N,).
        unit: (N,) the unit it lies in.
        gain: (N, L) what asking about that unit changed there.
        unit_group: (U,) what may not be torn apart: a board, a picture, a stretch of video.
        unit_whole: (U,) whether the unit is a whole frame.
        unit_gain: (U, L) the change in a unit without a proposal.
        unit_pixels: (U, L) source pixels that the image covers.
        unit_texture: (U,) `foundation.gains.texture_of`.
        unit_bytes: (U, L) of the image.
        unit_encode_s: (U, L) seconds of encoding.
    """

    meta: Mapping[str, Any]
    score: Array
    size_px: Array
    class_id: Integers
    unit: Integers
    gain: Array
    unit_group: Integers
    unit_whole: Mask
    unit_gain: Array
    unit_pixels: Array
    unit_texture: Array
    unit_bytes: Array
    unit_encode_s: Array

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the levels."""
        return tuple(self.meta["levels"])

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names by class id."""
        return tuple(self.meta["labels"])

    def weighted(self, class_costs: Array) -> Array:
        """Gains (N, L) times what each class costs (classes,)."""
        return np.asarray(self.gain * class_costs[self.class_id][:, None])

    def realized(self, class_costs: Array) -> Array:
        """What asking about each unit changed in all (U, L)."""
        total = self.unit_gain.copy()
        np.add.at(total, self.unit, self.weighted(class_costs))
        return total

    def part(self, units: Mask) -> Observations:
        """The observations of some units (U,)."""
        number = np.cumsum(units) - 1
        kept = units[self.unit]
        return Observations(
            meta=self.meta,
            score=self.score[kept],
            size_px=self.size_px[kept],
            class_id=self.class_id[kept],
            unit=number[self.unit[kept]],
            gain=self.gain[kept],
            unit_group=self.unit_group[units],
            unit_whole=self.unit_whole[units],
            unit_gain=self.unit_gain[units],
            unit_pixels=self.unit_pixels[units],
            unit_texture=self.unit_texture[units],
            unit_bytes=self.unit_bytes[units],
            unit_encode_s=self.unit_encode_s[units],
        )


def read_observations(path: Path) -> Observations:
    """Reads a file of observations.

    Raises:
        ConfigError: it is absent, no such file, contradicts itself, or holds what is no number.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays.pop("meta")))
    # TypeError: a lone array (.npy), which is no archive.
    except (OSError, TypeError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} is no file of observations: {error}", remedy=_REMEDY) from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise ConfigError(f"{path} is not of the form {FORMAT}", remedy=_REMEDY)
    missing = [name for name in _SHAPES if name not in arrays]
    if missing:
        raise ConfigError(f"{path} has no {', '.join(missing)}", remedy=_REMEDY)
    sizes = {
        "N": len(arrays["score"]),
        "U": len(arrays["unit_group"]),
        "L": len(meta.get("levels", ())),
    }
    for name, axes in _SHAPES.items():
        if arrays[name].shape != tuple(sizes[axis] for axis in axes):
            raise ConfigError(
                f"{path}: {name} has the shape {arrays[name].shape}, which contradicts the others",
                remedy=_REMEDY,
            )
        if not np.isfinite(arrays[name]).all():
            raise ConfigError(
                f"{path}: {name} holds what is no finite number",
                remedy="A model gave NaN on some picture: find and remove it, then observe again",
            )
    return Observations(
        meta,
        arrays["score"].astype(np.float64),
        arrays["size_px"].astype(np.float64),
        arrays["class_id"].astype(np.int64),
        arrays["unit"].astype(np.int64),
        arrays["gain"].astype(np.float64),
        arrays["unit_group"].astype(np.int64),
        arrays["unit_whole"].astype(np.bool_),
        arrays["unit_gain"].astype(np.float64),
        arrays["unit_pixels"].astype(np.float64),
        arrays["unit_texture"].astype(np.float64),
        arrays["unit_bytes"].astype(np.float64),
        arrays["unit_encode_s"].astype(np.float64),
    )


def check_learnable(observations: Observations, path: Path, *, groups_min: int) -> None:
    """Refuses observations from which no gain can be learned.

    Raises:
        ConfigError: there is nothing to ask about, too few groups with a proposal to hold any out,
            or asking never changed anything: then the edge is as good as the cloud here, or both
            are the same.
    """
    groups = len(np.unique(observations.unit_group[observations.unit]))
    if len(observations.score) == 0:
        raise ConfigError(
            f"{path} holds no proposal", remedy="Observe material in which the edge sees something"
        )
    if groups < groups_min:
        raise ConfigError(
            f"{path} holds proposals in {groups} groups, too few to hold any out of the fit",
            remedy=f"Observe at least {groups_min} pictures, boards or stretches of video in which "
            "the edge sees something",
        )
    if not (np.abs(observations.gain).max() > 1e-6 or np.abs(observations.unit_gain).max() > 1e-6):
        raise ConfigError(
            f"In {path} no answer changed anything: the cloud corrects no error of the edge",
            remedy="Observe other material, or do without a cloud",
        )
    if (observations.gain.max(axis=0) <= 0).all() and (observations.unit_gain <= 0).all():
        raise ConfigError(
            f"In {path} every answer made the result worse",
            remedy="Check that the cloud bundle belongs to this task, or observe better levels",
        )
