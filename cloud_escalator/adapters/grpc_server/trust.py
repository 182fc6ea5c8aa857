"""Whom the escalator believes: its own certificate, its clients', and what they may say.

gRPC checks in the handshake that a client's certificate is valid, of an authority in `tls.ca`, and
that the client has its key. Here is decided what gRPC does not know: whether the certificate names
a device, was revoked, or has run out since. Without TLS everyone may say anything; the settings
allow that on loopback, or where it was asked for.

The certificate files are read again when they change: at a handshake, and whenever `refresh` is
called. gRPC calls for them from threads of its own.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
import grpc.aio
from cryptography import x509

from cloud_escalator.adapters.grpc_server.revocation import RevocationList
from cloud_escalator.config import EscalatorSettings
from cloud_escalator.metrics import EscalatorMetrics, IdentityRefusal
from foundation.certificates import UNREADABLE, CertificateFiles, Credentials, describe
from foundation.clock import NS_PER_S, Clock
from foundation.identity import DeviceName, names_of

log = logging.getLogger(__name__)

_REMEMBERED_MAX = 4096
"""Connections that were counted, and refusals that were logged."""

_TEXTS = {
    IdentityRefusal.NO_NAME: "The certificate names no device: hardcase://SITE/CAMERA",
    IdentityRefusal.EXPIRED: "The certificate is no longer valid",
    IdentityRefusal.REVOKED: "The certificate was revoked",
}


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection.

    Attributes:
        certificate: what it has proved to own; None without TLS, or where it cannot be read.
        names: as whom it may speak; None without TLS: as anyone.
    """

    certificate: x509.Certificate | None
    names: tuple[DeviceName, ...] | None

    def permits(self, site: str, camera: str) -> bool:
        """Whether it may speak for that camera."""
        return self.names is None or any(name.permits(site, camera) for name in self.names)

    def __str__(self) -> str:
        return "without a certificate" if self.certificate is None else describe(self.certificate)


class Trust:
    """Decides about clients, and proves to them who this is.

    Args:
        settings: the address, and the files of TLS if any.
        metrics: handshakes, refusals, expiry.
        clock: for certificates that run out during a stream.

    Raises:
        ConfigError: a file is missing or not what it should be, or no authority is valid any more.
    """

    def __init__(
        self, settings: EscalatorSettings, metrics: EscalatorMetrics, clock: Clock
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._files: CertificateFiles | None = None
        self._counted: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._said: OrderedDict[tuple[str, IdentityRefusal], None] = OrderedDict()
        metrics.certificates.plain_text.set(settings.is_plain_off_loopback)
        if settings.tls.given:
            self._files = CertificateFiles(settings.tls, metrics.certificates)
            self._files.check_authorities()
            authorities = self._files.credentials.authorities
            self._revoked = RevocationList(settings.tls.revoked, authorities, metrics.certificates)

    def server_credentials(self) -> grpc.ServerCredentials | None:
        """What the port is opened with; None for plain text."""
        files = self._files
        if files is None:
            return None

        def begin_handshake() -> grpc.ServerCertificateConfiguration:
            self._metrics.handshakes.inc()
            self.refresh()
            return _configuration(files.credentials)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(files.credentials), begin_handshake, require_client_authentication=True
        )

    def identify(self, context: grpc.aio.ServicerContext[Any, Any]) -> Peer:
        """Who calls; whether it may is for `refusal` to say."""
        if self._files is None:
            return Peer(None, None)
        pem = _certificate_of(context)
        if _first(self._counted, (context.peer(), pem)):
            self._metrics.identified.inc()
        return _read_peer(pem)

    def origin_of(self, context: grpc.aio.ServicerContext[Any, Any]) -> str:
        """By what one client is told from another: its names, or without TLS its address."""
        if self._files is None:
            address, _, _port = context.peer().rpartition(":")
            return address
        pem = _certificate_of(context)
        names = " ".join(name.uri for name in _read_peer(pem).names or ())
        return names or hashlib.sha256(pem).hexdigest()

    def refusal(self, peer: Peer) -> str:
        """Why a client is not served at present, counted and logged; empty where it is."""
        reason = self._reason_against(peer)
        if reason is None:
            return ""
        self._metrics.identity_refusals[reason].inc()
        if _first(self._said, (str(peer), reason)):
            log.warning("a client is refused (%s): %s", reason.value, peer)
        return _TEXTS[reason]

    def refresh(self) -> None:
        """Reads the files again if they have changed."""
        if self._files is not None:
            self._files.refresh()
            self._revoked.refresh(self._files.credentials.authorities)

    def _reason_against(self, peer: Peer) -> IdentityRefusal | None:
        if peer.names is None:
            return None
        if peer.certificate is None or not peer.names:
            return IdentityRefusal.NO_NAME
        now = datetime.fromtimestamp(self._clock.now_ns() / NS_PER_S, UTC)
        if self._revoked.holds(peer.certificate):
            return IdentityRefusal.REVOKED
        if peer.certificate.not_valid_after_utc < now:
            return IdentityRefusal.EXPIRED
        return None


def _certificate_of(context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    pem: bytes
    (pem,) = context.auth_context()["x509_pem_cert"]
    return pem


def _read_peer(pem: bytes) -> Peer:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        return Peer(certificate, names_of(certificate))
    except UNREADABLE:
        return Peer(None, ())  # gRPC is not as strict about what it can read


def _configuration(now: Credentials) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(now.key_pem, now.chain_pem)], now.ca_pem)


def _first(seen: OrderedDict[Any, None], key: object) -> bool:
    """Remembers a key, forgetting the oldest; returns whether it was new."""
    if key in seen:
        seen.move_to_end(key)
        return False
    seen[key] = None
    if len(seen) > _REMEMBERED_MAX:
        seen.popitem(last=False)
    return True
