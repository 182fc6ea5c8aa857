"""Resident memory of the escalator under a steady mixed load, and whether it stays flat.

    python -m benchmarks.escalator_memory --bundle BUNDLE [--duration-s 600] [--json FILE]

The load is crops of ever other sizes and all encodings, every hundredth one broken, every fiftieth
id repeated, and a new stream every few seconds. Growth is the slope of a straight line through the
second half of the samples: the first half may still fill what is bounded (remembered verdicts,
buffers of new sizes).
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import cv2
import grpc.aio
import numpy as np
import psutil

from benchmarks.escalator_throughput import EXPIRY_S, serving
from foundation.bundle import Bundle
from foundation.clock import SystemClock, after_s
from foundation.escalations import Encoding, Escalation, LabelledBoxes, Region
from foundation.images import encode_image
from foundation.wire import escalation_to_proto
from protos.escalation.v1 import escalation_pb2_grpc

REQUESTS_PER_STREAM = 200
SAMPLE_S = 1.0


def make_requests(bundle: Bundle) -> list[Escalation]:
    """Two hundred requests of different sizes and encodings, two of them broken."""
    rng = np.random.default_rng(7)
    clock = SystemClock()
    requests = []
    for number in range(REQUESTS_PER_STREAM):
        width, height = (int(side) for side in rng.integers(24, 320, 2))
        pixels = np.asarray(cv2.resize(bundle.smoke.pixels, (width, height)), np.uint8)
        encoding = list(Encoding)[number % 3]
        image = encode_image(pixels, encoding, 90) if number % 100 != 99 else b"broken"
        now_ns = clock.now_ns()
        requests.append(
            Escalation(
                id="",
                site="bench",
                camera="c",
                track_id=number,
                frame_sequence=number,
                captured_at_ns=now_ns,
                expires_at_ns=after_s(now_ns, EXPIRY_S),
                frame_width=1280,
                frame_height=960,
                region=Region(0, 0, width, height),
                encoding=encoding,
                image=image,
                proposals=LabelledBoxes.empty(),
                edge_bundle_digest="0" * 64,
                reason="benchmark",
            )
        )
    return requests


async def load(port: int, requests: list[Escalation], rate_hz: float, until_s: float) -> int:
    """Sends requests at a steady rate, a new stream for each round; returns how many were sent."""
    sent = 0
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = escalation_pb2_grpc.EscalationServiceStub(channel)
        while time.monotonic() < until_s:
            call = stub.Escalate()
            for request in requests:
                # Every fiftieth request repeats the id of the one before.
                name = str(sent - 1 if sent % 50 == 49 else sent)
                named = dataclasses.replace(request, id=name)
                await call.write(escalation_to_proto(named, sent_at_ns=request.captured_at_ns))
                await call.read()
                sent += 1
                await asyncio.sleep(1 / rate_hz)
            await call.done_writing()
    return sent


async def observe(port: int, process: psutil.Process, options: argparse.Namespace) -> list[float]:
    """Samples resident megabytes while the load runs."""
    requests = make_requests(Bundle.open(options.bundle))
    until_s = time.monotonic() + options.duration_s
    task = asyncio.create_task(load(port, requests, options.rate_hz, until_s))
    samples = []
    while not task.done():
        samples.append(process.memory_info().rss / 1e6)
        await asyncio.wait({task}, timeout=SAMPLE_S)
    print(f"{task.result()} requests in {options.duration_s:.0f} s")
    return samples


def main() -> None:
    """Measures, prints and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--bundle", type=Path, default=Path("reference_line/bundles/cloud-reference")
    )
    parser.add_argument("--duration-s", type=float, default=60.0)
    parser.add_argument("--rate-hz", type=float, default=100.0, help="requests per second, at most")
    parser.add_argument("--threads", type=int, default=2, help="of one inference")
    parser.add_argument("--decode-threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    with serving(options.bundle, options) as (port, process):
        samples = asyncio.run(observe(port, process, options))
    late = samples[len(samples) // 2 :]
    seconds = np.arange(len(late)) * SAMPLE_S
    growth_mb_per_min = float(np.polyfit(seconds, late, 1)[0] * 60) if len(late) > 1 else 0.0
    result = {
        "resident_mb_max": max(samples),
        "resident_mb_half_way": late[0],
        "resident_mb_end": samples[-1],
        "growth_mb_per_min": growth_mb_per_min,
        "duration_s": options.duration_s,
    }
    for name, value in result.items():
        print(f"{name:>24}{value:>10.2f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
