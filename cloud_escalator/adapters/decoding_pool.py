"""Decompresses crops in a few threads, off the event loop.

Owns the threads `decode_*`. OpenCV releases the interpreter lock while it decompresses, so they
really run beside the loop and the model.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from cloud_escalator.handoff import Mailbox
from cloud_escalator.ports import DecodedCrop
from foundation.errors import RejectedError
from foundation.escalations import Encoding
from foundation.images import decode_image


class DecodingPool:
    """The threads that decompress crops. Open with `async with`.

    Args:
        threads: how many.
        side_min_px: shortest accepted side of a crop.
        pixels_max: most accepted pixels of a crop, checked before anything is decompressed.
        done: where finished crops go.
    """

    def __init__(
        self,
        *,
        threads: int,
        side_min_px: int,
        pixels_max: int,
        done: Mailbox[Future[DecodedCrop]],
    ) -> None:
        self._side_min_px = side_min_px
        self._pixels_max = pixels_max
        self._done = done
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A crop takes milliseconds, so waiting for those under way is bounded.
        self._threads.shutdown(wait=True, cancel_futures=True)

    def submit(self, ticket: int, image: bytes, encoding: Encoding) -> None:
        """Starts one crop."""
        self._threads.submit(self._decode, ticket, image, encoding).add_done_callback(
            self._done.post
        )

    def take(self) -> list[DecodedCrop]:
        """Returns the crops that are done, each once."""
        return [future.result() for future in self._done.take() if not future.cancelled()]

    def _decode(self, ticket: int, image: bytes, encoding: Encoding) -> DecodedCrop:
        started_s = time.perf_counter()
        try:
            outcome = decode_image(
                image, encoding, side_min_px=self._side_min_px, pixels_max=self._pixels_max
            )
        except RejectedError as error:
            return DecodedCrop(ticket, error, time.perf_counter() - started_s)
        return DecodedCrop(ticket, outcome, time.perf_counter() - started_s)
