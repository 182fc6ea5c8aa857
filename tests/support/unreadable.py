"""Certificates and lists of which `cryptography` cannot read a part, by changes of single bytes."""

from __future__ import annotations

import base64
import re

from cryptography import x509
from cryptography.hazmat.primitives import serialization

_DER = serialization.Encoding.DER
_P256, _NO_CURVE = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030163")
_KEY_PURPOSE, _OTHER_NAMES = bytes.fromhex("0603551d25"), bytes.fromhex("0603551d11")
_LIST_VERSION = (b"\x02\x01\x01", b"\x02\x01\x07")
_COMMON_NAME = bytes.fromhex("06035504030c")

_CHANGES = {
    "version": (bytes.fromhex("a003020102"), bytes.fromhex("a003020105")),
    "curve": (_P256, _NO_CURVE),
    "extension twice": (_KEY_PURPOSE, _OTHER_NAMES),
}
FAULTS = (*_CHANGES, "name")
"""What `spoil_certificate` can do to a device's certificate; an authority has no key purpose to
turn into an extension that it has twice."""


def spoil_certificate(pem: bytes, fault: str) -> bytes:
    """A certificate of `hardcase-certs` with a fault in it; its signature is none any more."""
    der = x509.load_pem_x509_certificate(pem).public_bytes(_DER)
    spoilt = _no_utf8(der) if fault == "name" else der.replace(*_CHANGES[fault])
    assert spoilt != der
    return _pem(spoilt, "CERTIFICATE")


def spoil_list(pem: bytes, fault: str) -> bytes:
    """A list of revoked certificates with a fault in it: `version` or `name`."""
    der = x509.load_pem_x509_crl(pem).public_bytes(_DER)
    spoilt = _no_utf8(der) if fault == "name" else der.replace(*_LIST_VERSION, 1)
    assert spoilt != der
    return _pem(spoilt, "X509 CRL")


def _no_utf8(der: bytes) -> bytes:
    spoilt = bytearray(der)
    for found in re.finditer(re.escape(_COMMON_NAME) + b".", der, re.DOTALL):
        spoilt[found.end()] = 0xFF
    return bytes(spoilt)


def _pem(der: bytes, what: str) -> bytes:
    content = base64.encodebytes(der).decode()
    return f"-----BEGIN {what}-----\n{content}-----END {what}-----\n".encode()
