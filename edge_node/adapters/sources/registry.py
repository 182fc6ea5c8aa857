"""Finds the source of a kind: built-in ones first, then entry points of hardcase.sources."""

from __future__ import annotations

import importlib.metadata

from edge_node.adapters.sources.images import ImageFolderSource
from edge_node.adapters.sources.v4l2 import V4l2Source
from edge_node.adapters.sources.video import VideoSource
from edge_node.config import SourceSettings
from edge_node.ports import FrameSource, SourceFactory
from foundation.clock import Clock
from foundation.errors import ConfigError

GROUP = "hardcase.sources"
_BUILT_IN: dict[str, SourceFactory] = {
    "video": VideoSource,
    "images": ImageFolderSource,
    "v4l2": V4l2Source,
}


def make_source(settings: SourceSettings, clock: Clock) -> FrameSource:
    """Builds, without opening it, the source that the settings name.

    Raises:
        ConfigError: Nothing of that kind is built in or installed, or what is does not load.
    """
    factory = _BUILT_IN.get(settings.kind)
    if factory is not None:
        return factory(settings, clock)
    found = importlib.metadata.entry_points(group=GROUP)
    for entry_point in found:
        if entry_point.name == settings.kind:
            return _load(entry_point)(settings, clock)
    known = sorted({*_BUILT_IN, *(entry_point.name for entry_point in found)})
    raise ConfigError(
        f"There is no source of kind {settings.kind!r}",
        remedy=f"Choose from {', '.join(known)}, or install a package with entry point {GROUP}",
    )


def _load(entry_point: importlib.metadata.EntryPoint) -> SourceFactory:
    try:
        factory: SourceFactory = entry_point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"The source of kind {entry_point.name!r} does not load: {error}",
            remedy=f"Install again the package that has {entry_point.value}",
        ) from error
    return factory
