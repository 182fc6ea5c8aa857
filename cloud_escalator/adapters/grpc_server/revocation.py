"""Which certificates are no longer believed: a list that the authority has signed.

Owns the file of revoked certificates (CRL, PEM, one list or several). Invariants: a list is used
only if one of the authorities has signed it; one that cannot be read or is not theirs is counted
and said, and the earlier one stays in use. When the authorities change it is judged anew, as it may
have come before the authority that signed it. A list whose time has come for the next stays in use
too, and its metric says so: to turn everybody away would help no one. Thread-safe.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Sequence

from cryptography import x509

from foundation.certificates import UNREADABLE, CertificateMetrics, FileWatch
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
        self._authorities = tuple(authorities)
        self._watch = FileWatch({"tls.revoked": path})
        if path:
            self._watch.changed()
            self._revoked = self._parse()

    def holds(self, certificate: x509.Certificate) -> bool:
        """Whether the certificate's authority has revoked it."""
        return (certificate.issuer, certificate.serial_number) in self._revoked

    def refresh(self, authorities: Sequence[x509.Certificate]) -> None:
        """Reads the file again if it or the authorities have changed."""
        if not self._path:
            return
        with self._lock:
            try:
                if not self._watch.changed() and tuple(authorities) == self._authorities:
                    return
                self._authorities = tuple(authorities)
                self._revoked = self._parse()
            except ConfigError as error:
                self._metrics.reload_errors.inc()
                log.error(
                    "a list of revoked certificates is not taken, the earlier one stays: %s", error
                )
                return
            log.info("the list of revoked certificates was read anew: %d", len(self._revoked))

    def _parse(self) -> frozenset[tuple[x509.Name, int]]:
        (content,) = self._watch.contents
        try:
            lists = [x509.load_pem_x509_crl(_BEGIN + part) for part in content.split(_BEGIN)[1:]]
            issuers = [one.issuer for one in lists]
        except UNREADABLE as error:
            raise self._no_list("is not a list of revoked certificates in PEM form") from error
        if not lists:
            raise self._no_list("holds no list of revoked certificates in PEM form")
        for one, issuer in zip(lists, issuers, strict=True):
            if not any(_has_signed(authority, one) for authority in self._authorities):
                raise self._no_list(f"holds a list that no authority in tls.ca signed: {issuer}")
        ends = [one.next_update_utc.timestamp() for one in lists if one.next_update_utc]
        self._metrics.expiry["revoked"].set(min(ends, default=float("nan")))
        return frozenset((one.issuer, entry.serial_number) for one in lists for entry in one)

    def _no_list(self, what: str) -> ConfigError:
        return ConfigError(
            f"{self._path} (tls.revoked) {what}",
            remedy="Give the authority's list, BEGIN X509 CRL; `hardcase-certs revoke` writes one",
        )


def _has_signed(authority: x509.Certificate, revoked: x509.CertificateRevocationList) -> bool:
    with contextlib.suppress(TypeError, *UNREADABLE):
        return authority.subject == revoked.issuer and revoked.is_signature_valid(
            authority.public_key()  # type: ignore[arg-type]
        )
    return False
