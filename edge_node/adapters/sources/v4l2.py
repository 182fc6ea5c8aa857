"""A camera of this machine by Video4Linux, through OpenCV."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from edge_node.config import SourceSettings
from edge_node.ports import Capture
from foundation.clock import Clock
from foundation.errors import ConfigError, IntegrityError, TransientError

_FAILURES_MAX = 30
_RETRY_S = 0.1


class V4l2Source:
    """Always live. The instant of capture is when the driver hands the frame over."""

    def __init__(self, settings: SourceSettings, clock: Clock) -> None:
        self.name = settings.uri or "/dev/video0"
        self.live = True
        self.frame_rate_hz = settings.frame_rate_hz
        self._clock = clock
        self._device: cv2.VideoCapture | None = None
        self._failures = 0

    def __enter__(self) -> Self:
        """Opens the device.

        Raises:
            ConfigError: It is absent, busy, or no camera.
        """
        remedy = "Check source.uri, the device's permissions, and that no other process uses it"
        try:
            exists = Path(self.name).exists()
        except OSError:  # too long for a path, say
            exists = False
        if not exists:
            raise ConfigError(f"There is no camera device at {self.name}", remedy=remedy)
        device = cv2.VideoCapture(self.name, cv2.CAP_V4L2)
        if not device.isOpened():
            device.release()
            raise ConfigError(f"The device {self.name} cannot be opened as a camera", remedy=remedy)
        # One buffer where the driver allows it: a queue in the driver is latency nobody measures.
        device.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if self.frame_rate_hz:
            device.set(cv2.CAP_PROP_FPS, self.frame_rate_hz)
        self.frame_rate_hz = float(device.get(cv2.CAP_PROP_FPS))
        self._device = device
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Releases the device."""
        if self._device is not None:
            self._device.release()

    def read(self, stop: threading.Event) -> Capture | None:
        """Waits for the next frame of the device.

        Raises:
            TransientError: The device gave no frame this time.
            IntegrityError: It has given none for a while: it was unplugged, or hangs.
        """
        if self._device is None or stop.is_set():
            return None
        grabbed = self._device.grab()
        captured_at_ns = self._clock.now_ns()
        done, pixels = self._device.retrieve() if grabbed else (False, None)
        if done and pixels is not None:
            self._failures = 0
            return Capture(np.ascontiguousarray(pixels, np.uint8), captured_at_ns)
        self._failures += 1
        if self._failures >= _FAILURES_MAX:
            raise IntegrityError(
                f"The camera {self.name} gives no frames any more",
                remedy="Check its cable and power; a supervisor may restart this node",
            )
        stop.wait(_RETRY_S)
        raise TransientError(f"The camera {self.name} gave no frame")
