"""The command as an operator meets it: a process, its exit code, its last words."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import shutil
import signal
import socket
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import grpc
import numpy as np
import pytest

from foundation.bundle import Smoke
from foundation.errors import EXIT_CONFIG, EXIT_OK
from foundation.escalations import Answer
from tests.cloud_escalator.client import WAIT_S, connect, escalation, scrape_until
from tests.support.bundles import make_bundle
from tests.support.processes import running

READY = re.compile(rb"ready: escalations on port (\d+), telemetry on port (\d+)")


def command(
    *arguments: str | Path,
) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """`cloud-escalator` with these arguments; killed if the test leaves it running."""
    return running("cloud_escalator", *arguments)


async def last_words(*arguments: str | Path) -> tuple[int, str, str]:
    """Runs the command to its end; returns exit code, standard output and standard error."""
    async with command(*arguments) as process:
        out, err = await asyncio.wait_for(process.communicate(), WAIT_S)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


async def wait_until_ready(process: asyncio.subprocess.Process) -> tuple[int, int]:
    """Returns the ports of escalations and telemetry once the process serves."""
    assert process.stderr is not None
    while True:
        line = await asyncio.wait_for(process.stderr.readline(), WAIT_S)
        assert line, "the process ended before it was ready"
        if match := READY.search(line):
            return int(match.group(1)), int(match.group(2))


def quick_start(bundle: Path) -> list[str]:
    """Arguments that serve a bundle on free ports."""
    free = "127.0.0.1:0"
    return ["serve", "--bundle", str(bundle), "--listen", free, "--telemetry-listen", free]


async def test_drains_on_sigterm(bundle_path: Path, tmp_path: Path) -> None:
    """After SIGTERM what is under way is answered, the stream ends in order, the exit code is 0."""
    config = tmp_path / "escalator.yaml"
    config.write_text("batch: {idle_wait_s: 1.0}\n")
    arguments = [*quick_start(bundle_path), "--config", str(config)]
    async with command(*arguments) as process:
        port, telemetry_port = await wait_until_ready(process)
        async with connect(port) as client:
            stream = client.open_stream()
            await stream.send(escalation("last"))
            await scrape_until(telemetry_port, "escalator_queue_requests", 1)
            process.send_signal(signal.SIGTERM)
            verdict = await stream.receive()
            assert isinstance(verdict.outcome, Answer)
            assert await stream.status() is grpc.StatusCode.OK
        assert await asyncio.wait_for(process.wait(), WAIT_S) == EXIT_OK


async def test_port_in_use_ends_with_the_remedy(bundle_path: Path) -> None:
    """Either port taken: exit code 78, the address, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for option in ("--listen", "--telemetry-listen"):
            code, _, err = await last_words(*quick_start(bundle_path), option, address)
            assert code == EXIT_CONFIG
            assert address in err
            assert "Stop what uses" in err or "Choose another" in err
            assert "Traceback" not in err


def spoil(bundle: Path, path: Path, damage: str) -> None:
    """Puts a bundle with this kind of damage at a path."""
    if damage in ("altered", "incomplete"):
        shutil.copytree(bundle, path)
    if damage == "altered":
        (path / "model.onnx").write_bytes((path / "model.onnx").read_bytes()[:-1])
    elif damage == "incomplete":
        (path / "thresholds.json").unlink()
    elif damage == "foreign":
        path.write_text("GIF89a")
    elif damage == "no model":
        dataclasses.replace(make_bundle(), model=b"not ONNX").write(path)
    elif damage == "other model":
        # Sound in itself, but it does not see what the smoke test promises.
        sound = make_bundle()
        black = Smoke(np.zeros_like(sound.smoke.pixels), sound.smoke.expected)
        dataclasses.replace(sound, smoke=black).write(path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("absent", "There is no bundle"),
        ("altered", "model.onnx differs from the digest"),
        ("incomplete", "thresholds.json is missing or unreadable"),
        ("foreign", "neither a bundle directory nor a .zip"),
        ("no model", "cannot load the model"),
        ("other model", "smoke test expected"),
    ],
)
async def test_unusable_bundle_ends_with_its_name(
    bundle_path: Path, tmp_path: Path, damage: str, said: str
) -> None:
    """A bundle that cannot be trusted is not served: exit code 78, which file, no traceback."""
    path = tmp_path / "bundle"
    spoil(bundle_path, path, damage)
    code, _, err = await last_words(*quick_start(path))
    assert code == EXIT_CONFIG
    assert said in err
    assert str(path) in err or "squares" in err
    assert "Traceback" not in err


async def test_unknown_key_ends_with_the_nearest_one(bundle_path: Path, tmp_path: Path) -> None:
    """A misspelt key names the file, the key and what was probably meant."""
    config = tmp_path / "escalator.yaml"
    config.write_text(f"bundle: {bundle_path}\nlimits: {{queue_request_max: 3}}\n")
    code, _, err = await last_words("serve", "--config", config)
    assert code == EXIT_CONFIG
    assert str(config) in err
    assert "limits.queue_request_max" in err
    assert "queue_requests_max" in err


async def test_absent_provider_ends_with_those_there_are(bundle_path: Path, tmp_path: Path) -> None:
    """An accelerator that is not there is an error, not a silent fallback."""
    config = tmp_path / "escalator.yaml"
    config.write_text("inference: {providers: [NoSuchExecutionProvider]}\n")
    code, _, err = await last_words(*quick_start(bundle_path), "--config", config)
    assert code == EXIT_CONFIG
    assert "NoSuchExecutionProvider" in err
    assert "CPUExecutionProvider" in err


async def test_missing_bundle_key_is_named(tmp_path: Path) -> None:
    """Without a bundle there is nothing to serve, and the message says which key gives one."""
    config = tmp_path / "escalator.yaml"
    config.write_text("drain_s: 1\n")
    code, _, err = await last_words("serve", "--config", config)
    assert code == EXIT_CONFIG
    assert "'bundle' is missing" in err


async def test_schema_describes_every_key() -> None:
    """`schema` prints a JSON Schema in which every key has a description."""
    code, out, _ = await last_words("schema")
    assert code == EXIT_OK
    schema = json.loads(out)
    for model in (schema, *schema["$defs"].values()):
        for name, key in model.get("properties", {}).items():
            # A section whose own description says the same is not described twice.
            assert key.get("description") or "$ref" in key, name
