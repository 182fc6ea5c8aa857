"""Whom the escalator serves: real TLS, real certificates, a real model behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509

from certificates.authority import Issued
from cloud_escalator.config import EscalatorSettings
from foundation.errors import ConfigError, RejectReason
from foundation.escalations import Answer
from protos.escalation.v1 import escalation_pb2
from tests.cloud_escalator.client import (
    WAIT_S,
    Client,
    connect,
    escalation,
    outcomes,
    scrape,
    scrape_until,
)
from tests.cloud_escalator.conftest import Configure
from tests.cloud_escalator.service import rejected, serving
from tests.support.organization import Organization
from tests.support.pki import Pki, replace_pair, secret_lines, serial_of

HANDSHAKES = "escalator_handshakes_total"
IDENTIFIED = "escalator_identified_total"
RELOAD_ERRORS = "escalator_certificate_reload_errors_total"


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    """The authority that the escalator believes."""
    return Pki(tmp_path / "pki")


@pytest.fixture
def server(pki: Pki) -> Issued:
    """The escalator's own certificate."""
    return pki.server()


@pytest.fixture
def protected(configure: Configure, pki: Pki, server: Issued) -> EscalatorSettings:
    """Settings with TLS and a list of revoked certificates."""
    return configure(tls={**pki.settings(server), "revoked": str(pki.revoked)})


@contextlib.asynccontextmanager
async def connect_with(credentials: grpc.ChannelCredentials, port: int) -> AsyncIterator[Client]:
    """A connection of its own that checks the host's name."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials, options) as channel:
        yield Client(channel)


async def ask_capabilities(client: Client) -> grpc.StatusCode:
    """The status of the first call on a connection."""
    try:
        await client.stub.GetCapabilities(
            escalation_pb2.GetCapabilitiesRequest(), timeout=WAIT_S / 2
        )
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_device_is_served_under_its_name(protected: EscalatorSettings, pki: Pki) -> None:
    """Whether it has a camera's certificate or the site's; each connection is counted once."""
    async with serving(protected) as (running, _):
        for count, device in enumerate((pki.device("plant/cam"), pki.device("plant/*")), 1):
            async with connect_with(pki.channel_credentials(device), running.port) as client:
                assert await ask_capabilities(client) is grpc.StatusCode.OK
                verdict = await client.open_stream().ask(escalation(f"one-{count}"))
                assert isinstance(verdict.outcome, Answer)
            metrics = await scrape(running.telemetry_port)
            assert metrics[HANDSHAKES] == metrics[IDENTIFIED] == count
        assert metrics["escalator_plain_text"] == 0
        assert metrics['escalator_certificate_expiry_timestamp_seconds{file="revoked"}'] > 0
        assert metrics['escalator_certificate_lifetime_seconds{file="certificate"}'] > 0


@pytest.mark.parametrize("client", ["none", "expired", "other_authority", "server", "plain"])
async def test_handshake_is_refused_and_seen(
    protected: EscalatorSettings, pki: Pki, tmp_path: Path, client: str
) -> None:
    """By the handshakes that nobody identified himself on."""
    foreign = Pki(tmp_path / "foreign").device("plant/cam")
    certificates = {
        "none": None,
        "expired": pki.device("plant/cam", days=1e-9),
        "other_authority": foreign,
        "server": pki.server("plant"),
    }
    async with serving(protected) as (running, _):
        opened = (
            connect(running.port)
            if client == "plain"
            else connect_with(pki.channel_credentials(certificates[client]), running.port)
        )
        async with opened as connected:
            assert await ask_capabilities(connected) is grpc.StatusCode.UNAVAILABLE
        metrics = await scrape_until(running.telemetry_port, HANDSHAKES, 1)
        assert metrics[IDENTIFIED] == 0


async def test_devices_certificate_cannot_serve(configure: Configure, pki: Pki) -> None:
    """Nobody takes a camera for an escalator, whatever its host is called."""
    device = pki.device("localhost/cam")
    async with serving(configure(tls=pki.settings(device))) as (running, _):
        credentials = pki.channel_credentials(pki.device("plant/cam"))
        async with connect_with(credentials, running.port) as client:
            assert await ask_capabilities(client) is grpc.StatusCode.UNAVAILABLE


async def test_another_devices_name_is_rejected(
    protected: EscalatorSettings, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    """Each time, logged once for each stream; in its own name it is answered."""
    device = pki.device("plant/cam")
    async with serving(protected) as (running, _):
        async with connect_with(pki.channel_credentials(device), running.port) as client:
            stream = client.open_stream()
            for name in ("first", "second"):
                verdict = await stream.ask(escalation(name, camera="other"))
                assert verdict.escalation_id == name
                assert rejected(verdict) is RejectReason.NOT_PERMITTED
            assert isinstance((await stream.ask(escalation("own"))).outcome, Answer)
        metrics = await scrape(running.telemetry_port)
        assert metrics['escalator_rejects_total{reason="not_permitted"}'] == 2
    assert caplog.text.count("does not name the camera 'other'") == 1
    assert "hardcase://plant/cam" in caplog.text
    assert serial_of(device) in caplog.text
    assert not any(line in caplog.text for line in secret_lines(device))


async def test_another_devices_verdict_cannot_be_fetched(
    protected: EscalatorSettings, pki: Pki
) -> None:
    """An id is a device's own: the same one of another camera is another question."""
    async with serving(protected) as (running, _):
        for camera in ("cam", "other"):
            credentials = pki.channel_credentials(pki.device(f"plant/{camera}"))
            async with connect_with(credentials, running.port) as client:
                await client.open_stream().ask(escalation("same", camera=camera))
        metrics = await scrape(running.telemetry_port)
        assert metrics['escalator_requests_total{outcome="answered"}'] == 2
        assert metrics['escalator_requests_total{outcome="duplicate"}'] == 0


async def test_silent_streams_count(configure: Configure, pki: Pki, server: Issued) -> None:
    """A device is known before it asks: a stream too many is ended though nothing is said on it."""
    settings = configure(tls=pki.settings(server), limits={"device_streams_max": 1})
    device, other = (pki.channel_credentials(pki.device(f"plant/{c}")) for c in ("cam", "other"))
    async with (
        serving(settings) as (running, _),
        connect_with(device, running.port) as client,
        connect_with(other, running.port) as neighbour,
    ):
        silent = client.open_stream()
        await scrape_until(running.telemetry_port, "escalator_streams", 1)
        assert await client.open_stream().status() is grpc.StatusCode.RESOURCE_EXHAUSTED
        verdict = await neighbour.open_stream().ask(escalation("fine", camera="other"))
        assert isinstance(verdict.outcome, Answer)
        assert await silent.close() is grpc.StatusCode.OK
        assert isinstance((await client.open_stream().ask(escalation("a"))).outcome, Answer)
        metrics = await scrape(running.telemetry_port)
        assert metrics['escalator_streams_ended_total{end="over_quota"}'] == 1


async def test_device_beyond_its_quota_is_not_parsed(
    configure: Configure, pki: Pki, server: Issued
) -> None:
    """Its message is shed under the id in front, though what follows is no message at all."""
    limits = {"device_requests_burst": 1, "device_requests_per_s": 0.001}
    settings = configure(tls=pki.settings(server), limits=limits)
    credentials = pki.channel_credentials(pki.device("plant/cam"))
    async with serving(settings) as (running, _), connect_with(credentials, running.port) as client:
        assert isinstance((await client.open_stream().ask(escalation("a"))).outcome, Answer)
        stream = client.open_raw_stream()
        for name in ("b", ""):
            front = escalation_pb2.Escalation(id=name).SerializeToString()
            await stream.call.write(front + b"\xff\xff\xff not protobuf")
            verdict = escalation_pb2.Verdict.FromString(await stream.call.read())
            assert (verdict.escalation_id, verdict.WhichOneof("outcome")) == (name, "shed")
            assert verdict.shed.retry_after_s > 100
        metrics = await scrape(running.telemetry_port)
        assert metrics['escalator_sheds_total{reason="quota"}'] == 2
        assert outcomes(metrics) == {"answered": 1, "shed": 2}


async def test_certificate_without_a_name_is_refused(
    protected: EscalatorSettings, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be the authority's, and no device's."""
    nameless = pki.nameless()
    async with serving(protected) as (running, _):
        async with connect_with(pki.channel_credentials(nameless), running.port) as client:
            for _ in range(2):
                assert await ask_capabilities(client) is grpc.StatusCode.UNAUTHENTICATED
            assert await client.open_stream().status() is grpc.StatusCode.UNAUTHENTICATED
        metrics = await scrape(running.telemetry_port)
        assert metrics['escalator_identity_refusals_total{reason="no_name"}'] == 3
    assert caplog.text.count("a client is refused (no_name)") == 1


async def test_revoked_device_is_refused_and_its_stream_cut(
    protected: EscalatorSettings, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a restart; the other device's stream goes on."""
    device, other = pki.device("plant/cam"), pki.device("plant/other")
    async with serving(protected) as (running, _):
        async with (
            connect_with(pki.channel_credentials(device), running.port) as client,
            connect_with(pki.channel_credentials(other), running.port) as neighbour,
        ):
            stream, second = client.open_stream(), neighbour.open_stream()
            await stream.ask(escalation("before"))
            await second.ask(escalation("before", camera="other"))
            pki.revoke(device)
            assert await stream.status() is grpc.StatusCode.UNAUTHENTICATED
            assert await ask_capabilities(client) is grpc.StatusCode.UNAUTHENTICATED
            assert await client.open_stream().status() is grpc.StatusCode.UNAUTHENTICATED
            verdict = await second.ask(escalation("after", camera="other"))
            assert isinstance(verdict.outcome, Answer)
        metrics = await scrape(running.telemetry_port)
        assert metrics['escalator_identity_refusals_total{reason="revoked"}'] == 3
        assert metrics['escalator_streams_ended_total{end="untrusted"}'] == 1
    assert caplog.text.count("a client is refused (revoked)") == 1
    assert serial_of(device) in caplog.text


async def test_certificate_that_runs_out_ends_its_stream(
    protected: EscalatorSettings, pki: Pki
) -> None:
    """However long the client would have kept it open."""
    device = pki.device("plant/cam", days=5 / 86_400)
    async with serving(protected) as (running, _):
        async with connect_with(pki.channel_credentials(device), running.port) as client:
            stream = client.open_stream()
            await stream.call.wait_for_connection()
            assert await stream.status() is grpc.StatusCode.UNAUTHENTICATED
        metrics = await scrape(running.telemetry_port)
        assert metrics['escalator_identity_refusals_total{reason="expired"}'] == 1


async def test_list_of_another_authority_is_not_taken(
    protected: EscalatorSettings, pki: Pki, tmp_path: Path
) -> None:
    """Nor damaged ones; what was revoked stays revoked."""
    device = pki.device("plant/cam")
    pki.revoke(device)
    good = pki.revoked.read_bytes()
    foreign = Pki(tmp_path / "foreign")
    async with serving(protected) as (running, _):
        for count, content in enumerate((foreign.revoked.read_bytes(), good[:100], b""), 1):
            pki.revoked.write_bytes(content)
            await scrape_until(running.telemetry_port, RELOAD_ERRORS, count)
        async with connect_with(pki.channel_credentials(device), running.port) as client:
            assert await ask_capabilities(client) is grpc.StatusCode.UNAUTHENTICATED


async def test_servers_certificate_is_replaced_without_a_restart(
    protected: EscalatorSettings, pki: Pki, server: Issued
) -> None:
    """A pair that does not belong together is not taken; open streams go on."""
    device = pki.channel_credentials(pki.device("plant/cam"))
    wrong = pki.server("elsewhere")
    async with serving(protected) as (running, _), connect_with(device, running.port) as client:
        stream = client.open_stream()
        await stream.ask(escalation("before"))
        server.key.write_bytes(wrong.key.read_bytes())
        await scrape_until(running.telemetry_port, RELOAD_ERRORS, 1)
        async with connect_with(device, running.port) as second:
            assert await ask_capabilities(second) is grpc.StatusCode.OK
        server.certificate.write_bytes(wrong.certificate.read_bytes())
        async with connect_with(device, running.port) as second:
            assert await ask_capabilities(second) is grpc.StatusCode.UNAVAILABLE
        replace_pair(server, pki.server())
        async with connect_with(device, running.port) as second:
            assert await ask_capabilities(second) is grpc.StatusCode.OK
        assert isinstance((await stream.ask(escalation("after"))).outcome, Answer)


async def test_authority_is_replaced_without_a_restart(
    protected: EscalatorSettings, pki: Pki, tmp_path: Path
) -> None:
    """With both in the file old and new devices are served; then only new ones."""
    new = Pki(tmp_path / "new")
    old_pem, new_pem = pki.ca.read_bytes(), new.ca.read_bytes()
    devices = [pki.device("plant/cam"), new.device("plant/cam")]
    old_client, new_client = (
        grpc.ssl_channel_credentials(
            old_pem, device.key.read_bytes(), device.certificate.read_bytes()
        )
        for device in devices
    )
    served, refused = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
    async with serving(protected) as (running, _):
        for accepted, old_is, new_is in (
            (old_pem, served, refused),
            (old_pem + new_pem, served, served),
            (new_pem, refused, served),
        ):
            pki.ca.write_bytes(accepted)
            for credentials, expected in ((old_client, old_is), (new_client, new_is)):
                async with connect_with(credentials, running.port) as client:
                    assert await ask_capabilities(client) is expected


@pytest.mark.parametrize("anchors", ["root", "intermediate", "both"])
async def test_organizations_authority_is_believed(
    configure: Configure, tmp_path: Path, anchors: str
) -> None:
    """With RSA and an intermediate, whichever of the two the file has; its list counts, too."""
    organization = Organization(tmp_path)
    server = organization.issue("server", [x509.DNSName("localhost")])
    uris = ["spiffe://organization/cam", "hardcase://plant/cam"]
    sans = [x509.UniformResourceIdentifier(uri) for uri in uris]
    device = organization.issue("device", sans)
    ca, revoked = tmp_path / "ca.pem", tmp_path / "revoked.pem"
    ca_pem = {
        "root": organization.root_pem,
        "intermediate": organization.intermediate_pem,
        "both": organization.root_pem + organization.intermediate_pem,
    }[anchors]
    ca.write_bytes(ca_pem)
    revoked.write_bytes(organization.revoked_pem())
    tls = {"ca": str(ca), "certificate": str(server.certificate), "key": str(server.key)}
    if anchors != "root":  # the list is the intermediate's
        tls["revoked"] = str(revoked)
    credentials = grpc.ssl_channel_credentials(
        ca_pem, device.key.read_bytes(), device.certificate.read_bytes()
    )
    async with (
        serving(configure(tls=tls)) as (running, _),
        connect_with(credentials, running.port) as client,
    ):
        stream = client.open_stream()
        assert isinstance((await stream.ask(escalation("one"))).outcome, Answer)
        if anchors != "root":
            revoked.write_bytes(organization.revoked_pem(device))
            assert await stream.status() is grpc.StatusCode.UNAUTHENTICATED


def test_off_loopback_needs_certificates_or_the_flag(configure: Configure, pki: Pki) -> None:
    """And the error says both ways out."""
    with pytest.raises(ConfigError, match=r"hardcase-certs.*plain_text: true"):
        configure(listen="0.0.0.0:0")
    assert configure(listen="0.0.0.0:0", plain_text=True).is_plain_off_loopback
    protected = configure(listen="0.0.0.0:0", tls=pki.settings(pki.server()))
    assert not protected.is_plain_off_loopback
    assert not configure(listen="[::1]:0").is_plain_off_loopback


async def test_plain_text_off_loopback_is_a_metric(configure: Configure) -> None:
    """1 with the flag off loopback, 0 on loopback."""
    for listen, plain in (("0.0.0.0:0", 1), ("127.0.0.1:0", 0)):
        async with serving(configure(listen=listen, plain_text=True)) as (running, client):
            await client.open_stream().ask(escalation("one"))
            metrics = await scrape(running.telemetry_port)
            assert metrics["escalator_plain_text"] == plain
            assert metrics[HANDSHAKES] == 0


@pytest.mark.parametrize("key", ["ca", "certificate", "key", "revoked"])
async def test_bad_file_ends_the_start(protected: EscalatorSettings, key: str) -> None:
    """With the file and the setting."""
    path = Path(getattr(protected.tls, key))
    await asyncio.to_thread(path.write_bytes, b"garbage")
    with pytest.raises(ConfigError, match=rf"{path.name} \(tls\.{key}\)"):
        async with serving(protected):
            pass


def test_list_needs_its_authority(configure: Configure) -> None:
    """A list without TLS would never be looked at."""
    with pytest.raises(ConfigError, match="revoked needs"):
        configure(tls={"revoked": "some.crl"})
