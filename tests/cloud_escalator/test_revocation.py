"""Lists of revoked certificates that come before their authority, or cannot be read."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from cryptography import x509
from prometheus_client import CollectorRegistry

from certificates.authority import Issued, read_certificate
from cloud_escalator.adapters.grpc_server.revocation import RevocationList
from foundation.certificates import CertificateMetrics
from tests.cloud_escalator.client import scrape_until
from tests.cloud_escalator.conftest import Configure
from tests.cloud_escalator.service import serving
from tests.cloud_escalator.test_trust import RELOAD_ERRORS, connect_with
from tests.support.pki import Pki, replace_pair
from tests.support.unreadable import spoil_certificate, spoil_list


@pytest.fixture
def old(tmp_path: Path) -> Pki:
    """The authority that is replaced."""
    return Pki(tmp_path / "old")


@pytest.fixture
def new(tmp_path: Path) -> Pki:
    """The authority that replaces it."""
    return Pki(tmp_path / "new")


@pytest.fixture
def registry() -> CollectorRegistry:
    """Where the metrics are."""
    return CollectorRegistry()


def list_of(pki: Pki, registry: CollectorRegistry) -> RevocationList:
    """An authority's list in use."""
    metrics = CertificateMetrics(registry, "escalator", "ca", "certificate", "revoked")
    return RevocationList(str(pki.revoked), authorities(pki), metrics)


def authorities(*pkis: Pki) -> tuple[x509.Certificate, ...]:
    """What `ca` holds."""
    return tuple(read_certificate(pki.ca) for pki in pkis)


def certificate(issued: Issued) -> x509.Certificate:
    """What a device shows."""
    return read_certificate(issued.certificate)


def test_list_that_came_before_its_authority_is_taken_with_it(
    old: Pki, new: Pki, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Until then it is refused, which is counted and said once."""
    device = new.device("plant/cam")
    new.revoke(device)
    revoked = list_of(old, registry)
    old.revoked.write_bytes(old.revoked.read_bytes() + new.revoked.read_bytes())
    for _ in range(3):
        revoked.refresh(authorities(old))
    assert not revoked.holds(certificate(device))
    assert registry.get_sample_value(RELOAD_ERRORS) == 1
    assert caplog.text.count("no authority in tls.ca signed") == 1
    revoked.refresh(authorities(old, new))
    assert revoked.holds(certificate(device))
    assert registry.get_sample_value(RELOAD_ERRORS) == 1


def test_authority_counts_though_its_list_is_away(
    old: Pki, new: Pki, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """And what it held is as revoked when it is back."""
    device = new.device("plant/cam")
    new.revoke(device)
    revoked = list_of(old, registry)
    old.revoked.write_bytes(old.revoked.read_bytes() + new.revoked.read_bytes())
    revoked.refresh(authorities(old))
    old.revoked.rename(tmp_path / "away")
    for _ in range(3):
        revoked.refresh(authorities(old, new))
    (tmp_path / "away").rename(old.revoked)
    revoked.refresh(authorities(old, new))
    assert revoked.holds(certificate(device))
    assert registry.get_sample_value(RELOAD_ERRORS) == 2


@pytest.mark.parametrize("fault", ["version", "name"])
def test_list_that_cannot_be_read_is_not_taken(
    old: Pki, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """What was revoked stays revoked; the file is named."""
    device = old.device("plant/cam")
    old.revoke(device)
    revoked = list_of(old, registry)
    old.revoked.write_bytes(spoil_list(old.revoked.read_bytes(), fault))
    for _ in range(2):
        revoked.refresh(authorities(old))
    assert revoked.holds(certificate(device))
    assert registry.get_sample_value(RELOAD_ERRORS) == 1
    assert f"{old.revoked} (tls.revoked)" in caplog.text


def test_authority_of_an_unknown_kind_signs_no_list(
    old: Pki, new: Pki, registry: CollectorRegistry
) -> None:
    """And does not stand in the way of those that do, though they have its name."""
    device = old.device("plant/cam")
    revoked = list_of(old, registry)
    new.ca.write_bytes(spoil_certificate(new.ca.read_bytes(), "curve"))
    old.revoke(device)
    revoked.refresh(authorities(new, old))
    assert revoked.holds(certificate(device))


async def test_replacing_files_in_any_order_ends_no_service(
    configure: Configure, old: Pki, new: Pki
) -> None:
    """A list before its authority, a certificate of an unknown curve: who is revoked is cut off."""
    server, device = old.server(), new.device("plant/cam")
    settings = configure(tls={**old.settings(server), "revoked": str(old.revoked)})
    credentials = grpc.ssl_channel_credentials(
        old.ca.read_bytes(), device.key.read_bytes(), device.certificate.read_bytes()
    )
    lists, pair = old.revoked.read_bytes(), server.certificate.read_bytes()
    async with serving(settings) as (running, _):
        new.revoke(device)
        old.revoked.write_bytes(lists + new.revoked.read_bytes())
        await scrape_until(running.telemetry_port, RELOAD_ERRORS, 1)
        server.certificate.write_bytes(spoil_certificate(pair, "curve"))
        await scrape_until(running.telemetry_port, RELOAD_ERRORS, 2)
        replace_pair(server, old.server())
        old.ca.write_bytes(old.ca.read_bytes() + new.ca.read_bytes())
        async with connect_with(credentials, running.port) as client:
            status = await client.open_stream().status()
        assert status is grpc.StatusCode.UNAUTHENTICATED
