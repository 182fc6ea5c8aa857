"""Settings of the edge node: one YAML file, validated into frozen models, unit in every key."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from foundation.settings import Settings


class SourceSettings(Settings):
    """Where frames come from."""

    kind: str = Field(
        default="video",
        description="video, images, v4l2, or the name of an installed entry point of group "
        "hardcase.sources, such as line.",
    )
    uri: str = Field(
        default="",
        description="What to open: a video file, a folder of images, a device such as /dev/video0.",
    )
    pace: Literal["realtime", "unpaced"] = Field(
        default="realtime",
        description="realtime: files play at their own rate, newest frame wins. "
        "unpaced: each frame waits for the one before, as fast as the lane goes.",
    )
    frame_rate_hz: float = Field(
        default=0.0,
        ge=0.0,
        description="Rate to play or request; 0 takes the source's own.",
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="Further settings, understood by the source of this kind alone.",
    )
