"""How many crops per second the escalator answers, beside bare decoding and `session.run`.

    python benchmarks/escalator_throughput.py --bundle BUNDLE [--json FILE]

Rounds alternate between the two, so that both see the same machine. Bare is the least that can be
done: the same decoding threads decompress the same crops into a prepared batch while the same
session, with as many threads, runs the previous one; nothing is received, admitted, letterboxed,
post-processed or answered. Served is `cloud-escalator serve` in a process of its own, asked over
gRPC on loopback by this one with a fixed number of requests under way; client and server share the
machine, so on few cores the client's cost counts against the server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import grpc.aio
import numpy as np
import psutil
import yaml

from foundation.bundle import Bundle
from foundation.clock import SystemClock, after_s
from foundation.escalations import Encoding, Escalation, LabelledBoxes, Region
from foundation.images import encode_image
from foundation.session import ModelSession
from foundation.wire import escalation_to_proto
from protos.escalation.v1 import escalation_pb2

METHOD = "/hardcase.escalation.v1.EscalationService/Escalate"
EXPIRY_S = 120.0
DISTINCT_CROPS = 32
NO_LIMITS = {"stream_requests_max": 10_000, "queue_requests_max": 10_000}
NO_QUOTA = {
    "device_requests_per_s": 1e6,
    "device_requests_burst": 1e6,
    "device_bytes_per_s": 1e12,
    "device_bytes_burst": 1e12,
}


@dataclass(frozen=True, slots=True)
class Round:
    """One comparison, both sides measured directly after one another.

    The CPU times are per crop: of this process for bare, of the server process for served. On a
    machine that others use too they say more than the rates.
    """

    bare_crops_per_s: float
    served_crops_per_s: float
    bare_cpu_s: float
    server_cpu_s: float

    @property
    def ratio(self) -> float:
        """Served over bare."""
        return self.served_crops_per_s / self.bare_crops_per_s


def make_crops(bundle: Bundle, encoding: Encoding) -> list[bytes]:
    """Compressed crops of the model's native size: the smoke image, each with its own noise."""
    rng = np.random.default_rng(7)
    size = (bundle.info.input.width, bundle.info.input.height)
    base = cv2.resize(bundle.smoke.pixels, size, interpolation=cv2.INTER_AREA)
    crops = []
    for _ in range(DISTINCT_CROPS):
        noise = cv2.GaussianBlur(rng.normal(0.0, 12.0, size=(size[1], size[0], 3)), (3, 3), 0)
        pixels = np.clip(base + noise, 0, 255).astype(np.uint8)
        crops.append(encode_image(pixels, encoding, 90))
    return crops


class Bare:
    """Decoding and `session.run`, pipelined, and nothing else.

    Args:
        bundle: the model.
        threads: of the session.
        decode_threads: beside them.
        batch: crops per run.
    """

    def __init__(self, bundle: Bundle, threads: int, decode_threads: int, batch: int) -> None:
        contract = bundle.info.input
        self._batch = batch
        self._nhwc = contract.layout == "NHWC"
        session = ModelSession.open(bundle.model, intra_op_threads=threads)
        sides = (contract.height, contract.width, 3)
        shape = sides if self._nhwc else (3, contract.height, contract.width)
        # Two sets of buffers: one is filled while the other one runs.
        self._buffers = [session.bind((batch, *shape)) for _ in range(2)]
        self._pool = ThreadPoolExecutor(decode_threads)
        for buffers in self._buffers:
            buffers.run()

    def run(self, crops: list[bytes], count: int) -> float:
        """Returns crops per second over `count` crops (rounded down to whole batches)."""
        batches = count // self._batch
        started_s = time.perf_counter()
        filling = self._fill(crops, 0)
        for number in range(batches):
            for future in filling:
                future.result()
            if number + 1 < batches:
                filling = self._fill(crops, number + 1)
            self._buffers[number % 2].run()
        return batches * self._batch / (time.perf_counter() - started_s)

    def _fill(self, crops: list[bytes], number: int) -> list[Future[None]]:
        target = self._buffers[number % 2].input

        def decode(position: int) -> None:
            data = np.frombuffer(crops[(number * self._batch + position) % len(crops)], np.uint8)
            pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
            target[position] = pixels if self._nhwc else pixels.transpose(2, 0, 1)

        return [self._pool.submit(decode, position) for position in range(self._batch)]


class Client:
    """Keeps a fixed number of requests under way on one stream, at the least cost of its own."""

    def __init__(self, port: int, bundle: Bundle, crops: list[bytes], encoding: Encoding) -> None:
        self._port = port
        self._crops = crops
        side = Region(0, 0, bundle.info.input.width, bundle.info.input.height)
        clock = SystemClock()
        now_ns = clock.now_ns()
        template = Escalation(
            id="0",
            site="bench",
            camera="c",
            track_id=0,
            frame_sequence=0,
            captured_at_ns=now_ns,
            expires_at_ns=after_s(now_ns, EXPIRY_S),
            frame_width=side.width,
            frame_height=side.height,
            region=side,
            encoding=encoding,
            image=b"0",
            proposals=LabelledBoxes.empty(),
            edge_bundle_digest="0" * 64,
            reason="benchmark",
        )
        self._messages = []
        for data in crops:
            message = escalation_to_proto(template, sent_at_ns=now_ns)
            message.image = data
            message.ClearField("id")
            self._messages.append(message.SerializeToString())
        self._next_id = 0

    async def run(self, count: int, under_way: int) -> float:
        """Returns crops per second over `count` crops.

        Raises:
            RuntimeError: an answer is something else than detections.
        """
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._port}") as channel:
            raw: Any = channel  # the stubs do not know that messages may stay bytes
            call = raw.stream_stream(METHOD)()
            await call.wait_for_connection()
            started_s = time.perf_counter()
            for _ in range(min(under_way, count)):
                await call.write(self._message())
            sent, verdict = min(under_way, count), b""
            for _ in range(count):
                verdict = await call.read()
                if sent < count:
                    await call.write(self._message())
                    sent += 1
            elapsed_s = time.perf_counter() - started_s
            await call.done_writing()
        if escalation_pb2.Verdict.FromString(verdict).WhichOneof("outcome") != "answer":
            raise RuntimeError("the escalator did not answer; the figure would be wrong")
        return count / elapsed_s

    def _message(self) -> bytes:
        # Fields may come in any order, so a new id is appended to bytes serialized beforehand.
        number = self._next_id
        self._next_id += 1
        name = str(number).encode()
        return self._messages[number % len(self._messages)] + b"\x0a" + bytes([len(name)]) + name


@contextlib.contextmanager
def serving(
    bundle: Path, options: argparse.Namespace, limits: Mapping[str, float] = NO_LIMITS
) -> Iterator[tuple[int, psutil.Process]]:
    """The escalator in a process of its own, no device held to a quota; gives port and process."""
    settings = {
        "bundle": str(bundle),
        "listen": "127.0.0.1:0",
        "telemetry_listen": "127.0.0.1:0",
        "drain_s": 1.0,
        "inference": {"threads": options.threads},
        "decode": {"threads": options.decode_threads},
        "batch": {"size_max": options.batch},
        "limits": {**NO_QUOTA, **limits},
    }
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "escalator.yaml"
        config.write_text(yaml.safe_dump(settings))
        process = subprocess.Popen(
            [sys.executable, "-m", "cloud_escalator", "serve", "--config", str(config)],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            port = 0
            for line in process.stderr or ():
                if "ready: escalations on port " in line:
                    port = int(line.split("escalations on port ")[1].split(",")[0])
                    break
                sys.stderr.write(line)
            if not port:
                raise RuntimeError("the escalator did not start")
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs all rounds; returns what goes into the JSON file."""
    encoding = Encoding(options.encoding)
    bundle = Bundle.open(options.bundle)
    crops = make_crops(bundle, encoding)
    cv2.setNumThreads(1)
    batch = options.batch if bundle.info.input.dynamic_batch else 1
    bare = Bare(bundle, options.threads, options.decode_threads, batch)
    rounds = []
    with serving(options.bundle, options) as (port, process):
        client = Client(port, bundle, crops, encoding)
        asyncio.run(client.run(options.batch * 4, options.under_way))
        for _ in range(options.rounds):
            bare_started_s = time.process_time()
            bare_rate = bare.run(crops, options.crops)
            bare_cpu_s = (time.process_time() - bare_started_s) / options.crops
            before = process.cpu_times()
            served_rate = asyncio.run(client.run(options.crops, options.under_way))
            after = process.cpu_times()
            cpu_s = (after.user + after.system - before.user - before.system) / options.crops
            rounds.append(Round(bare_rate, served_rate, bare_cpu_s, cpu_s))
        resident_bytes = process.memory_info().rss
    return {
        "machine": {"cpus": os.cpu_count(), "processor": platform.processor()},
        "bundle": {"name": bundle.info.name, "digest": bundle.digest},
        "crop": {"encoding": encoding, "bytes": round(statistics.mean(map(len, crops)))},
        "threads": {"inference": options.threads, "decode": options.decode_threads},
        "batch": batch,
        "crops_per_round": options.crops,
        "rounds": [asdict(entry) for entry in rounds],
        "bare_crops_per_s": statistics.median(entry.bare_crops_per_s for entry in rounds),
        "served_crops_per_s": statistics.median(entry.served_crops_per_s for entry in rounds),
        "ratio": statistics.median(entry.ratio for entry in rounds),
        "bare_cpu_ms_per_crop": 1e3 * statistics.median(entry.bare_cpu_s for entry in rounds),
        "server_cpu_ms_per_crop": 1e3 * statistics.median(entry.server_cpu_s for entry in rounds),
        "server_resident_mb": resident_bytes / 1e6,
    }


def print_table(result: dict[str, Any]) -> None:
    """One line per round, and the medians."""
    print(f"{'':>8}{'bare /s':>12}{'served /s':>12}{'ratio':>8}{'bare CPU':>12}{'server CPU':>12}")
    lines = [
        (str(number), Round(**entry)) for number, entry in enumerate(result["rounds"], start=1)
    ]
    for name, one in lines:
        print(
            f"{name:>8}{one.bare_crops_per_s:>12.1f}{one.served_crops_per_s:>12.1f}{one.ratio:>8.3f}"
            f"{one.bare_cpu_s * 1e3:>9.2f} ms{one.server_cpu_s * 1e3:>9.2f} ms"
        )
    print(
        f"{'median':>8}{result['bare_crops_per_s']:>12.1f}{result['served_crops_per_s']:>12.1f}"
        f"{result['ratio']:>8.3f}{result['bare_cpu_ms_per_crop']:>9.2f} ms"
        f"{result['server_cpu_ms_per_crop']:>9.2f} ms"
    )


def main() -> None:
    """Measures, prints a table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--bundle", type=Path, default=Path("reference_line/bundles/cloud-reference")
    )
    parser.add_argument("--encoding", choices=[value.value for value in Encoding], default="jpeg")
    parser.add_argument("--threads", type=int, default=1, help="of one inference")
    parser.add_argument("--decode-threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crops", type=int, default=400, help="per round and side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--under-way", type=int, default=64, help="requests on the stream")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    result = measure(options)
    print_table(result)
    print(f"server resident: {result['server_resident_mb']:.0f} MB")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
