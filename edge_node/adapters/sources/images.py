"""A folder of images as a camera, in the order of their names."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_node.adapters.sources.pacing import Pacer
from edge_node.config import SourceSettings
from edge_node.ports import Capture
from foundation.clock import Clock
from foundation.errors import ConfigError, TransientError
from foundation.images import load_picture

_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_DEFAULT_RATE_HZ = 10.0


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # behind a folder that may not be read, or a link to no possible name
        return False


class ImageFolderSource:
    """Images may differ in size; one that does not decode is a lost frame."""

    def __init__(self, settings: SourceSettings, clock: Clock) -> None:
        self.name = settings.uri
        self.live = settings.pace == "realtime"
        self.frame_rate_hz = settings.frame_rate_hz or _DEFAULT_RATE_HZ
        self._clock = clock
        self._pacer = Pacer(clock)
        self._paths: list[Path] = []
        self._position = 0

    def __enter__(self) -> Self:
        """Lists the folder.

        Raises:
            ConfigError: It is absent, or holds no images.
        """
        try:
            if not self.name:
                raise FileNotFoundError
            found = list(Path(self.name).iterdir())
        except OSError as error:
            raise ConfigError(
                f"There is no folder of images at {self.name!r}: {error.strerror or 'no name'}",
                remedy="Check source.uri",
            ) from error
        self._paths = sorted(path for path in found if path.suffix.lower() in _SUFFIXES)
        if not self._paths:
            raise ConfigError(
                f"The folder {self.name} holds no images",
                remedy=f"Put files there that end in {', '.join(sorted(_SUFFIXES))}",
            )
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is held open."""

    def read(self, stop: threading.Event) -> Capture | None:
        """Reads the next image and waits until it is due.

        Raises:
            TransientError: It is no file, no image, or larger than OpenCV takes.
        """
        if self._position >= len(self._paths):
            return None
        path = self._paths[self._position]
        moment_s = self._position / self.frame_rate_hz
        self._position += 1
        # To open a pipe would wait for its writer for ever.
        pixels = load_picture(path) if _is_file(path) else None
        captured_at_ns = self._clock.now_ns()
        if self.live:
            due_ns = self._pacer.wait(moment_s, stop)
            if due_ns is None:
                return None
            captured_at_ns = due_ns
        if pixels is None:
            raise TransientError(f"{path} does not decode as an image")
        return Capture(pixels, captured_at_ns)
