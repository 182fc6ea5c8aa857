"""The files by which a service proves who it is, read again when they change.

Owns reading them, and the metrics about them. Invariants: what is in use always belongs together,
certificate and key; a new set that cannot be read, does not belong together or is over already is
counted and said, and the earlier one stays in use. Nothing that is logged or raised holds a key.
Thread-safe: gRPC asks from threads of its own.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import threading
from collections.abc import Callable, Mapping
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
_USABLE_KEYS = f"Use the elliptic curve P-256 or P-384, or RSA of {_RSA_BITS_MIN} bits or more"
_CERTIFICATES = ("ca", "certificate")
"""The files that hold certificates, which alone have a lifetime."""

UNREADABLE: tuple[type[Exception], ...] = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises about certificates and lists that it cannot read; some of it only when
the part in question is asked for."""


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
        expiry: by file, until when it is of use; of a list of revoked ones, when the next is due.
        lifetime: by file, how long the certificate that `expiry` speaks of is valid in all.
        reload_errors: changed files that were not taken.
        plain_text: 1 where the connection is neither encrypted nor authenticated, off loopback.
    """

    def __init__(self, registry: CollectorRegistry, prefix: str, *files: str) -> None:
        expiry = Gauge(
            f"{prefix}_certificate_expiry_timestamp_seconds",
            "When a file ceases to be of use: certificate with the first of its chain to end, ca "
            "with the last of its authorities; NaN where there is no file.",
            ["file"],
            registry=registry,
        )
        lifetime = Gauge(
            f"{prefix}_certificate_lifetime_seconds",
            "From beginning to end of the certificate that the expiry speaks of; NaN where there "
            "is no file.",
            ["file"],
            registry=registry,
        )
        self.expiry = {file: expiry.labels(file) for file in files}
        self.lifetime = {file: lifetime.labels(file) for file in files if file in _CERTIFICATES}
        for gauge in (*self.expiry.values(), *self.lifetime.values()):
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

    def note_certificate(self, file: str, certificate: x509.Certificate) -> None:
        """Says of a file how long it is of use, by the certificate in it that decides about that.

        Args:
            file: `ca` or `certificate`.
            certificate: With whose end the file ceases to be of use.
        """
        ends, begins = certificate.not_valid_after_utc, certificate.not_valid_before_utc
        self.expiry[file].set(ends.timestamp())
        self.lifetime[file].set((ends - begins).total_seconds())


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
    """Tells whether files have changed, by what they hold.

    Not by what the file system says of them, which does not tell when one can be read again. And so
    what is no good is looked at once, not at every handshake: an RSA key takes a tenth of a second.

    Args:
        files: paths by the settings that name them.

    Attributes:
        contents: what they held when all could last be read, in order; empty before.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files
        self._error = ""
        self.contents: tuple[bytes, ...] = ()

    def changed(self) -> bool:
        """Reads them; whether any differs from the last time, as the first time they do.

        Raises:
            ConfigError: one cannot be read; once, until they can or another reason prevents it.
        """
        try:
            now = tuple(read_file(path, key) for key, path in self._files.items())
        except ConfigError as error:
            if str(error) == self._error:
                return False
            self._error = str(error)
            raise
        self._error = ""
        changed, self.contents = now != self.contents, now
        return changed


class CertificateFiles:
    """The credentials of a service, as its files have them.

    Args:
        settings: where the files are.
        metrics: where expiry and failed reloads go.
        check: called with the own certificate; raises `ConfigError` where it will not do, or
            what reading it raises, which becomes one.

    Raises:
        ConfigError: a file cannot be read, or they do not belong together or will not do.
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
        self._watch = FileWatch(
            {
                "tls.ca": settings.ca,
                "tls.certificate": settings.certificate,
                "tls.key": settings.key,
            }
        )
        self._watch.changed()
        self._credentials = self._parse()
        try:
            self._check_own_end(self._credentials)
        except ConfigError as error:
            log.error("%s", error)
        self._note_ends(self._credentials)

    @property
    def credentials(self) -> Credentials:
        """What is in use; `refresh` renews it."""
        return self._credentials

    def check_authorities(self) -> None:
        """Checks that somebody can be believed.

        Raises:
            ConfigError: every authority is over, so the other side is refused whoever it is.
        """
        self._check_authorities_end(self._credentials)

    def refresh(self) -> bool:
        """Reads the files if they have changed; returns whether there is something new to use."""
        with self._lock:
            try:
                if not self._watch.changed():
                    return False
                found = self._parse()
                self._check_own_end(found)
                self._check_authorities_end(found)
            except ConfigError as error:
                self._metrics.reload_errors.inc()
                log.error("changed certificates are not taken, the earlier ones stay: %s", error)
                return False
            self._credentials = found
            self._note_ends(found)
            log.info("certificates were read anew: %s", describe(found.chain[0]))
            return True

    def _parse(self) -> Credentials:
        settings = self._settings
        ca_pem, chain_pem, key_pem = self._watch.contents
        authorities = _certificates(ca_pem, settings.ca, "tls.ca")
        chain = _certificates(chain_pem, settings.certificate, "tls.certificate")
        _check_pair(chain[0], key_pem, settings)
        self._check_own(chain[0])
        return Credentials(ca_pem, chain_pem, key_pem, authorities, chain)

    def _check_own_end(self, found: Credentials) -> None:
        own = found.chain[0]
        if _end(own) < datetime.now(UTC):
            raise ConfigError(
                f"The certificate in {self._settings.certificate} (tls.certificate) is no longer "
                f"valid and will be refused: {describe(own)}",
                remedy="Have it issued anew, and check the clock of this machine",
            )

    def _check_authorities_end(self, found: Credentials) -> None:
        last = max(found.authorities, key=_end)
        if _end(last) < datetime.now(UTC):
            raise ConfigError(
                f"No authority in {self._settings.ca} (tls.ca) is valid any longer, so everyone is "
                f"refused; the last was {describe(last)}",
                remedy="Give the authority's present certificate, and check the clock of this "
                "machine",
            )

    def _note_ends(self, now: Credentials) -> None:
        # A chain is worth what the first of it that ends is worth. Authorities replace each other
        # side by side: an old one may end while the new one is there.
        self._metrics.note_certificate("ca", max(now.authorities, key=_end))
        self._metrics.note_certificate("certificate", min(now.chain, key=_end))

    def _check_own(self, certificate: x509.Certificate) -> None:
        try:
            if self._check is not None:
                self._check(certificate)
        except UNREADABLE as error:
            raise ConfigError(
                f"{self._settings.certificate} (tls.certificate) has extensions that cannot "
                f"be read: {error}",
                remedy="Have it issued anew; `hardcase-certs` makes one for trials",
            ) from error


def describe(certificate: x509.Certificate) -> str:
    """A certificate for a log: subject, serial number and end; nothing that is secret."""
    try:
        subject = certificate.subject.rfc4514_string()
    except UNREADABLE:
        subject = "of a subject that cannot be read"
    return (
        f"{subject}, serial {certificate.serial_number:x}, "
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
        certificates = tuple(x509.load_pem_x509_certificates(pem))
        for one in certificates:
            _ = one.subject, one.issuer  # which are parsed when they are asked for
    except UNREADABLE as error:
        raise ConfigError(
            f"{path} ({key}) holds no certificate in PEM form, or one that is damaged",
            remedy="Give a file that begins with BEGIN CERTIFICATE, of X.509 version 3",
        ) from error
    return certificates


def _end(certificate: x509.Certificate) -> datetime:
    return certificate.not_valid_after_utc


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
            remedy=_USABLE_KEYS,
        )
    try:
        belongs = key.public_key() == certificate.public_key()
    except UNREADABLE as error:
        raise ConfigError(
            f"{settings.certificate} (tls.certificate) is for a key that is damaged or of a kind "
            "that is not supported",
            remedy=_USABLE_KEYS,
        ) from error
    if not belongs:
        raise ConfigError(
            f"{settings.key} (tls.key) is not the key of {settings.certificate} (tls.certificate)",
            remedy="Give the two files that were made together",
        )
