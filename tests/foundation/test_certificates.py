"""The certificate files of a service: bad ones, and changed ones."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from prometheus_client import CollectorRegistry

from certificates.authority import Issued
from foundation.certificates import (
    CertificateFiles,
    CertificateMetrics,
    TlsSettings,
    is_loopback,
)
from foundation.errors import ConfigError
from foundation.settings import parse_settings
from tests.support.pki import Pki, replace_pair, secret_lines, serial_of


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    """An authority."""
    return Pki(tmp_path / "pki")


@pytest.fixture
def registry() -> CollectorRegistry:
    """Where the metrics are."""
    return CollectorRegistry()


def files_of(pki: Pki, issued: Issued, registry: CollectorRegistry) -> CertificateFiles:
    """A certificate in use."""
    settings = TlsSettings.model_validate(pki.settings(issued))
    return CertificateFiles(settings, CertificateMetrics(registry, "edge", "ca", "certificate"))


def expiry(registry: CollectorRegistry, file: str) -> float:
    """What the metric says of a file."""
    name = "edge_certificate_expiry_timestamp_seconds"
    value = registry.get_sample_value(name, {"file": file})
    assert value is not None
    return value


def private_pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    """A key as a file has it."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def test_expiry_is_a_metric(pki: Pki, registry: CollectorRegistry) -> None:
    """Of the certificate and of the authority; NaN before there are any."""
    CertificateMetrics(empty := CollectorRegistry(), "edge", "ca", "certificate")
    assert math.isnan(expiry(empty, "certificate"))
    files = files_of(pki, pki.device("plant/cam"), registry)
    ends = files.credentials.chain[0].not_valid_after_utc.timestamp()
    assert expiry(registry, "certificate") == ends
    assert expiry(registry, "ca") > ends


@pytest.mark.parametrize("key", ["ca", "certificate", "key"])
@pytest.mark.parametrize("damage", ["missing", "folder", "garbage", "empty"])
def test_bad_file_is_named_with_a_remedy(
    pki: Pki, registry: CollectorRegistry, tmp_path: Path, key: str, damage: str
) -> None:
    """Whichever it is, and however it is bad."""
    issued = pki.device("plant/cam")
    path = tmp_path / "bad.pem"
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(b"garbage\n" if damage == "garbage" else b"")
    settings = TlsSettings.model_validate({**pki.settings(issued), key: str(path)})
    metrics = CertificateMetrics(registry, "edge", "ca", "certificate")
    with pytest.raises(ConfigError) as caught:
        CertificateFiles(settings, metrics)
    assert str(path) in caught.value.message
    assert f"tls.{key}" in caught.value.message
    assert caught.value.remedy
    assert not any(line in str(caught.value) for line in secret_lines(issued))


def test_key_of_another_certificate_is_refused(pki: Pki, registry: CollectorRegistry) -> None:
    """Both files are named."""
    first, second = pki.device("plant/cam"), pki.device("plant/cam")
    mixed = Issued(first.certificate, second.key)
    with pytest.raises(ConfigError, match="is not the key of") as caught:
        files_of(pki, mixed, registry)
    assert str(first.certificate) in caught.value.message
    assert str(second.key) in caught.value.message


def test_encrypted_key_is_refused(pki: Pki, registry: CollectorRegistry) -> None:
    """There is nobody to type a password."""
    issued = pki.device("plant/cam")
    key = serialization.load_pem_private_key(issued.key.read_bytes(), None)
    issued.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    with pytest.raises(ConfigError, match="is encrypted"):
        files_of(pki, issued, registry)


@pytest.mark.parametrize("kind", ["ed25519", "short"])
def test_unsupported_key_is_refused(pki: Pki, registry: CollectorRegistry, kind: str) -> None:
    """At the start, not at the first handshake."""
    issued = pki.device("plant/cam")
    key = (
        ed25519.Ed25519PrivateKey.generate()
        if kind == "ed25519"
        else rsa.generate_private_key(65537, 1024)
    )
    issued.key.write_bytes(private_pem(key))
    with pytest.raises(ConfigError, match="not supported"):
        files_of(pki, issued, registry)


def test_changed_files_are_taken(pki: Pki, registry: CollectorRegistry) -> None:
    """Once, when they have changed."""
    issued, renewed = pki.device("plant/cam"), pki.device("plant/cam", days=60)
    files = files_of(pki, issued, registry)
    assert not files.refresh()
    replace_pair(issued, renewed)
    assert files.refresh()
    assert f"{files.credentials.chain[0].serial_number:x}" == serial_of(renewed)
    assert files.credentials.key_pem == renewed.key.read_bytes()
    assert not files.refresh()


def test_half_written_pair_is_not_taken(
    pki: Pki, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """The earlier one stays until the new one is whole; it is counted, and no key is logged."""
    issued, renewed = pki.device("plant/cam"), pki.device("plant/cam")
    files = files_of(pki, issued, registry)
    before = files.credentials
    secrets = secret_lines(issued) + secret_lines(renewed)
    issued.key.write_bytes(renewed.key.read_bytes()[:40])
    assert not files.refresh()
    issued.key.write_bytes(renewed.key.read_bytes())
    assert not files.refresh()
    assert files.credentials is before
    assert registry.get_sample_value("edge_certificate_reload_errors_total") == 2
    issued.certificate.write_bytes(renewed.certificate.read_bytes())
    assert files.refresh()
    assert "are not taken" in caplog.text
    assert not any(line in caplog.text for line in secrets)


def test_certificate_that_is_over_is_taken_and_said(
    pki: Pki, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """A camera must start without its escalator."""
    files_of(pki, pki.device("plant/cam", days=1e-9), registry)
    assert "no longer valid" in caplog.text


@pytest.mark.parametrize("given", ["ca", "certificate", "key"])
def test_files_are_given_all_or_none(given: str) -> None:
    """What is missing is named."""
    missing = sorted({"ca", "certificate", "key"} - {given})
    with pytest.raises(ConfigError, match=" and ".join(missing)):
        parse_settings({given: "some.pem"}, TlsSettings, origin="test")
    assert not TlsSettings().given


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("[::]", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
    ],
)
def test_loopback_is_told_apart(host: str, loopback: bool) -> None:
    """Names but localhost may lead anywhere."""
    assert is_loopback(host) is loopback
