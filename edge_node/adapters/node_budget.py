"""The budget that the cameras of one machine share: a small file, one edge node process per camera.

The file holds the limits, both buckets and the demand of all cameras, so that all see one price and
bytes go where they are worth most. Each call works on it under a lock that the kernel drops when
its holder dies. Nothing waits: when another process has the lock, an offer is refused as
contended, and what was to be noted is noted with the next call that gets it.

A file that is not what this machine wrote since it was started (torn, foreign, of before a reboot)
counts as an empty bucket, so that no damage ever grants bytes. A process that dies between a
charge and its settlement leaves the charge.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from edge_node.logic.demand import RECORD_LENGTH, Amounts
from edge_node.logic.spending import Ledger, Limits, Price, Refusal, Reservation
from edge_node.values import NodeEvent
from foundation.errors import ConfigError

FILE_NAME = "node-budget"
NOTES_MAX = 256
"""Offers and settlements kept while others hold the lock; above that the oldest offer is lost to
the statistics, a settlement never is."""

_SEEN_LATELY_NS = 1_000_000_000
_MAGIC = b"HCBUDGT1"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_HEAD = struct.Struct("<8s16s5d")
_ACCOUNT = struct.Struct("<dqq")
_CHECK = struct.Struct("<I")
_RECORD_BYTES = 8 * RECORD_LENGTH
FILE_BYTES = _HEAD.size + 2 * (_ACCOUNT.size + _RECORD_BYTES) + _CHECK.size


def boottime_ns() -> int:
    """The clock that all processes of a machine share: since its start, sleep included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def count_nowhere(event: NodeEvent) -> None:
    """Lets an event pass."""


class NodeBudget:
    """Implements `logic.spending.Budget`; used as a context manager, by one thread.

    A camera's own limits hold beside the node's: an offer pays both prices and is charged to both.
    The limits of the process that opened last hold for the node.

    Attributes:
        events: How often something has gone another way than planned.
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        own: Ledger,
        clock_ns: Callable[[], int] = boottime_ns,
        count: Callable[[NodeEvent], None] = count_nowhere,
    ) -> None:
        """Takes what is shared.

        Args:
            folder: Of the file.
            limits: Of the node.
            own: The camera's own ledger.
            clock_ns: That all processes of the machine share.
            count: Is told of every event.
        """
        self.events: Counter[NodeEvent] = Counter()
        self._count = count
        self._path = folder / FILE_NAME
        self._node = Ledger(limits)
        self._own = own
        self._clock_ns = clock_ns
        self._limits: Limits | None = limits
        self._boot_id = b""
        self._read_at_ns = -_SEEN_LATELY_NS
        self._descriptor = -1
        self._offers: deque[tuple[float, float, float]] = deque(maxlen=NOTES_MAX)
        self._refund_bytes = 0.0
        self._refund_requests = 0.0

    def __enter__(self) -> Self:
        """Opens or makes the file, with its room on the disk.

        Raises:
            ConfigError: It cannot be made, read and written there.
        """
        try:
            self._boot_id = bytes.fromhex(_BOOT_ID.read_text("ascii").strip().replace("-", ""))
            self._descriptor = self._open()
        except OSError as error:
            raise ConfigError(
                f"Cannot keep the node's budget in {self._path}: {error.strerror}",
                remedy="Name a folder on a disk with room that the edge nodes may write to",
            ) from error
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Notes what is still to be noted, if the lock is free, and closes."""
        with self._locked() as refusal:
            if refusal is None:
                self._write()
        os.close(self._descriptor)
        self._descriptor = -1

    def learn(self, value: Amounts, size_bytes: Amounts, now_ns: int, costs: Amounts = 0.0) -> None:
        """Hears of offers that are made for the first time."""
        own, node = self._own.price(now_ns), self._node.price(self._clock_ns())
        elsewhere = costs + node.per_byte * size_bytes + node.per_request
        self._own.learn(value, size_bytes, now_ns, elsewhere)
        here = costs + own.per_byte * size_bytes + own.per_request
        offers = np.broadcast_arrays(*np.atleast_1d(value, size_bytes, here))
        for offer in zip(*(amounts.tolist() for amounts in offers), strict=True):
            if len(self._offers) == NOTES_MAX:
                self._note(NodeEvent.FORGOTTEN)
            self._offers.append(offer)

    def refresh(self, now_ns: int, early_s: float) -> None:
        """Draws price curves anew where that is due within so many seconds."""
        self._own.refresh(now_ns, early_s)
        self._node.refresh(self._clock_ns(), early_s)

    def price(self, now_ns: int) -> Price:
        """What sending costs, as far as this process has seen the file."""
        own, node = self._own.price(now_ns), self._node.price(self._clock_ns())
        return Price(own.per_byte + node.per_byte, own.per_request + node.per_request)

    def reserve(
        self, value: float, size_bytes: float, now_ns: int, costs: float = 0.0
    ) -> Reservation | Refusal:
        """Charges an offer to the camera and the node, or says why not."""
        own_costs = costs + self._own.price(now_ns).of(size_bytes)
        if self._too_dear(value - own_costs, size_bytes):
            return Refusal.PRICE
        with self._locked() as refusal:
            if refusal is not None:
                return refusal
            shared_ns = self._clock_ns()
            node_price = self._node.price(shared_ns).of(size_bytes)
            unpaid = self._own.refusal(value, size_bytes, now_ns, costs + node_price)
            unpaid = unpaid or self._node.refusal(value, size_bytes, shared_ns, own_costs)
            most_bytes = self.price(now_ns).affords(value - costs)
            if unpaid is None:
                self._node.charge(size_bytes)
                most_bytes = self._node.most_payable(size_bytes, most_bytes)
            if not self._write():
                return Refusal.UNUSABLE
        if unpaid is not None:
            return unpaid
        self._own.charge(size_bytes)
        return Reservation(size_bytes, self._own.most_payable(size_bytes, most_bytes))

    def settle(self, reservation: Reservation, size_bytes: float) -> None:
        """Replaces the prediction by the encoded size; noted in the file when the lock is free."""
        self._own.settle(reservation, size_bytes)
        self._refund_bytes += reservation.size_bytes - size_bytes
        self._refund_requests += size_bytes == 0.0
        with self._locked() as refusal:
            if refusal is None:
                self._write()

    def _note(self, event: NodeEvent) -> None:
        self.events[event] += 1
        self._count(event)

    def _too_dear(self, worth: float, size_bytes: float) -> bool:
        """Whether the state that was read last is enough to refuse.

        What others have spent since can only have made it dearer; what they gave back is seen
        within a second. Most offers are refused for their price, on frame after frame, and the
        file is spared them.
        """
        shared_ns = self._clock_ns()
        if self._offers or self._refund_bytes or self._refund_requests:
            return False
        if not 0 <= shared_ns - self._read_at_ns < _SEEN_LATELY_NS:
            return False
        return worth <= self._node.price(shared_ns).of(size_bytes)

    @contextmanager
    def _locked(self) -> Iterator[Refusal | None]:
        """Holds the lock with the file's state read and all notes in it, or says why not."""
        refusal: Refusal | None = None
        held = -1
        try:
            if os.fstat(self._descriptor).st_nlink == 0:  # removed: others have made a new one
                replacement = self._open()
                os.close(self._descriptor)
                self._descriptor = replacement
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = self._descriptor
            self._read()
        except BlockingIOError:
            self._note(NodeEvent.CONTENDED)
            refusal = Refusal.CONTENDED
        except OSError:
            self._note(NodeEvent.UNWRITTEN)
            refusal = Refusal.UNUSABLE
        try:
            yield refusal
        finally:
            if held >= 0:
                fcntl.flock(held, fcntl.LOCK_UN)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, 0o660)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(0, "it is not a file")
            os.posix_fallocate(descriptor, 0, FILE_BYTES)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _read(self) -> None:
        """Takes over the file's state, or an empty bucket, and adds what was to be noted."""
        block = os.pread(self._descriptor, FILE_BYTES, 0)
        if not self._restore(block):
            if block.strip(b"\0"):
                self._note(NodeEvent.RESET)
            self._node = Ledger(self._limits or self._node.limits)
            now_ns = self._clock_ns()
            for account in (self._node.bytes, self._node.requests):
                account.bucket.restore(0.0, now_ns)
        self._read_at_ns = now_ns = self._clock_ns()
        if self._offers:
            value, size_bytes, costs = np.array(self._offers).T
            self._node.learn(value, size_bytes, now_ns, costs)
        self._node.bytes.bucket.settle(self._refund_bytes, 0.0)
        self._node.requests.bucket.settle(self._refund_requests, 0.0)

    def _write(self) -> bool:
        """Writes the state and forgets the notes that are in it; False when that failed."""
        block = self._block()
        try:
            if os.pwrite(self._descriptor, block, 0) != len(block):
                raise OSError(0, "written in part")
        except OSError:
            self._note(NodeEvent.UNWRITTEN)
            return False
        self._limits = None
        self._offers.clear()
        self._refund_bytes = self._refund_requests = 0.0
        return True

    def _block(self) -> bytes:
        limits = self._node.limits
        parts = [_HEAD.pack(_MAGIC, self._boot_id, *astuple(limits))]
        for account in (self._node.bytes, self._node.requests):
            bucket, pricing = account.bucket, account.pricing
            parts.append(
                _ACCOUNT.pack(bucket.level, bucket.filled_at_ns or 0, pricing.refreshed_at_ns or 0)
            )
            parts.append(pricing.demand.record.tobytes())
        body = b"".join(parts)
        return body + _CHECK.pack(zlib.crc32(body))

    def _restore(self, block: bytes) -> bool:
        """Takes over a block of the file; False when it is not of this run of this machine."""
        if len(block) != FILE_BYTES:
            return False
        body = block[: -_CHECK.size]
        magic, boot_id, *amounts = _HEAD.unpack_from(body)
        if magic != _MAGIC or boot_id != self._boot_id:
            return False
        if block[-_CHECK.size :] != _CHECK.pack(zlib.crc32(body)):
            return False
        limits = self._limits or Limits(*amounts)
        if limits != self._node.limits:
            self._node = Ledger(limits)
        at = _HEAD.size
        for account in (self._node.bytes, self._node.requests):
            level, filled_at_ns, refreshed_at_ns = _ACCOUNT.unpack_from(body, at)
            at += _ACCOUNT.size
            account.bucket.restore(level, filled_at_ns)
            record = np.frombuffer(body, np.float64, RECORD_LENGTH, at)
            at += _RECORD_BYTES
            account.pricing.restore(record, refreshed_at_ns)
        return True
