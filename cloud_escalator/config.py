"""Settings of the escalator: one YAML file, validated into frozen values, unit in every key.

docs/config-escalator.md is written from these docstrings; a test holds the two together.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from foundation.certificates import TlsSettings, is_loopback
from foundation.escalations import Encoding
from foundation.settings import Settings

_ADDRESS = re.compile(r"^(\[[0-9A-Fa-f:.]+\]|[^\s:]+):(\d{1,5})$")


def split_address(address: str) -> tuple[str, int]:
    """Splits `host:port` (an IPv6 host in brackets) into host and port.

    Raises:
        ValueError: it has another form.
    """
    match = _ADDRESS.match(address)
    if match is None or int(match.group(2)) > 65535:
        raise ValueError(f"{address!r} is not an address of the form host:port")
    return match.group(1).strip("[]"), int(match.group(2))


def _check_address(address: str) -> str:
    split_address(address)
    return address


Address = Annotated[str, AfterValidator(_check_address)]


class InferenceSettings(Settings):
    """How the model runs."""

    threads: int = Field(default=2, ge=1, le=256)
    """CPU threads that one batch may use."""
    providers: tuple[str, ...] = Field(default=("CPUExecutionProvider",), min_length=1)
    """ONNX Runtime execution providers, in order of preference; one that is absent is an error."""


class DecodeSettings(Settings):
    """How crops are decompressed."""

    threads: int = Field(default=1, ge=1, le=64)
    """Threads that decompress crops, beside those of the model."""


class BatchSettings(Settings):
    """How crops are put together."""

    size_max: int = Field(default=8, ge=1, le=256)
    """Largest number of crops that run at once."""
    idle_wait_s: float = Field(default=0.0, ge=0.0, le=1.0)
    """How long an idle model waits for company before it runs a batch that is not full. Zero
    answers soonest; a small wait pays only where a larger batch is much cheaper per crop."""


class LimitSettings(Settings):
    """What is accepted. Every buffer of the escalator is bounded by one of these."""

    message_bytes_max: int = Field(default=4 << 20, ge=1 << 10, le=64 << 20)
    """Largest serialized request; a larger one ends its stream and no other."""
    image_pixels_max: int = Field(default=2_097_152, ge=1, le=64_000_000)
    """Most pixels of a decoded crop; the header is checked before anything is decoded."""
    image_side_min_px: int = Field(default=8, ge=1)
    """Shortest accepted side of a decoded crop."""
    encodings: tuple[Encoding, ...] = Field(default=tuple(Encoding), min_length=1)
    """Accepted encodings."""
    connections_max: int = Field(default=1024, ge=1, le=100_000)
    """Connections open at once; a further one is closed."""
    connection_idle_s: float = Field(default=300.0, ge=1.0, le=86_400.0)
    """A connection without a call for so long is closed."""
    streams_max: int = Field(default=256, ge=1, le=10_000)
    """Streams open at once; a further one is refused."""
    stream_requests_max: int = Field(default=64, ge=1, le=100_000)
    """Requests of one stream that may await their verdict; beyond it the stream is not read, and
    the time that a request then waits on its way counts against its expiry."""
    stream_write_timeout_s: float = Field(default=10.0, gt=0.0, le=600.0)
    """A client that takes no verdict for so long has its stream ended."""
    stream_idle_s: float = Field(default=900.0, gt=0.0, le=86_400.0)
    """A stream on which nothing was asked or awaited for so long is ended; an edge node opens
    another. Longer than the edge's `escalator.stream_lifetime_s`, it ends only what has gone."""
    queue_requests_max: int = Field(default=256, ge=1, le=100_000)
    """Requests that may wait for the model; beyond it the device with the most of them has its
    least valuable one shed."""
    queue_bytes_max: int = Field(default=64 << 20, ge=1 << 20, le=4 << 30)
    """Encoded bytes that may wait for the model; beyond it the device with the most of them has
    its least valuable request shed."""
    device_streams_max: int = Field(default=8, ge=1, le=10_000)
    """Streams of one device open at once; a further one is ended. As many health watches of one
    client."""
    device_requests_per_s: float = Field(default=100.0, gt=0.0, le=1e6)
    """Requests that one device may send per second in the long run; beyond it they are shed."""
    device_requests_burst: float = Field(default=200.0, ge=1.0, le=1e6)
    """Requests that one device may send at once."""
    device_bytes_per_s: float = Field(default=float(16 << 20), gt=0.0, le=1e12)
    """Serialized bytes that one device may send per second in the long run."""
    device_bytes_burst: float = Field(default=float(32 << 20), gt=0.0, le=1e12)
    """Serialized bytes that one device may send at once."""
    devices_remembered_max: int = Field(default=4096, ge=1, le=1_000_000)
    """Devices whose use of their quota is remembered; the one that asked least recently is
    forgotten first."""


class DuplicateSettings(Settings):
    """How verdicts are remembered for requests that are sent again."""

    remembered_max: int = Field(default=4096, ge=0, le=1_000_000)
    """Verdicts remembered; the least recently used is forgotten first."""
    remembered_s: float = Field(default=600.0, gt=0.0, le=86_400.0)
    """How long a verdict is remembered."""


class ServerTlsSettings(TlsSettings):
    """How the escalator proves who it is, and whom it believes; without it the port is plain."""

    revoked: str = ""
    """Path of a PEM file with the authorities' lists of revoked certificates (CRL); empty: none is
    revoked."""

    @model_validator(mode="after")
    def _check_list_has_authorities(self) -> Self:
        if self.revoked and not self.ca:
            raise ValueError("revoked needs ca, certificate and key as well")
        return self


class EscalatorSettings(Settings):
    """Everything that `cloud-escalator serve` is told."""

    bundle: Path
    """The model bundle to answer with: a directory or a .zip."""
    listen: Address = "127.0.0.1:7443"
    """Where edge nodes connect; port 0 takes a free one and prints it."""
    tls: ServerTlsSettings = ServerTlsSettings()
    """How the escalator proves who it is."""
    plain_text: bool = False
    """Listen off loopback even without TLS, where anyone may ask and anyone may read."""
    telemetry_listen: Address = "127.0.0.1:9102"
    """Where /metrics, /healthz and /readyz are served; port 0 takes a free one and prints it."""
    drain_s: float = Field(default=20.0, ge=0.0, le=600.0)
    """After SIGTERM: how long queued requests may take before they are shed."""
    inference: InferenceSettings = InferenceSettings()
    """How the model runs."""
    decode: DecodeSettings = DecodeSettings()
    """How crops are decompressed."""
    batch: BatchSettings = BatchSettings()
    """How crops are put together."""
    limits: LimitSettings = LimitSettings()
    """What is accepted."""
    duplicates: DuplicateSettings = DuplicateSettings()
    """How verdicts are remembered."""

    @property
    def is_plain_off_loopback(self) -> bool:
        """Whether the port can be reached from outside and is not protected."""
        return not (self.tls.given or is_loopback(split_address(self.listen)[0]))

    @model_validator(mode="after")
    def _check_protected(self) -> Self:
        if self.is_plain_off_loopback and not self.plain_text:
            raise ValueError(
                f"listen ({self.listen}) can be reached from other machines and needs tls.ca, "
                "tls.certificate and tls.key (`hardcase-certs` makes them), or plain_text: true"
            )
        return self

    @model_validator(mode="after")
    def _check_queue_holds_a_batch(self) -> Self:
        if self.limits.queue_requests_max < self.batch.size_max:
            raise ValueError(
                f"limits.queue_requests_max ({self.limits.queue_requests_max}) must be at least "
                f"batch.size_max ({self.batch.size_max})"
            )
        return self
