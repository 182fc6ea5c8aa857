"""By whom clients are told apart, and by which authorities: real TLS, real certificates."""

from __future__ import annotations

from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from certificates.authority import Authority
from foundation.errors import ConfigError
from tests.cloud_escalator.client import WAIT_S, scrape, scrape_until
from tests.cloud_escalator.conftest import Configure
from tests.cloud_escalator.service import serving
from tests.cloud_escalator.test_trust import RELOAD_ERRORS, ask_capabilities, connect_with
from tests.support.pki import Pki


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    """The authority that the escalator believes."""
    return Pki(tmp_path / "pki")


async def test_health_watches_of_one_device_are_bounded(configure: Configure, pki: Pki) -> None:
    """However many connections and certificates it has; other devices watch, and it may check."""
    settings = configure(tls=pki.settings(pki.server()), limits={"device_streams_max": 1})
    first, second, other = (
        pki.channel_credentials(pki.device(f"plant/{camera}")) for camera in ("cam", "cam", "other")
    )
    serves, asked = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckRequest()
    async with (
        serving(settings) as (running, _),
        connect_with(first, running.port) as client,
        connect_with(second, running.port) as again,
        connect_with(other, running.port) as neighbour,
    ):
        stubs = [health_pb2_grpc.HealthStub(one.channel) for one in (client, again, neighbour)]
        watch = stubs[0].Watch(asked)
        assert (await watch.read()).status == serves
        assert await stubs[1].Watch(asked).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await stubs[2].Watch(asked).read()).status == serves
        assert (await stubs[1].Check(asked, timeout=WAIT_S)).status == serves


async def test_authority_that_is_over_is_not_taken(
    configure: Configure, pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Devices are served as before, and it is counted; a start with it says what is wrong."""
    settings = configure(tls=pki.settings(pki.server()))
    device = pki.channel_credentials(pki.device("plant/cam"))
    over = Authority.create(tmp_path / "over", days=1e-9).folder / "ca.crt"
    async with serving(settings) as (running, _):
        pki.ca.write_bytes(over.read_bytes())
        await scrape_until(running.telemetry_port, RELOAD_ERRORS, 1)
        async with connect_with(device, running.port) as client:
            assert await ask_capabilities(client) is grpc.StatusCode.OK
        metrics = await scrape(running.telemetry_port)
        assert metrics[RELOAD_ERRORS] == 1
    assert "No authority in" in caplog.text
    with pytest.raises(ConfigError, match=r"No authority in .*ca.crt \(tls.ca\) is valid"):
        async with serving(settings):
            pass
