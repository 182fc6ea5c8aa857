"""The certificate files of a service: bad ones, and changed ones."""

from __future__ import annotations

import math
import resource
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from prometheus_client import CollectorRegistry

from certificates.authority import Authority, Issued
from foundation.certificates import (
    CertificateFiles,
    CertificateMetrics,
    TlsSettings,
    describe,
    is_loopback,
)
from foundation.errors import ConfigError
from foundation.identity import names_of
from foundation.settings import parse_settings
from tests.support.pki import DAYS, Pki, replace_pair, secret_lines, serial_of
from tests.support.unreadable import FAULTS, spoil_certificate


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
    """When a file ends, as the metric says."""
    return sample(registry, "edge_certificate_expiry_timestamp_seconds", file)


def lifetime(registry: CollectorRegistry, file: str) -> float:
    """How long what ends then is valid in all, as the metric says."""
    return sample(registry, "edge_certificate_lifetime_seconds", file)


def sample(registry: CollectorRegistry, name: str, file: str) -> float:
    """What a metric says of a file."""
    value = registry.get_sample_value(name, {"file": file})
    assert value is not None
    return value


def end_of(pem: bytes) -> float:
    """When a certificate ends."""
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()


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
    for file in ("ca", "certificate"):
        assert math.isnan(expiry(empty, file))
        assert math.isnan(lifetime(empty, file))
    files = files_of(pki, pki.device("plant/cam", days=1), registry)
    ends = files.credentials.chain[0].not_valid_after_utc.timestamp()
    assert expiry(registry, "certificate") == ends
    # With the hour by which it begins in the past.
    assert lifetime(registry, "certificate") == pytest.approx(25 * 3600, abs=2)
    assert expiry(registry, "ca") > ends
    assert lifetime(registry, "ca") == pytest.approx(10 * DAYS * 86_400 + 3600, abs=2)


def test_list_of_revoked_certificates_has_no_lifetime() -> None:
    """Only an end; when the next one comes is its authority's affair."""
    registry = CollectorRegistry()
    CertificateMetrics(registry, "escalator", "ca", "certificate", "revoked")
    revoked = {"file": "revoked"}
    ends = registry.get_sample_value("escalator_certificate_expiry_timestamp_seconds", revoked)
    assert ends is not None
    assert math.isnan(ends)
    assert registry.get_sample_value("escalator_certificate_lifetime_seconds", revoked) is None


def test_old_authority_beside_the_new_one_is_no_end(pki: Pki, tmp_path: Path) -> None:
    """As while one replaces the other: the file is of use for as long as the one that ends last."""
    old = Authority.create(tmp_path / "old", days=1).folder / "ca.crt"
    settings = pki.settings(pki.device("plant/cam"))
    new_pem, path = pki.ca.read_bytes(), tmp_path / "both.crt"
    for both in (old.read_bytes() + new_pem, new_pem + old.read_bytes()):
        path.write_bytes(both)
        metrics = CertificateMetrics(found := CollectorRegistry(), "edge", "ca", "certificate")
        CertificateFiles(TlsSettings.model_validate({**settings, "ca": str(path)}), metrics)
        assert expiry(found, "ca") == end_of(new_pem)
        assert lifetime(found, "ca") > 100 * 86_400


def test_chain_ends_with_the_first_of_it(pki: Pki, registry: CollectorRegistry) -> None:
    """An intermediate that ends before the certificate takes it along."""
    issued, shorter = pki.device("plant/cam"), pki.device("plant/other", days=1)
    issued.certificate.write_bytes(
        issued.certificate.read_bytes() + shorter.certificate.read_bytes()
    )
    files_of(pki, issued, registry)
    assert expiry(registry, "certificate") == end_of(shorter.certificate.read_bytes())
    assert lifetime(registry, "certificate") == pytest.approx(25 * 3600, abs=2)


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


def test_file_that_can_be_read_again_is_taken(pki: Pki, registry: CollectorRegistry) -> None:
    """Though nothing about it has changed; that it could not be read is counted once."""
    issued, renewed = pki.device("plant/cam"), pki.device("plant/cam", days=60)
    files = files_of(pki, issued, registry)
    before = files.credentials
    replace_pair(issued, renewed)
    # No file can be opened, by root neither.
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        assert not any(files.refresh() for _ in range(3))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert files.credentials is before
    assert registry.get_sample_value("edge_certificate_reload_errors_total") == 1
    assert files.refresh()
    assert files.credentials.key_pem == renewed.key.read_bytes()


def test_file_that_could_not_be_read_for_a_while_is_not_news(
    pki: Pki, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """An uplink would connect anew for nothing."""
    issued = pki.device("plant/cam")
    files = files_of(pki, issued, registry)
    issued.key.rename(tmp_path / "away")
    assert not files.refresh()
    (tmp_path / "away").rename(issued.key)
    assert not files.refresh()
    assert registry.get_sample_value("edge_certificate_reload_errors_total") == 1


def test_what_is_no_good_is_looked_at_once(pki: Pki, registry: CollectorRegistry) -> None:
    """However often it is asked: at every handshake it would take time, and fill the log."""
    asked: list[x509.Certificate] = []

    def check(certificate: x509.Certificate) -> None:
        asked.append(certificate)
        if len(asked) > 1:
            raise ConfigError("It will not do")

    issued = pki.device("plant/cam")
    metrics = CertificateMetrics(registry, "edge", "ca", "certificate")
    files = CertificateFiles(TlsSettings.model_validate(pki.settings(issued)), metrics, check)
    replace_pair(issued, pki.device("plant/cam"))
    assert not any(files.refresh() for _ in range(5))
    assert len(asked) == 2
    assert registry.get_sample_value("edge_certificate_reload_errors_total") == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_certificate_that_cannot_be_read_is_not_taken(
    pki: Pki, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """Whatever is raised about it ends no service; the file is named with a remedy."""
    issued = pki.device("plant/cam")
    settings = TlsSettings.model_validate(pki.settings(issued))
    metrics = CertificateMetrics(registry, "edge", "ca", "certificate")

    def check(certificate: x509.Certificate) -> None:
        names_of(certificate)

    files = CertificateFiles(settings, metrics, check)
    before = files.credentials
    issued.certificate.write_bytes(spoil_certificate(issued.certificate.read_bytes(), fault))
    assert not any(files.refresh() for _ in range(2))
    assert files.credentials is before
    assert registry.get_sample_value("edge_certificate_reload_errors_total") == 1
    assert f"{issued.certificate} (tls.certificate)" in caplog.text
    with pytest.raises(ConfigError) as caught:
        CertificateFiles(settings, metrics, check)
    assert caught.value.remedy


def test_certificate_without_a_readable_name_is_described(pki: Pki) -> None:
    """A log line about a client must not end the service."""
    issued = pki.device("plant/cam")
    spoilt = spoil_certificate(issued.certificate.read_bytes(), "name")
    described = describe(x509.load_pem_x509_certificate(spoilt))
    assert "cannot be read" in described
    assert serial_of(issued) in described


def test_certificate_that_is_over_is_taken_and_said(
    pki: Pki, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """A camera must start without its escalator."""
    files_of(pki, pki.device("plant/cam", days=1e-9), registry)
    assert "no longer valid" in caplog.text


@pytest.mark.parametrize("file", ["ca", "certificate"])
def test_what_is_over_does_not_replace_what_is_valid(
    pki: Pki,
    registry: CollectorRegistry,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    file: str,
) -> None:
    """Everyone would be refused, or this service by everyone; it is counted and said, once."""
    issued = pki.device("plant/cam")
    files = files_of(pki, issued, registry)
    before, ends = files.credentials, expiry(registry, file)
    if file == "ca":
        pki.ca.write_bytes(over := authority_that_is_over(tmp_path))
    else:
        replace_pair(issued, pki.device("plant/cam", days=1e-9))
    assert not any(files.refresh() for _ in range(3))
    assert files.credentials is before
    assert expiry(registry, file) == ends
    assert registry.get_sample_value("edge_certificate_reload_errors_total") == 1
    assert "are not taken" in caplog.text
    assert f"(tls.{file})" in caplog.text
    if file == "ca":
        pki.ca.write_bytes(before.ca_pem + over)
        assert files.refresh(), "one of them is valid"


def test_authorities_that_are_all_over_are_said(
    pki: Pki, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """Which file, and what to do; a service that can go on all the same may."""
    files_of(pki, issued := pki.device("plant/cam"), registry).check_authorities()
    pki.ca.write_bytes(authority_that_is_over(tmp_path))
    metrics = CertificateMetrics(CollectorRegistry(), "edge", "ca", "certificate")
    files = CertificateFiles(TlsSettings.model_validate(pki.settings(issued)), metrics)
    with pytest.raises(ConfigError, match=r"No authority in .*ca.crt \(tls.ca\)") as caught:
        files.check_authorities()
    assert "Hardcase development authority" in caught.value.message
    assert caught.value.remedy


def authority_that_is_over(folder: Path) -> bytes:
    """Its certificate."""
    return (Authority.create(folder / "over", days=1e-9).folder / "ca.crt").read_bytes()


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
