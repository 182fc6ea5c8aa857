"""The uplink against a real gRPC server whose faults are listed."""

from __future__ import annotations

import asyncio
import socket

import grpc.aio
import pytest

from edge_node.values import Cause, EscalationOutcome
from foundation.escalations import Answer, Encoding
from tests.edge_node.link import Link
from tests.support.escalator import ScriptedEscalator


async def test_escalations_are_answered() -> None:
    """With both opinions' coordinates intact, and their bytes counted."""
    async with ScriptedEscalator() as escalator:
        link = Link(escalator.address)
        async with link.running():
            for number in range(5):
                link.ask(str(number))
            endings = await link.endings(5)
        assert {ending.outcome for ending in endings} == {EscalationOutcome.ANSWERED}
        verdict = endings[0].verdict
        assert verdict is not None
        assert isinstance(verdict.outcome, Answer)
        assert verdict.outcome.detections.boxes[0].tolist() == [10, 20, 18, 28]
        assert escalator.received[0].proposals.labels == ("blue",)
        assert link.value("edge_uplink_bytes_total") > 500
        assert link.value("edge_verdict_latency_seconds_count") == 5


async def test_stream_cut_in_the_middle_is_resumed() -> None:
    """What had no verdict is sent again under the same id; each ends once."""
    async with ScriptedEscalator(cut=(1, 4)) as escalator:
        link = Link(escalator.address)
        async with link.running():
            for number in range(6):
                link.ask(str(number))
            endings = await link.endings(6)
        assert sorted(ending.escalation_id for ending in endings) == list("012345")
        assert {ending.outcome for ending in endings} == {EscalationOutcome.ANSWERED}
        assert len(escalator.received) > 6
        assert link.value("edge_uplink_errors_total", reason="unavailable") >= 1


async def test_duplicate_verdicts_are_harmless() -> None:
    """They are counted and change nothing."""
    async with ScriptedEscalator(twice=(0, 1)) as escalator:
        link = Link(escalator.address)
        async with link.running():
            link.ask("a")
            link.ask("b")
            assert len(await link.endings(2)) == 2
            await link.until("edge_verdicts_ignored_total", 2, reason="ended")


async def test_silent_escalator_lets_escalations_expire() -> None:
    """By the edge's own clock; the rest goes on."""
    async with ScriptedEscalator(silent=(0,)) as escalator:
        link = Link(escalator.address)
        async with link.running():
            link.ask("a", expiry_s=0.3)
            assert (await link.endings(1))[0].outcome is EscalationOutcome.EXPIRED
            link.ask("b")
            assert (await link.endings(2))[1].outcome is EscalationOutcome.ANSWERED


async def test_escalator_may_come_late_and_come_back() -> None:
    """Nothing listens at first; then it does; then it is killed and replaced."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    link = Link(f"127.0.0.1:{port}")
    async with link.running():
        link.ask("a")
        await link.until("edge_uplink_errors_total", 1, reason="unavailable")
        assert link.value("edge_uplink_connected") == 0
        for number, id_ in enumerate("ab"):
            async with ScriptedEscalator(port=port):
                if id_ == "b":
                    link.ask("b")
                assert (await link.endings(number + 1))[number].escalation_id == id_


async def test_pause_where_nobody_answers_has_a_cap_of_its_own() -> None:
    """A long pause after refusals is not what follows when nobody is there."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    link = Link(f"127.0.0.1:{port}", backoff_max_s=3600.0, backoff_unreached_max_s=0.02)
    async with link.running():
        await link.until("edge_uplink_errors_total", 20, reason="unavailable")


async def test_pause_after_a_refusal_has_a_cap_of_its_own() -> None:
    """A server that is no escalator is not tried as often as an address without one."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pauses = {"backoff_max_s": 0.02, "backoff_unreached_max_s": 3600.0}
    link = Link(f"127.0.0.1:{port}", **pauses)
    async with link.running():
        await link.until("edge_uplink_errors_total", 20, reason="not_an_escalator")
    await server.stop(None)


async def test_address_of_another_grpc_service_is_told_apart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A gRPC server without the contract."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    caplog.set_level("INFO")
    link = Link(f"127.0.0.1:{port}")
    async with link.running():
        await link.until("edge_uplink_errors_total", 1, reason="not_an_escalator")
    assert "is not a Hardcase escalator" in caplog.text
    await server.stop(None)


async def test_address_of_a_web_server_is_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    """Something that speaks HTTP/1."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    web = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = web.sockets[0].getsockname()[1]
    caplog.set_level("INFO")
    link = Link(f"127.0.0.1:{port}")
    async with link.running():
        await link.until("edge_uplink_errors_total", 1, reason="not_an_escalator")
    assert "is not a Hardcase escalator" in caplog.text
    web.close()


async def test_unaccepted_encoding_is_an_operators_business(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Said with the setting to change, and nothing is sent."""
    caplog.set_level("INFO")
    async with ScriptedEscalator(encodings=(Encoding.JPEG,)) as escalator:
        link = Link(escalator.address)
        async with link.running():
            await link.until("edge_uplink_errors_total", 1, reason="refused")
        assert escalator.received == []
    assert "crop.levels" in caplog.text


async def test_crop_above_the_escalators_limit_fails_alone() -> None:
    """It is not sent, so it cannot break the stream."""
    async with ScriptedEscalator(message_bytes_max=2000) as escalator:
        link = Link(escalator.address)
        async with link.running():
            link.ask("large", size=5000)
            link.ask("small")
            endings = {e.escalation_id: e for e in await link.endings(2)}
    assert endings["large"].cause is Cause.TOO_LARGE
    assert endings["small"].outcome is EscalationOutcome.ANSWERED


async def test_stream_is_renewed_after_its_lifetime() -> None:
    """Without counting as an error."""
    async with ScriptedEscalator() as escalator:
        link = Link(escalator.address, stream_lifetime_s=0.1)
        async with link.running():
            link.ask("a")
            await link.endings(1)
            await asyncio.sleep(0.3)
            link.ask("b")
            assert len(await link.endings(2)) == 2
        for reason in ("unavailable", "ended_by_escalator"):
            assert link.value("edge_uplink_errors_total", reason=reason) == 0
