"""Times of the day in which the backlog is sent."""

from __future__ import annotations

import pydantic
import pytest

from edge_node.config import SpoolSettings
from edge_node.logic.windows import Window, is_open


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("08:00-17:30", (480, 1049), (479, 1050)),
        ("22:00-06:00", (1320, 1439, 0, 359), (360, 1319)),
        ("00:00-24:00", (0, 720, 1439), ()),
    ],
)
def test_window_holds_its_minutes(
    text: str, inside: tuple[int, ...], outside: tuple[int, ...]
) -> None:
    """From the first to before the last, over midnight where it ends earlier than it begins."""
    window = Window.parse(text)
    assert all(window.holds(minute) for minute in inside)
    assert not any(window.holds(minute) for minute in outside)


def test_any_window_opens_and_none_is_always() -> None:
    """Several windows add up."""
    windows = [Window.parse("01:00-02:00"), Window.parse("12:00-13:00")]
    assert is_open(windows, 70)
    assert is_open(windows, 720)
    assert not is_open(windows, 300)
    assert is_open([], 300)


@pytest.mark.parametrize("text", ["8-17", "25:00-01:00", "08:60-09:00", "", "08:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """By the settings, with the key."""
    with pytest.raises(pydantic.ValidationError, match="windows"):
        SpoolSettings.model_validate({"windows": [text]})
