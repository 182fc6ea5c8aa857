"""What the documents say of the escalator is what it does."""

from __future__ import annotations

import asyncio
import re
import typing
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pydantic
import pytest
import yaml

from cloud_escalator.app import open_escalator
from cloud_escalator.config import EscalatorSettings
from foundation.clock import SystemClock
from foundation.settings import Settings, load_settings
from tests.cloud_escalator.client import WAIT_S, connect, escalation
from tests.cloud_escalator.conftest import Configure

ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|([^|]*)\| (.+) \|$", re.MULTILINE)
SAMPLE = re.compile(r"^(escalator_\w+?)(?:_bucket|_count|_sum)?(?:\{([^}]*)\})? ", re.MULTILINE)


def exposed(text: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Metrics of an exposition: name to type and labels."""
    kinds = dict(re.findall(r"^# TYPE (escalator_\w+) (\w+)$", text, re.MULTILINE))
    labels: dict[str, frozenset[str]] = {}
    for name, given in SAMPLE.findall(text):
        labels[name] = frozenset(re.findall(r"(\w+)=", given)) - {"le"}
    return {
        name: (kind, labels[name]) for name, kind in kinds.items() if not name.endswith("_created")
    }


async def test_metrics_are_those_documented(configure: Configure, repository: Path) -> None:
    """docs/metrics.md lists every metric that is exposed with its type and labels, and no other."""
    document = (repository / "docs" / "metrics.md").read_text()
    section = document.split("## Cloud escalator\n")[1].split("\n## ")[0]
    documented = {
        name: (kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels, _ in ROW.findall(section)
    }
    async with (
        open_escalator(configure(), SystemClock()) as running,
        connect(running.port) as client,
    ):
        await client.open_stream().ask(escalation("one"))
        url = f"http://127.0.0.1:{running.telemetry_port}/metrics"
        reply = await asyncio.to_thread(urllib.request.urlopen, url, timeout=WAIT_S)
        with reply:
            assert documented == exposed(reply.read().decode())


async def test_readiness_is_served(configure: Configure) -> None:
    """Once open, /healthz and /readyz say so."""
    async with open_escalator(configure(), SystemClock()) as running:
        for path in ("healthz", "readyz"):
            url = f"http://127.0.0.1:{running.telemetry_port}/{path}"
            reply = await asyncio.to_thread(urllib.request.urlopen, url, timeout=WAIT_S)
            with reply:
                assert reply.status == 200


def documented_rows(model: type[Settings], prefix: str = "") -> Iterator[str]:
    """The table rows that docs/config-escalator.md must have, one per key."""
    for name, key in model.model_fields.items():
        kind = key.annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            yield from documented_rows(kind, f"{prefix}{name}.")
            continue
        default = "required"
        if not key.is_required():
            value = pydantic.TypeAdapter(typing.Any).dump_python(key.default, mode="json")
            default = f"`{yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}`"
        description = " ".join((key.description or "").split())
        yield f"| `{prefix}{name}` | {default} | {description} |"


@pytest.mark.parametrize("row", list(documented_rows(EscalatorSettings)))
def test_every_setting_is_documented(row: str, repository: Path) -> None:
    """docs/config-escalator.md has a row for this key with its default and its docstring."""
    assert row in (repository / "docs" / "config-escalator.md").read_text().splitlines()


def test_documented_example_is_valid(repository: Path, tmp_path: Path) -> None:
    """The example in docs/config-escalator.md can be loaded as it stands."""
    document = (repository / "docs" / "config-escalator.md").read_text()
    example = tmp_path / "escalator.yaml"
    example.write_text(document.split("```yaml\n")[1].split("```")[0])
    assert load_settings(example, EscalatorSettings).bundle.name == "cloud-reference"
