"""An organization's authority as others make them: RSA keys, and an intermediate that issues."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from certificates.authority import Issued

_DAY = timedelta(days=1)


class Organization:
    """Root and intermediate; certificates are written with the intermediate behind them.

    Attributes:
        root_pem: the root, as `ca` may have it.
        intermediate_pem: the intermediate, as `ca` may have it in the root's place or beside it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        root_key = rsa.generate_private_key(65537, 2048)
        self._key = rsa.generate_private_key(65537, 2048)
        root = _sign("Organization", root_key, "Organization", root_key, ca=True)
        self._intermediate = _sign("Issuing", self._key, "Organization", root_key, ca=True)
        self.root_pem = _pem(root)
        self.intermediate_pem = _pem(self._intermediate)

    def issue(self, name: str, sans: Sequence[x509.GeneralName]) -> Issued:
        """Makes a certificate without saying what it is for, as some authorities do."""
        key = rsa.generate_private_key(65537, 2048)
        certificate = _sign(name, key, "Issuing", self._key, ca=False, sans=sans)
        paths = Issued(self._folder / f"{name}.pem", self._folder / f"{name}-key.pem")
        paths.certificate.write_bytes(_pem(certificate) + self.intermediate_pem)
        paths.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        return paths

    def revoked_pem(self, *issued: Issued) -> bytes:
        """The intermediate's list of revoked certificates."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._intermediate.subject)
            .last_update(now - _DAY)
            .next_update(now + _DAY)
        )
        for one in issued:
            certificate = x509.load_pem_x509_certificate(one.certificate.read_bytes())
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(certificate.serial_number)
                .revocation_date(now)
                .build()
            )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _sign(
    name: str,
    key: rsa.RSAPrivateKey,
    issuer: str,
    issuer_key: rsa.RSAPrivateKey,
    *,
    ca: bool,
    sans: Sequence[x509.GeneralName] = (),
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + 30 * _DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
