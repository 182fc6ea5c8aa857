"""What the uplink makes of certificates: its own, the escalator's, and changed ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

from certificates.authority import Authority, Issued
from edge_node.adapters.uplink import open_certificates
from edge_node.config import EdgeSettings
from edge_node.values import EscalationOutcome
from foundation.certificates import CertificateMetrics
from foundation.errors import ConfigError
from foundation.settings import parse_settings
from protos.escalation.v1 import escalation_pb2_grpc
from tests.edge_node.link import Link
from tests.support.escalator import ScriptedEscalator
from tests.support.pki import Pki, replace_pair, secret_lines

DEVICE = "site/camera"
"""What a node is called unless its settings say otherwise."""
ERRORS = "edge_uplink_errors_total"


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    """The authority that everyone believes."""
    return Pki(tmp_path / "pki")


@pytest.fixture
def foreign(tmp_path: Path) -> Pki:
    """Another authority."""
    return Pki(tmp_path / "foreign")


def protected(pki: Pki, server: Issued | None = None) -> ScriptedEscalator:
    """An escalator that asks for certificates."""
    return ScriptedEscalator(credentials=pki.server_credentials(server or pki.server()))


def named(escalator: ScriptedEscalator) -> str:
    """Its address by the host's name, which certificates are checked for."""
    return escalator.address.replace("127.0.0.1", "localhost")


async def test_both_sides_prove_themselves(pki: Pki) -> None:
    """Then everything is as without."""
    async with protected(pki) as escalator:
        link = Link(named(escalator), tls=pki.settings(pki.device(DEVICE)))
        async with link.running():
            link.ask("a")
            assert (await link.endings(1))[0].outcome is EscalationOutcome.ANSWERED
        assert link.value("edge_plain_text") == 0
        name = "edge_certificate_expiry_timestamp_seconds"
        assert link.value(name, file="certificate") > 0
        assert link.value("edge_certificate_lifetime_seconds", file="certificate") > 0


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("server of another authority", "does not believe the escalator"),
        ("server of another host", "does not believe the escalator"),
        ("server that is over", "does not believe the escalator"),
        ("plain server", "does not believe the escalator"),
        ("device of another authority", "does not accept this node's certificate"),
        ("device that is over", "does not accept this node's certificate"),
    ],
)
async def test_mistrust_is_told_apart(
    pki: Pki, foreign: Pki, caplog: pytest.LogCaptureFixture, fault: str, said: str
) -> None:
    """Which side refuses is counted as identity and said once, with a remedy and without a key."""
    caplog.set_level("INFO")
    over = "that is over" in fault
    server = pki.server(
        "elsewhere" if "another host" in fault else "localhost",
        days=1e-9 if over and "server" in fault else 30,
    )
    device = pki.device(DEVICE, days=1e-9 if over and "device" in fault else 30)
    tls = pki.settings(device)
    if fault == "server of another authority":
        tls["ca"] = str(foreign.ca)
    elif fault == "device of another authority":
        device = foreign.device(DEVICE)
        tls = {**foreign.settings(device), "ca": str(pki.ca)}
    plain = fault == "plain server"
    async with ScriptedEscalator() if plain else protected(pki, server) as escalator:
        link = Link(named(escalator), tls=tls)
        async with link.running():
            link.ask("a", expiry_s=0.5)
            await link.until(ERRORS, 3, reason="identity")
            assert (await link.endings(1))[0].outcome is EscalationOutcome.EXPIRED
        assert escalator.received == []
    assert caplog.text.count(said) == 1
    assert "frames go on" in caplog.text
    assert not any(line in caplog.text for line in secret_lines(device))


async def test_refusal_by_the_application_is_identity_too(
    pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    """As of a revoked device, with the escalator's words."""

    class Refusing(escalation_pb2_grpc.EscalationServiceServicer):
        async def GetCapabilities(  # noqa: N802 - as the contract names it
            self, request: object, context: grpc.aio.ServicerContext[object, object]
        ) -> None:
            del request
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "The certificate was revoked")

    caplog.set_level("INFO")
    server = grpc.aio.server()
    escalation_pb2_grpc.add_EscalationServiceServicer_to_server(Refusing(), server)
    port = server.add_secure_port("127.0.0.1:0", pki.server_credentials(pki.server()))
    await server.start()
    link = Link(f"localhost:{port}", tls=pki.settings(pki.device(DEVICE)))
    async with link.running():
        await link.until(ERRORS, 1, reason="identity")
    await server.stop(None)
    assert "refuses this node: The certificate was revoked" in caplog.text


async def test_plain_node_is_told_what_an_escalator_may_want(
    pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing tells it that the other side speaks TLS."""
    caplog.set_level("INFO")
    async with protected(pki) as escalator:
        link = Link(escalator.address)
        async with link.running():
            await link.until(ERRORS, 1, reason="not_an_escalator")
    assert "escalator.tls if it wants certificates" in caplog.text


async def test_nobody_there_is_no_mistrust(pki: Pki) -> None:
    """An escalator that is down is unavailable, with TLS as without."""
    async with protected(pki) as escalator:
        address = named(escalator)
    link = Link(address, tls=pki.settings(pki.device(DEVICE)))
    async with link.running():
        await link.until(ERRORS, 2, reason="unavailable")
    assert link.value(ERRORS, reason="identity") == 0


async def test_renewed_certificate_is_used_without_a_restart(pki: Pki) -> None:
    """One that is over is replaced, and what waited is answered."""
    device = pki.device(DEVICE, days=1e-9)
    async with protected(pki) as escalator:
        link = Link(named(escalator), tls=pki.settings(device))
        async with link.running():
            link.ask("a")
            await link.until(ERRORS, 1, reason="identity")
            replace_pair(device, pki.device(DEVICE))
            assert (await link.endings(1))[0].outcome is EscalationOutcome.ANSWERED


async def test_open_stream_makes_place_for_a_renewed_certificate(pki: Pki) -> None:
    """Without counting as an error, and without losing what is asked meanwhile."""
    device, server = pki.device(DEVICE), pki.server()
    handshakes: list[None] = []

    def begin_handshake() -> grpc.ServerCertificateConfiguration:
        handshakes.append(None)
        return configuration

    configuration = grpc.ssl_server_certificate_configuration(
        [(server.key.read_bytes(), server.certificate.read_bytes())], pki.ca.read_bytes()
    )
    credentials = grpc.dynamic_ssl_server_credentials(configuration, begin_handshake, True)
    async with ScriptedEscalator(credentials=credentials) as escalator:
        link = Link(named(escalator), tls=pki.settings(device))
        async with link.running():
            link.ask("a")
            await link.endings(1)
            replace_pair(device, pki.device(DEVICE))
            async with asyncio.timeout(20):
                while len(handshakes) < 2:  # noqa: ASYNC110 - gRPC calls from its own thread
                    await asyncio.sleep(0.01)
            link.ask("b")
            assert (await link.endings(2))[1].outcome is EscalationOutcome.ANSWERED
        for reason in ("identity", "unavailable", "ended_by_escalator", "refused"):
            assert link.value(ERRORS, reason=reason) == 0


def test_authorities_that_are_over_do_not_stop_a_node(
    pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its frames need no escalator; which file it is, is said."""
    tls = pki.settings(pki.device(DEVICE))
    pki.ca.write_bytes((Authority.create(tmp_path / "x", days=1e-9).folder / "ca.crt").read_bytes())
    opened(settings_of(tls))
    assert f"No authority in {pki.ca} (tls.ca) is valid any longer" in caplog.text


def settings_of(tls: dict[str, str], **more: str) -> EdgeSettings:
    """Settings of a node."""
    escalator = {"address": "escalator.example:7443", "tls": tls}
    return parse_settings({"escalator": escalator, **more}, EdgeSettings, origin="test")


def opened(settings: EdgeSettings) -> CollectorRegistry:
    """The metrics once the node's certificates were opened."""
    registry = CollectorRegistry()
    open_certificates(settings, CertificateMetrics(registry, "edge", "ca", "certificate"))
    return registry


@pytest.mark.parametrize("names", [["site/camera"], ["site/*"], ["site/other", "site/camera"]])
def test_certificate_may_name_the_node_in_several_ways(pki: Pki, names: list[str]) -> None:
    """Alone, with its site, among others."""
    opened(settings_of(pki.settings(pki.device(*names))))


def test_certificate_of_another_node_ends_the_start(pki: Pki) -> None:
    """Before it is refused for every escalation; both names are said."""
    settings = settings_of(pki.settings(pki.device("site/other")), camera="mine")
    with pytest.raises(ConfigError, match="does not name this node") as caught:
        opened(settings)
    assert "hardcase://site/mine" in caught.value.message
    assert "hardcase://site/other" in caught.value.message
    with pytest.raises(ConfigError, match="but no device"):
        opened(settings_of(pki.settings(pki.server())))


def test_renewed_certificate_of_another_node_is_not_taken(pki: Pki) -> None:
    """A mix-up while the node runs costs it nothing, and is counted."""
    device = pki.device(DEVICE)
    registry = CollectorRegistry()
    metrics = CertificateMetrics(registry, "edge", "ca", "certificate")
    files = open_certificates(settings_of(pki.settings(device)), metrics)
    assert files is not None
    before = files.credentials
    replace_pair(device, pki.device("site/other"))
    assert not files.refresh()
    assert files.credentials is before
    assert registry.get_sample_value("edge_certificate_reload_errors_total") == 1


def test_off_loopback_needs_certificates_or_the_flag() -> None:
    """And plain text off loopback is a metric."""
    with pytest.raises(ConfigError, match=r"hardcase-certs.*plain_text: true"):
        settings_of({})
    for address, plain in (("escalator.example:7443", 1), ("localhost:7443", 0), ("", 0)):
        escalator = {"address": address, "plain_text": True}
        settings = parse_settings({"escalator": escalator}, EdgeSettings, origin="test")
        assert opened(settings).get_sample_value("edge_plain_text") == plain
