"""Certificates for tests, made by the code behind `hardcase-certs`."""

from __future__ import annotations

from pathlib import Path

import grpc
from cryptography import x509

from certificates.authority import Authority, Issued, read_certificate
from foundation.identity import DeviceName

DAYS = 30.0


class _Foreign(DeviceName):
    """A name of another scheme, as other systems write theirs into certificates."""

    @property
    def uri(self) -> str:
        """How a certificate carries it."""
        return f"spiffe://{self.site}/{self.camera}"


class Pki:
    """An authority in a folder of its own, and what it made.

    Args:
        folder: where everything is written; it must not hold an authority yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._authority = Authority.create(folder, days=10 * DAYS)
        self._count = 0

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.folder / "ca.crt"

    @property
    def revoked(self) -> Path:
        """The list of revoked certificates."""
        return self.folder / "revoked.crl"

    def device(self, *names: str, days: float = DAYS) -> Issued:
        """A device's certificate; names as site/camera, or site/* for every camera."""
        parts = [name.split("/", 1) for name in names]
        paths = self._paths()
        self._authority.issue_device(
            [DeviceName(site, None if camera == "*" else camera) for site, camera in parts],
            paths,
            days=days,
        )
        return paths

    def nameless(self) -> Issued:
        """A client's certificate with a URI that names no device."""
        paths = self._paths()
        self._authority.issue_device([_Foreign("plant", "cam")], paths, days=DAYS)
        return paths

    def server(self, *hosts: str, days: float = DAYS) -> Issued:
        """An escalator's certificate."""
        paths = self._paths()
        self._authority.issue_server(hosts or ("localhost",), paths, days=days)
        return paths

    def revoke(self, issued: Issued) -> None:
        """Takes a certificate back."""
        self._authority.revoke(read_certificate(issued.certificate))

    def settings(self, issued: Issued) -> dict[str, str]:
        """The section `tls` of settings that use a certificate."""
        return {
            "ca": str(self.ca),
            "certificate": str(issued.certificate),
            "key": str(issued.key),
        }

    def channel_credentials(self, issued: Issued | None) -> grpc.ChannelCredentials:
        """What a client connects with; None for no certificate."""
        if issued is None:
            return grpc.ssl_channel_credentials(self.ca.read_bytes())
        return grpc.ssl_channel_credentials(
            self.ca.read_bytes(), issued.key.read_bytes(), issued.certificate.read_bytes()
        )

    def server_credentials(self, issued: Issued) -> grpc.ServerCredentials:
        """What a server listens with, asking for certificates of this authority."""
        pair = (issued.key.read_bytes(), issued.certificate.read_bytes())
        return grpc.ssl_server_credentials([pair], self.ca.read_bytes(), True)

    def _paths(self) -> Issued:
        self._count += 1
        name = f"made-{self._count}"
        return Issued(self.folder / f"{name}.crt", self.folder / f"{name}.key")


def replace_pair(target: Issued, source: Issued) -> None:
    """Puts another certificate and key where a service looks for its own, key first."""
    for old, new in ((target.key, source.key), (target.certificate, source.certificate)):
        partial = old.with_suffix(".partial")
        partial.write_bytes(new.read_bytes())
        partial.replace(old)


def serial_of(issued: Issued) -> str:
    """A certificate's serial number as the logs write it."""
    certificate = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
    return f"{certificate.serial_number:x}"


def secret_lines(issued: Issued) -> list[str]:
    """The lines of a key that must show nowhere."""
    return [line for line in issued.key.read_text().splitlines() if "-----" not in line]
