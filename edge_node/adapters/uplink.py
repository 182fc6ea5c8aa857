"""The gRPC stream to the cloud escalator: connects, sends, receives, reconnects.

Runs on the event loop. Every wait has a bound: the first call has a deadline, the stream has a
lifetime, a silent connection is probed, a broken one is tried again after a pause that doubles with
jitter up to a cap. The cap is low where nobody answers, so that a link is used as soon as it is
back, and high where the escalator refuses, for that costs it work. Every connection proves who this
node is, with the certificate files as they are then; a stream makes place for another when they
change. Escalations in flight when a stream breaks are sent again; the escalator answers an id once
however often it comes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
from cryptography import x509

from edge_node.config import EdgeSettings, EscalatorSettings
from edge_node.metrics import EdgeMetrics, LinkFailure
from edge_node.ports import UplinkFeed
from edge_node.values import IgnoredVerdict
from foundation.certificates import CertificateFiles, CertificateMetrics
from foundation.clock import Clock, elapsed_s
from foundation.errors import (
    ConfigError,
    HardcaseError,
    OverloadError,
    RejectedError,
    TransientError,
)
from foundation.escalations import Capabilities, Encoding
from foundation.identity import DeviceName, names_of
from foundation.wire import (
    capabilities_from_proto,
    error_from_rpc,
    escalation_to_proto,
    verdict_from_proto,
)
from protos.escalation.v1 import escalation_pb2 as pb
from protos.escalation.v1 import escalation_pb2_grpc as pb_grpc

log = logging.getLogger(__name__)

_Call = grpc.aio.StreamStreamCall[pb.Escalation, pb.Verdict]
_CERTIFICATES_REVIEW_S = 2.0
_TLS_FAILED = ("handshake failed", "hostname verification", "security handshaker")
_REFUSED_BY_OTHER = ("failed to connect", "socket closed")
"""An escalator that does not accept a certificate closes the connection and does not say why."""
_NOT_HTTP2 = ("http1", "Trying to connect an http1.x server", "protocol error")


_REFUSALS = (
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
)
"""Ends of a stream that have nothing to do with what was sent on it. A write that fails with the
stream says "internal", whatever the server had said, so that tells nothing either."""


class _IdentityError(ConfigError):
    """One side does not believe the other."""


def open_certificates(
    settings: EdgeSettings, metrics: CertificateMetrics
) -> CertificateFiles | None:
    """The certificate files that the settings name; None for plain text.

    Raises:
        ConfigError: One is missing or damaged, or the certificate is not this node's.
    """
    metrics.plain_text.set(settings.escalator.is_plain_off_loopback)
    if not settings.escalator.tls.given:
        return None
    site, camera = settings.site, settings.camera

    def check(certificate: x509.Certificate) -> None:
        names = names_of(certificate)
        if not any(name.permits(site, camera) for name in names):
            raise ConfigError(
                f"{settings.escalator.tls.certificate} (escalator.tls.certificate) does not name "
                f"this node, {DeviceName(site, camera).uri}, but "
                f"{', '.join(name.uri for name in names) or 'no device'}",
                remedy="Give the certificate of this node, or correct `site` and `camera`",
            )

    files = CertificateFiles(settings.escalator.tls, metrics, check)
    try:
        files.check_authorities()
    except ConfigError as error:  # frames need no escalator, and the file may be replaced
        log.error("%s", error)
    return files


class GrpcUplink:
    """One connection at a time to one address, with the given certificates or in plain text."""

    def __init__(
        self,
        settings: EscalatorSettings,
        encodings: frozenset[Encoding],
        metrics: EdgeMetrics,
        clock: Clock,
        certificates: CertificateFiles | None = None,
    ) -> None:
        self._settings = settings
        self._encodings = encodings
        self._metrics = metrics
        self._clock = clock
        self._certificates = certificates
        self._said = ""

    async def run(self, feed: UplinkFeed) -> None:
        """Connects and reconnects until cancelled; failures are counted and said once each."""
        pause_s = self._settings.backoff_min_s
        while True:
            begun_ns = self._clock.now_ns()
            try:
                async with self._channel() as channel:
                    stub = pb_grpc.EscalationServiceStub(channel)
                    capabilities = await self._ask_capabilities(stub)
                    await self._stream(stub, capabilities, feed)
                    continue  # the stream's lifetime is over: nothing is wrong
            except HardcaseError as error:
                failure = _failure_of(error)
                self._metrics.uplink_errors[failure].inc()
                self._say(str(error))
            if elapsed_s(begun_ns, self._clock.now_ns()) > self._settings.backoff_max_s:
                pause_s = self._settings.backoff_min_s  # it had worked for a while
            unreached = failure is LinkFailure.UNAVAILABLE
            settings = self._settings
            longest_s = settings.backoff_unreached_max_s if unreached else settings.backoff_max_s
            pause_s = min(pause_s, longest_s)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s *= 2

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[grpc.aio.Channel]:
        settings = self._settings
        options = [
            ("grpc.keepalive_time_ms", int(settings.keepalive_s * 1000)),
            ("grpc.keepalive_timeout_ms", int(settings.keepalive_timeout_s * 1000)),
            # Otherwise a stream on which nothing is sent is probed twice and never again.
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.max_receive_message_length", settings.message_bytes_max),
            # Otherwise a new channel waits out the back-off of the one before it.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ]
        certificates = self._certificates
        if certificates is None:
            opened = grpc.aio.insecure_channel(settings.address, options=options)
        else:
            await asyncio.to_thread(certificates.refresh)
            now = certificates.credentials
            credentials = grpc.ssl_channel_credentials(now.ca_pem, now.key_pem, now.chain_pem)
            opened = grpc.aio.secure_channel(settings.address, credentials, options=options)
        async with opened as channel:
            yield channel

    async def _ask_capabilities(self, stub: pb_grpc.EscalationServiceStub) -> Capabilities:
        try:
            reply = await stub.GetCapabilities(
                pb.GetCapabilitiesRequest(), timeout=self._settings.connect_timeout_s
            )
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from error
        capabilities = capabilities_from_proto(reply)
        if self._encodings.isdisjoint(capabilities.encodings):
            raise ConfigError(
                f"The escalator at {self._settings.address} takes none of the formats that crops "
                f"may have here: {', '.join(sorted(self._encodings))}",
                remedy=f"Add a level of {', '.join(capabilities.encodings)} to crop.levels",
            )
        models = ", ".join(f"{model.name} {model.version}" for model in capabilities.models)
        self._say(f"The escalator at {self._settings.address} is connected and serves {models}.")
        return capabilities

    async def _stream(
        self, stub: pb_grpc.EscalationServiceStub, capabilities: Capabilities, feed: UplinkFeed
    ) -> None:
        """Runs one stream to the end of its lifetime.

        Raises:
            HardcaseError: It broke before.
        """
        limit = min(self._settings.message_bytes_max, capabilities.message_bytes_max)
        call = stub.Escalate(timeout=self._settings.stream_lifetime_s)
        sender = asyncio.create_task(self._send(call, limit, feed), name="uplink-send")
        receiver = asyncio.create_task(self._receive(call, feed), name="uplink-receive")
        reviewer = asyncio.create_task(self._until_other_certificates(), name="uplink-review")
        tasks = (sender, receiver, reviewer)
        feed.set_capabilities(capabilities)
        feed.set_connected(True)
        broken = False
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if done == {reviewer}:
                return
            raise self._translate_end(await call.code())
        except grpc.aio.AioRpcError as error:
            broken = error.code() not in _REFUSALS
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise self._translate(error) from error
        except asyncio.InvalidStateError as error:
            # The writer learns of a broken stream in this way; the status says why.
            code = await call.code()
            broken = code not in _REFUSALS
            raise self._translate_end(code) from error
        finally:
            call.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            feed.set_connected(False, broken=broken)

    async def _until_other_certificates(self) -> None:
        """Ends when there are new certificates to connect with."""
        while True:
            await asyncio.sleep(_CERTIFICATES_REVIEW_S)
            certificates = self._certificates
            if certificates is not None and await asyncio.to_thread(certificates.refresh):
                return

    async def _send(
        self,
        call: grpc.aio.StreamStreamCall[pb.Escalation, pb.Verdict],
        limit: int,
        feed: UplinkFeed,
    ) -> None:
        while True:
            escalation = await feed.next_escalation()
            message = escalation_to_proto(escalation, sent_at_ns=self._clock.now_ns())
            size = message.ByteSize()
            if size > limit:
                log.warning("a crop of %d bytes exceeds the limit of %d", size, limit)
                feed.refuse(escalation.id)
                continue
            await call.write(message)
            feed.note_sent(escalation.id, size)

    async def _receive(self, call: _Call, feed: UplinkFeed) -> None:
        async for message in call:
            try:
                verdict = verdict_from_proto(message)
            except RejectedError as error:
                self._metrics.verdicts_ignored[IgnoredVerdict.MALFORMED].inc()
                log.warning("verdict ignored: %s", error)
                continue
            feed.receive(verdict)

    def _translate(self, error: grpc.aio.AioRpcError) -> HardcaseError:
        address = self._settings.address
        details = error.details() or ""
        if self._certificates is not None and (mistrust := _mistrust(error, address)):
            return mistrust
        # A stream that is cut later on says "Socket closed", too, and tells of the link alone.
        closed = all(sign in details.lower() for sign in _REFUSED_BY_OTHER)
        foreign = any(sign in details for sign in _NOT_HTTP2) or "http status" in details.lower()
        if foreign or closed:
            return ConfigError(
                f"{address} is not a Hardcase escalator: {details}",
                remedy="Check escalator.address, and escalator.tls if it wants certificates; "
                "frames go on without it",
            )
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            return TransientError(
                f"No escalator answers at {address}: {details}",
                remedy="Frames go on without it, and it is tried again",
            )
        return error_from_rpc(error, f"escalator {address}")

    def _translate_end(self, code: grpc.StatusCode) -> HardcaseError:
        address = self._settings.address
        return OverloadError(
            f"The escalator at {address} ended the stream ({code.name})", retry_after_s=0.0
        )

    def _say(self, text: str) -> None:
        """Logs a change of state once, not once per attempt."""
        if text != self._said:
            self._said = text
            log.info("%s", text)


def _mistrust(error: grpc.aio.AioRpcError, address: str) -> _IdentityError | None:
    """Which side did not believe the other; None where the failure is another one."""
    details = error.details() or ""
    said = details.lower()
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        return _IdentityError(
            f"The escalator at {address} refuses this node: {details}",
            remedy="Replace escalator.tls.certificate; frames go on without the escalator",
        )
    if any(sign in said for sign in _TLS_FAILED):
        return _IdentityError(
            f"This node does not believe the escalator at {address}: {details}",
            remedy="Its certificate must be valid, name that host and be of an authority in "
            "escalator.tls.ca; frames go on without it",
        )
    if all(sign in said for sign in _REFUSED_BY_OTHER):
        return _IdentityError(
            f"{address} ended the connection in the handshake, as an escalator does that does not "
            f"accept this node's certificate: {details}",
            remedy="The certificate must be valid and of an authority in the escalator's tls.ca; "
            "frames go on without it",
        )
    return None


def _failure_of(error: HardcaseError) -> LinkFailure:
    if isinstance(error, _IdentityError):
        return LinkFailure.IDENTITY
    if isinstance(error, ConfigError):
        foreign = "not a Hardcase escalator" in error.message
        return LinkFailure.NOT_AN_ESCALATOR if foreign else LinkFailure.REFUSED
    if isinstance(error, OverloadError):
        return LinkFailure.ENDED_BY_ESCALATOR
    return LinkFailure.UNAVAILABLE
