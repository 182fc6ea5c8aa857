"""A picture for smoke tests of detectors of everyday objects."""

from __future__ import annotations

import cv2
import numpy as np

from foundation.frames import Pixels


def draw_street() -> Pixels:
    """A drawn scene with things that detectors of everyday objects know, 480x640.

    A stop sign, a traffic light, a clock and a ball: flat shapes are enough for a smoke test, whose
    point is that the same pixels give the same detections on another machine.
    """
    canvas = np.full((480, 640, 3), (200, 180, 150), np.uint8)
    canvas[330:] = (90, 95, 95)
    angles = np.deg2rad(np.arange(22.5, 360, 45))
    corners = np.stack([150 + 95 * np.cos(angles), 160 + 95 * np.sin(angles)], axis=1)
    cv2.rectangle(canvas, (144, 250), (156, 440), (120, 120, 120), -1)
    cv2.fillPoly(canvas, [corners.astype(np.int32)], (255, 255, 255))
    inner = (corners - (150, 160)) * 0.92 + (150, 160)
    cv2.fillPoly(canvas, [inner.astype(np.int32)], (35, 30, 190))
    font = cv2.FONT_HERSHEY_DUPLEX
    cv2.putText(canvas, "STOP", (88, 177), font, 1.6, (255, 255, 255), 4, cv2.LINE_AA)
    cv2.rectangle(canvas, (330, 60), (400, 250), (25, 30, 30), -1)
    for y, color in ((95, (40, 40, 235)), (155, (30, 120, 140)), (215, (40, 90, 40))):
        cv2.circle(canvas, (365, y), 24, color, -1, cv2.LINE_AA)
    cv2.circle(canvas, (530, 140), 72, (30, 30, 30), -1, cv2.LINE_AA)
    cv2.circle(canvas, (530, 140), 64, (245, 245, 245), -1, cv2.LINE_AA)
    for hour in range(12):
        angle = np.deg2rad(30 * hour)
        end = (int(530 + 56 * np.cos(angle)), int(140 + 56 * np.sin(angle)))
        start = (int(530 + 48 * np.cos(angle)), int(140 + 48 * np.sin(angle)))
        cv2.line(canvas, start, end, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.line(canvas, (530, 140), (530, 96), (0, 0, 0), 4, cv2.LINE_AA)
    cv2.line(canvas, (530, 140), (562, 152), (0, 0, 0), 5, cv2.LINE_AA)
    cv2.circle(canvas, (420, 400), 40, (30, 130, 235), -1, cv2.LINE_AA)
    return canvas
