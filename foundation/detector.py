"""Runs a bundle on images: letterbox, inference, decoding, back to the image's own pixels.

Edge and cloud detect with this same code. A detector owns its buffers and is used by one thread at
a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from foundation.bundle import Bundle
from foundation.decoding import check_outputs, decode
from foundation.errors import IntegrityError, RejectedError
from foundation.frames import Detections, Pixels
from foundation.geometry import Letterbox, Placement, iou_matrix
from foundation.session import CPU_PROVIDERS, BoundBuffers, ModelSession, check_runtime

# Kernels differ between processors in the last bits, and INT8 rounds those up to a step.
_SMOKE_SCORE_TOLERANCE = 0.08
_SMOKE_IOU_MIN = 0.6


class Detector:
    """One bundle, ready to detect.

    Attributes:
        session: the model that runs.
    """

    def __init__(self, bundle: Bundle, session: ModelSession, batch_max: int) -> None:
        self._info = bundle.info
        self._smoke = bundle.smoke
        self.session = session
        self._batch_max = batch_max
        contract = bundle.info.input
        self._letterbox = Letterbox(bundle.info.letterbox, contract.width, contract.height)
        self._buffers: dict[int, BoundBuffers] = {}
        self._canvas = np.empty((contract.height, contract.width, 3), np.uint8)
        mean = np.array(contract.mean, np.float32)
        std = np.array(contract.std, np.float32)
        self._gain = np.float32(contract.scale) / std
        self._bias = -mean / std

    @staticmethod
    def open(
        bundle: Bundle,
        *,
        intra_op_threads: int = 1,
        providers: Sequence[str] = CPU_PROVIDERS,
        spinning: bool = False,
        batch_max: int = 1,
        trace: Path | None = None,
    ) -> Detector:
        """Loads a bundle's model and compares it with its manifest.

        Args:
            bundle: a verified bundle.
            intra_op_threads: threads of one inference.
            providers: ONNX Runtime execution providers, all of which must be available.
            spinning: whether the CPU's pool waits for work by spinning.
            batch_max: most images in one run; more than 1 needs a bundle with a dynamic batch.
            trace: see `ModelSession.open`.

        Raises:
            ConfigError: a provider is not available.
            IntegrityError: the model does not load or is not what the manifest says.
        """
        info = bundle.info
        check_runtime(info.runtime_min, info.name)
        session = ModelSession.open(
            bundle.model,
            providers=providers,
            intra_op_threads=intra_op_threads,
            spinning=spinning,
            trace=trace,
        )
        contract = info.input
        height, width = contract.height, contract.width
        sides = (height, width, 3) if contract.layout == "NHWC" else (3, height, width)
        found = session.input
        batch = None if contract.dynamic_batch else 1
        fits = len(found.shape) == 4 and all(
            actual is None or actual == wanted
            for actual, wanted in zip(found.shape, (batch, *sides), strict=True)
        )
        if found.name != contract.name or found.dtype != np.dtype(contract.dtype) or not fits:
            raise IntegrityError(
                f"Bundle {info.name}: the model takes {found.name!r} {np.dtype(found.dtype)} "
                f"{found.shape}, but the manifest says {contract.name!r} {contract.dtype} "
                f"{(batch, *sides)}",
                remedy="Correct the input contract in the manifest and build the bundle again",
            )
        detector = Detector(bundle, session, batch_max if contract.dynamic_batch else 1)
        # What the graph promises of its outputs may be vague; what it puts out is not.
        for size in {1, detector._batch_max}:
            check_outputs(detector._bound(size).outputs, info)
        return detector

    def detect(self, pixels: Pixels) -> Detections:
        """Detections in one image.

        Args:
            pixels: (height, width, 3) uint8 BGR of any size.

        Returns:
            Detections with raw scores, best first, boxes in the image's pixels.

        Raises:
            RejectedError: the model failed on this image.
        """
        return self.detect_batch([pixels])[0]

    def detect_batch(self, images: Sequence[Pixels]) -> list[Detections]:
        """Detections in each of several images, in as few runs as `batch_max` allows.

        Raises:
            RejectedError: the model failed on these images.
        """
        found: list[Detections] = []
        for start in range(0, len(images), self._batch_max):
            found += self._detect_run(images[start : start + self._batch_max])
        return found

    def load(self, images: Sequence[Pixels]) -> BoundBuffers:
        """The buffers of one run, holding these images as the model takes them.

        What `detect_batch` does before it runs the model; for measuring the run by itself.
        """
        self._place(images)
        return self._bound(len(images))

    def check_smoke(self) -> None:
        """Runs the bundle's smoke input and compares with the expected detections.

        Raises:
            IntegrityError: the model does not detect here what it detected where it was made.
        """
        expected = self._smoke.expected
        if len(expected) == 0:
            raise IntegrityError(
                f"Bundle {self._info.name}: its smoke test expects nothing and so proves nothing",
                remedy="Build it again with an input in which the model detects something",
            )
        try:
            found = self.detect(self._smoke.pixels)
        except RejectedError as error:
            raise self._smoke_error(f"failed: {error.message}") from error
        overlap = iou_matrix(expected.boxes, found.boxes)
        overlap[expected.class_ids[:, None] != found.class_ids[None, :]] = 0.0
        for i in range(len(expected)):
            best = int(overlap[i].argmax()) if len(found) else -1
            score = float(found.scores[best]) if best >= 0 else 0.0
            same_place = best >= 0 and overlap[i, best] >= _SMOKE_IOU_MIN
            if not same_place or abs(score - expected.scores[i]) > _SMOKE_SCORE_TOLERANCE:
                seen = f"got score {score:.2f}" if same_place else "found none there"
                raise self._smoke_error(f"expected {self._describe(expected, i)} and {seen}")
        # Of two candidates that suppress each other either may win; the weakest may fall short.
        near = min(_SMOKE_IOU_MIN, self._info.postprocess.nms_iou)
        weakest = float(expected.scores.min()) + _SMOKE_SCORE_TOLERANCE
        foreign = np.flatnonzero((overlap.max(axis=0) < near) & (found.scores > weakest))
        if len(foreign):
            raise self._smoke_error(f"found {self._describe(found, int(foreign[0]))} unexpectedly")

    def _describe(self, detections: Detections, i: int) -> str:
        label = self._info.labels[int(detections.class_ids[i])]
        place = detections.boxes[i].round().astype(int).tolist()
        return f"{label} with score {detections.scores[i]:.2f} at {place}"

    def _smoke_error(self, what: str) -> IntegrityError:
        return IntegrityError(
            f"Bundle {self._info.name}: the smoke test {what}",
            remedy="Do not run this bundle here; rebuild it on the oldest processor you ship to",
        )

    def _detect_run(self, images: Sequence[Pixels]) -> list[Detections]:
        placements = self._place(images)
        buffers = self._bound(len(images))
        buffers.run()
        found = []
        for position, placement in enumerate(placements):
            detections = decode(buffers.outputs, position, self._info)
            boxes = placement.to_source(detections.boxes)
            # What lies in the padding alone is clipped to nothing and is not in the image.
            inside = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
            found.append(Detections(boxes, detections.scores, detections.class_ids).take(inside))
        return found

    def _place(self, images: Sequence[Pixels]) -> list[Placement]:
        """Letterboxes images into the input of their batch size."""
        buffers = self._bound(len(images))
        placements = []
        for position, pixels in enumerate(images):
            placement = self._letterbox.placement(pixels.shape[1], pixels.shape[0])
            placements.append(placement)
            if self._info.input.dtype == "uint8" and self._info.input.layout == "NHWC":
                target = buffers.input[position]
                self._letterbox.render(pixels, placement, target)
                if self._info.input.color == "RGB":
                    cv2.cvtColor(target, cv2.COLOR_BGR2RGB, dst=target)
            else:
                self._letterbox.render(pixels, placement, self._canvas)
                self._convert(buffers, position)
        return placements

    def _convert(self, buffers: BoundBuffers, position: int) -> None:
        """Canvas to the contract's color, layout, dtype and value range."""
        contract = self._info.input
        target = buffers.input[position]
        for channel in range(3):
            plane = self._canvas[:, :, channel if contract.color == "BGR" else 2 - channel]
            into = target[channel] if contract.layout == "NCHW" else target[:, :, channel]
            if contract.dtype == "uint8":
                into[:] = plane
            else:
                np.multiply(plane, self._gain[channel], out=into)
                if self._bias[channel]:
                    into += self._bias[channel]

    def _bound(self, batch: int) -> BoundBuffers:
        if batch not in self._buffers:
            contract = self._info.input
            sides = (contract.height, contract.width, 3)
            if contract.layout == "NCHW":
                sides = (3, contract.height, contract.width)
            self._buffers[batch] = self.session.bind((batch, *sides))
        return self._buffers[batch]
