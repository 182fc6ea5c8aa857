"""The files by which a service proves who it is, read again when they change.

Owns reading them, and the metrics about them. Invariants: what is in use always belongs together,
certificate and key; a new set that cannot be read or does not belong together is counted and said,
and the earlier one stays in use. Nothing that is logged or raised holds a key. Thread-safe: gRPC
asks from threads of its own.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from prometheus_client import CollectorRegistry, Counter, Gauge
from pydantic import model_validator

from foundation.errors import ConfigError
from foundation.settings import Settings

log = logging.getLogger(__name__)

_FILE_BYTES_MAX = 1 << 20
_RSA_BITS_MIN = 2048

_Signature = tuple[tuple[int, int, int] | None, ...]


class TlsSettings(Settings):
    """The files of mutual TLS; all or none. They are read again when they change."""

    ca: str = ""
    """Path of a PEM file with the authorities by one of which the other side must be certified."""
    certificate: str = ""
    """Path of a PEM file with the own certificate, and after it those between it and the
    authority."""
    key: str = ""
    """Path of a PEM file with the certificate's private key, not encrypted."""

    @property
    def given(self) -> bool:
        """Whether there is anything to prove oneself with."""
        return bool(self.ca)

    @model_validator(mode="after")
    def _check_all_or_none(self) -> Self:
        files = {"ca": self.ca, "certificate": self.certificate, "key": self.key}
        missing = [name for name, path in files.items() if not path]
        if 0 < len(missing) < len(files):
            raise ValueError(f"{' and '.join(missing)} must be given as well")
        return self


def is_loopback(host: str) -> bool:
    """Whether an address cannot be reached from outside this machine; names but localhost are."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class CertificateMetrics:
    """The metrics of a service's identity, with its prefix.

    Attributes:
        expiry: by file, the instant from which something in it is no longer valid.
        reload_errors: changed files that were not taken.
        plain_text: 1 where the connection is neither encrypted nor authenticated, off loopback.
    """

    def __init__(self, registry: CollectorRegistry, prefix: str, *files: str) -> None:
        expiry = Gauge(
            f"{prefix}_certificate_expiry_timestamp_seconds",
            "When the first of what a file holds ceases to be valid; NaN where there is no file.",
            ["file"],
            registry=registry,
        )
        self.expiry = {file: expiry.labels(file) for file in files}
        for gauge in self.expiry.values():
            gauge.set(math.nan)
        self.reload_errors = Counter(
            f"{prefix}_certificate_reload_errors",
            "Changed certificate files that could not be taken; the earlier ones stay in use.",
            registry=registry,
        )
        self.plain_text = Gauge(
            f"{prefix}_plain_text",
            "1 where the connection leaves this machine neither encrypted nor authenticated.",
            registry=registry,
        )


@dataclass(frozen=True, slots=True)
class Credentials:
    """One reading of the three files, which belong together.

    Attributes:
        ca_pem: the authorities, as read.
        chain_pem: the own certificate and those above it, as read.
        key_pem: the private key, as read.
        authorities: the parsed authorities.
        chain: the parsed chain, the own certificate first.
    """

    ca_pem: bytes
    chain_pem: bytes
    key_pem: bytes = field(repr=False)
    authorities: tuple[x509.Certificate, ...]
    chain: tuple[x509.Certificate, ...]


class FileWatch:
    """Tells whether files have changed, by what the file system says of them."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._seen: _Signature = ()

    def changed(self) -> bool:
        """Whether any of them differs from the last time; the first time, yes."""
        now = tuple(_signature(path) for path in self._paths)
        changed, self._seen = now != self._seen, now
        return changed


class CertificateFiles:
    """The credentials of a service, as its files have them.

    Args:
        settings: where the files are.
        metrics: where expiry and failed reloads go.
        check: called with the own certificate; raises `ConfigError` where it will not do.
    """

    def __init__(
        self,
        settings: TlsSettings,
        metrics: CertificateMetrics,
        check: Callable[[x509.Certificate], None] | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._check = check
        self._lock = threading.Lock()
        self._watch = FileWatch(*map(Path, (settings.ca, settings.certificate, settings.key)))
        self._watch.changed()
        self._credentials = self._read()

    @property
    def credentials(self) -> Credentials:
        """What is in use; `refresh` renews it."""
        return self._credentials

    def refresh(self) -> bool:
        """Reads the files if they have changed; returns whether there is something new to use."""
        with self._lock:
            if not self._watch.changed():
                return False
            try:
                self._credentials = self._read()
            except ConfigError as error:
                self._metrics.reload_errors.inc()
                log.error("changed certificates are not taken, the earlier ones stay: %s", error)
                return False
            log.info("certificates were read anew: %s", describe(self._credentials.chain[0]))
            return True

    def _read(self) -> Credentials:
        settings = self._settings
        ca_pem = read_file(settings.ca, "tls.ca")
        chain_pem = read_file(settings.certificate, "tls.certificate")
        key_pem = read_file(settings.key, "tls.key")
        authorities = _certificates(ca_pem, settings.ca, "tls.ca")
        chain = _certificates(chain_pem, settings.certificate, "tls.certificate")
        _check_pair(chain[0], key_pem, settings)
        if self._check is not None:
            self._check(chain[0])
        if chain[0].not_valid_after_utc < datetime.now(UTC):
            log.error(
                "the certificate in %s is no longer valid and will be refused: %s",
                settings.certificate,
                describe(chain[0]),
            )
        for file, certificates in (("ca", authorities), ("certificate", chain)):
            ends = min(one.not_valid_after_utc for one in certificates)
            self._metrics.expiry[file].set(ends.timestamp())
        return Credentials(ca_pem, chain_pem, key_pem, authorities, chain)


def describe(certificate: x509.Certificate) -> str:
    """A certificate for a log: subject, serial number and end; nothing that is secret."""
    return (
        f"{certificate.subject.rfc4514_string()}, serial {certificate.serial_number:x}, "
        f"valid until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    )


def read_file(path: str, key: str) -> bytes:
    """The bytes of a file that a setting names.

    Raises:
        ConfigError: it cannot be read, or is larger than any file of certificates.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(
            f"Cannot read {path} ({key}): {error.strerror}",
            remedy="Make it readable for the user of this service; `hardcase-certs` makes one",
        ) from error
    if len(content) > _FILE_BYTES_MAX:
        raise ConfigError(f"{path} ({key}) is larger than {_FILE_BYTES_MAX} bytes")
    return content


def _certificates(pem: bytes, path: str, key: str) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError as error:
        raise ConfigError(
            f"{path} ({key}) holds no certificate in PEM form",
            remedy="Give a file that begins with BEGIN CERTIFICATE",
        ) from error


def _check_pair(certificate: x509.Certificate, key_pem: bytes, settings: TlsSettings) -> None:
    """Checks that the key is the certificate's, and of a kind that TLS takes here."""
    # What the library says of a key is not passed on: it might quote it.
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except TypeError:
        raise ConfigError(
            f"{settings.key} (tls.key) is encrypted",
            remedy="Give an unencrypted key that only the user of this service can read",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(
            f"{settings.key} (tls.key) holds no private key in PEM form",
            remedy="Give a file that begins with BEGIN PRIVATE KEY",
        ) from None
    if isinstance(key, ec.EllipticCurvePrivateKey):
        usable = isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    else:
        usable = isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _RSA_BITS_MIN
    if not usable:
        raise ConfigError(
            f"{settings.key} (tls.key) is a key of a kind that is not supported",
            remedy=f"Use the elliptic curve P-256 or P-384, or RSA of {_RSA_BITS_MIN} bits or more",
        )
    if key.public_key() != certificate.public_key():
        raise ConfigError(
            f"{settings.key} (tls.key) is not the key of {settings.certificate} (tls.certificate)",
            remedy="Give the two files that were made together",
        )


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
