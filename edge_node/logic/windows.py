"""When the link may be used for what is no longer fresh. Pure: minutes of the local day in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Window:
    """A part of every day, from one minute to another, which may lie on the next day."""

    begin_min: int
    end_min: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `HH:MM-HH:MM`, which the settings have checked; 24:00 is the end of the day."""
        begin, end = (
            60 * int(hour) + int(minute)
            for hour, minute in (clock.split(":") for clock in text.split("-"))
        )
        return cls(begin, end)

    def holds(self, minute: int) -> bool:
        """Whether a minute of the day lies in it; one that ends as it begins is the whole day."""
        if self.begin_min < self.end_min:
            return self.begin_min <= minute < self.end_min
        return minute >= self.begin_min or minute < self.end_min


def is_open(windows: Sequence[Window], minute: int) -> bool:
    """Whether any window holds this minute of the local day; without windows, always."""
    return not windows or any(window.holds(minute) for window in windows)
