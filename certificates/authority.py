"""A small authority: makes and revokes certificates in a folder of its own.

Owns the form of what is made: elliptic curve P-256, a server's certificate usable by servers only
and a device's by clients only, so that neither can stand in for the other. Keys are written for
their owner alone; nothing is ever overwritten but the list of revoked certificates.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from foundation.errors import ConfigError
from foundation.identity import DeviceName

CA_CERTIFICATE, CA_KEY, REVOKED = "ca.crt", "ca.key", "revoked.crl"
_COMMON_NAME_LENGTH_MAX = 64
_NO_AUTHORITY = "Make an authority with `hardcase-certs init`, or give its folder by --ca"
_CLOCK_SKEW = timedelta(hours=1)
"""Certificates begin so much in the past, for machines whose clocks are behind."""


@dataclass(frozen=True, slots=True)
class Issued:
    """Where a certificate and its key were written."""

    certificate: Path
    key: Path


class Authority:
    """The authority of one folder: `ca.crt`, `ca.key` and `revoked.crl`."""

    def __init__(
        self, folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        self.folder = folder
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, folder: Path, *, days: float) -> Self:
        """Makes an authority and an empty list of revoked certificates.

        Raises:
            ConfigError: there is one already, or the folder cannot be written.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Hardcase development authority")
        builder = (
            _builder(name, name, key.public_key(), _ends_after(days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        certificate = builder.sign(key, hashes.SHA256())
        paths = Issued(folder / CA_CERTIFICATE, folder / CA_KEY)
        _write_pair(paths, certificate, key, remedy="Use it, or give another folder")
        authority = cls(folder, certificate, key)
        authority._write_revoked([])
        return authority

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Opens the authority of a folder.

        Raises:
            ConfigError: there is none, or its files are damaged.
        """
        certificate = read_certificate(folder / CA_CERTIFICATE, remedy=_NO_AUTHORITY)
        try:
            key = serialization.load_pem_private_key((folder / CA_KEY).read_bytes(), None)
        except (OSError, ValueError, TypeError):
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(
                f"{folder / CA_KEY} holds no key of an authority",
                remedy=_NO_AUTHORITY,
            )
        return cls(folder, certificate, key)

    def issue_device(self, names: Sequence[DeviceName], paths: Issued, *, days: float) -> None:
        """Makes a certificate for a device that may speak under these names.

        Raises:
            ConfigError: a file exists already, or cannot be written.
        """
        sans = [x509.UniformResourceIdentifier(name.uri) for name in names]
        common_name = names[0].uri.removeprefix("hardcase://")
        self._issue(common_name, sans, ExtendedKeyUsageOID.CLIENT_AUTH, paths, days)

    def issue_server(self, hosts: Sequence[str], paths: Issued, *, days: float) -> None:
        """Makes a certificate for an escalator that is reached by these host names or addresses.

        Raises:
            ConfigError: a host is none, or a file exists already or cannot be written.
        """
        sans = [_host_name(host) for host in hosts]
        self._issue(hosts[0], sans, ExtendedKeyUsageOID.SERVER_AUTH, paths, days)

    def revoke(self, certificate: x509.Certificate) -> None:
        """Adds a certificate to the list of revoked ones.

        Raises:
            ConfigError: another authority made it, or the list cannot be read or written.
        """
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise ConfigError(
                f"The authority in {self.folder} did not make this certificate",
                remedy="Give the folder of the authority that did by --ca",
            ) from error
        path = self.folder / REVOKED
        try:
            revoked = list(x509.load_pem_x509_crl(path.read_bytes()))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{path} is not the list of revoked certificates", remedy="Restore it"
            ) from error
        if certificate.serial_number not in {entry.serial_number for entry in revoked}:
            entry = (
                x509.RevokedCertificateBuilder()
                .serial_number(certificate.serial_number)
                .revocation_date(datetime.now(UTC))
                .build()
            )
            self._write_revoked([*revoked, entry])

    def _issue(
        self,
        common_name: str,
        sans: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        paths: Issued,
        days: float,
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        ends = min(_ends_after(days), self._certificate.not_valid_after_utc)
        name = _name(common_name[:_COMMON_NAME_LENGTH_MAX])
        builder = (
            _builder(name, self._certificate.subject, key.public_key(), ends)
            .add_extension(x509.SubjectAlternativeName(sans), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            # Tells apart authorities of one name, as two of this program's are.
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False
            )
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        _write_pair(paths, certificate, key, remedy="Remove it, or give another --out")

    def _write_revoked(self, entries: Sequence[x509.RevokedCertificate]) -> None:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - _CLOCK_SKEW)
            .next_update(self._certificate.not_valid_after_utc)
        )
        for entry in entries:
            builder = builder.add_revoked_certificate(entry)
        content = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        # Whole or not at all: a running escalator may be reading it.
        path = self.folder / REVOKED
        partial = path.with_suffix(".partial")
        try:
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            raise ConfigError(f"Cannot write {path}: {error.strerror}") from error


def read_certificate(
    path: Path, *, remedy: str = "Give the path of a certificate"
) -> x509.Certificate:
    """The first certificate of a PEM file.

    Raises:
        ConfigError: it cannot be read, or holds none.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}", remedy=remedy) from error
    except ValueError as error:
        raise ConfigError(f"{path} holds no certificate in PEM form", remedy=remedy) from error


def _write_pair(
    paths: Issued,
    certificate: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    *,
    remedy: str,
) -> None:
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for path in (paths.certificate, paths.key):
        if path.exists():
            raise ConfigError(f"{path} exists already", remedy=remedy)
    _write_new(paths.key, key_pem, 0o600, remedy)
    _write_new(
        paths.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644, remedy
    )


def _write_new(path: Path, content: bytes, mode: int, remedy: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror}", remedy=remedy) from error


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, ends: datetime
) -> x509.CertificateBuilder:
    begins = min(datetime.now(UTC) - _CLOCK_SKEW, ends - timedelta(seconds=1))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise ConfigError(f"{host!r} is neither a host name nor an address") from error


def _ends_after(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
