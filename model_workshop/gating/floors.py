"""floors.yaml: how good a model must be, overall and per stratum, before it is optimized.

All figures are points, 0 to 100. docs/workshop/gate.md explains every key.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from foundation.settings import Settings, load_settings

Points = Annotated[float, pydantic.Field(ge=0, le=100)]
FIGURES = ("ap50_95", "ap50", "recall")
OVERALL = "overall"


class JudgedBy(enum.StrEnum):
    """What of a figure is compared with its limit."""

    POINT = "point"
    """The figure as measured; close to the limit chance decides."""
    BOUND = "bound"
    """The unfavourable end of its 95 % interval: the lower one of a figure, the upper of a loss."""


class Limits(Settings):
    """Limits of one stratum, each for one figure."""

    ap50_95: Points | None = None
    """COCO's average precision over IoU 0.5 to 0.95; overall its mean over classes, mAP50-95."""
    ap50: Points | None = None
    """The same at IoU 0.5."""
    recall: Points | None = None
    """Share of the objects found at the bundle's own report threshold."""

    def given(self) -> Iterator[tuple[str, float]]:
        """The figures that have a limit, with it."""
        for figure in FIGURES:
            limit: float | None = getattr(self, figure)
            if limit is not None:
                yield figure, limit


class LimitSet(Settings):
    """Limits overall and by stratum."""

    judged_by: JudgedBy
    """Has no default: which of the two is meant decides who passes."""
    overall: Limits = Limits()
    every_stratum: Limits = Limits()
    """Holds for every stratum of the split that has enough objects."""
    strata: Mapping[str, Limits] = pydantic.Field(default_factory=dict)
    """By key, such as `class/person` or `size/smallest`: replaces `every_stratum` there."""

    def of(self, stratum: str) -> Limits:
        """The limits that hold for a stratum, or `overall`."""
        if stratum == OVERALL:
            return self.overall
        return self.strata.get(stratum, self.every_stratum)

    @property
    def is_empty(self) -> bool:
        """Whether it limits nothing."""
        parts = (self.overall, self.every_stratum, *self.strata.values())
        return not any(True for limits in parts for _ in limits.given())


class Floors(Settings):
    """All of floors.yaml."""

    objects_min: Annotated[int, pydantic.Field(ge=1)]
    """A stratum with fewer objects in the split is too small to be judged."""
    too_few_objects: Literal["skip", "refuse"]
    """What becomes of a model where a limited stratum is too small."""
    floors_points: LimitSet | None = None
    """Least figures of the model itself."""
    losses_points_max: LimitSet | None = None
    """Most that each figure may be lower than the reference's on the same images."""

    @pydantic.model_validator(mode="after")
    def _limits_something(self) -> Floors:
        if all(part is None or part.is_empty for part in (self.floors_points, self.losses)):
            raise ValueError("neither floors_points nor losses_points_max limits anything")
        return self

    @property
    def losses(self) -> LimitSet | None:
        """The limits on losses, or None where there are none and no reference is needed."""
        limits = self.losses_points_max
        return None if limits is None or limits.is_empty else limits

    @property
    def named_strata(self) -> set[str]:
        """Keys of all strata that the file names."""
        parts = (self.floors_points, self.losses_points_max)
        return {key for part in parts if part is not None for key in part.strata}


def read_floors(path: Path) -> Floors:
    """Reads and validates a floors file.

    Raises:
        ConfigError: it is absent, no YAML, has an unknown key, or limits nothing.
    """
    return load_settings(path, Floors)
