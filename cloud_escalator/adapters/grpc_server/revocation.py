"""Which certificates are no longer believed: a list that the authority has signed.

Owns the file of revoked certificates (CRL, PEM, one list or several). Invariants: a list is used
only if one of the authorities has signed it; one that cannot be read or is not theirs is counted
and said, and the earlier one stays in use. A list whose time has come for the next stays in use
too, and its metric says so: to turn everybody away would help no one. Thread-safe.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from foundation.certificates import CertificateMetrics, FileWatch, read_file
from foundation.errors import ConfigError

log = logging.getLogger(__name__)

_BEGIN = b"-----BEGIN X509 CRL-----"


class RevocationList:
    """The revoked certificates; none where no file is given.

    Args:
        path: of the file; may be empty.
        authorities: who may sign it.
        metrics: where its end and failed reloads go.

    Raises:
        ConfigError: the file cannot be read, or is not the authorities'.
    """

    def __init__(
        self, path: str, authorities: Sequence[x509.Certificate], metrics: CertificateMetrics
    ) -> None:
        self._path = path
        self._metrics = metrics
        self._lock = threading.Lock()
        self._revoked: frozenset[tuple[x509.Name, int]] = frozenset()
        self._watch = FileWatch(Path(path))
        self._watch.changed()
        if path:
            self._revoked = self._read(authorities)

    def holds(self, certificate: x509.Certificate) -> bool:
        """Whether the certificate's authority has revoked it."""
        return (certificate.issuer, certificate.serial_number) in self._revoked

    def refresh(self, authorities: Sequence[x509.Certificate]) -> None:
        """Reads the file again if it has changed."""
        with self._lock:
            if not self._path or not self._watch.changed():
                return
            try:
                self._revoked = self._read(authorities)
            except ConfigError as error:
                self._metrics.reload_errors.inc()
                log.error("the changed list of revoked certificates is not taken: %s", error)
                return
            log.info("the list of revoked certificates was read anew: %d", len(self._revoked))

    def _read(self, authorities: Sequence[x509.Certificate]) -> frozenset[tuple[x509.Name, int]]:
        parts = read_file(self._path, "tls.revoked").split(_BEGIN)[1:]
        try:
            lists = [x509.load_pem_x509_crl(_BEGIN + part) for part in parts]
        except ValueError as error:
            raise self._no_list("is not a list of revoked certificates in PEM form") from error
        if not lists:
            raise self._no_list("holds no list of revoked certificates in PEM form")
        for one in lists:
            if not any(_has_signed(authority, one) for authority in authorities):
                raise self._no_list(
                    f"holds a list that no authority in tls.ca signed: {one.issuer}"
                )
        ends = [one.next_update_utc.timestamp() for one in lists if one.next_update_utc]
        self._metrics.expiry["revoked"].set(min(ends, default=float("nan")))
        return frozenset((one.issuer, entry.serial_number) for one in lists for entry in one)

    def _no_list(self, what: str) -> ConfigError:
        return ConfigError(
            f"{self._path} (tls.revoked) {what}",
            remedy="Give the authority's list, BEGIN X509 CRL; `hardcase-certs revoke` writes one",
        )


def _has_signed(authority: x509.Certificate, revoked: x509.CertificateRevocationList) -> bool:
    if authority.subject != revoked.issuer:
        return False
    try:
        return revoked.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False
