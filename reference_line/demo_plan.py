"""The demo's working folder: settings of both services that a person can read and use again."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cloud_escalator.config import EscalatorSettings
from edge_node.config import EdgeSettings
from foundation.bundle import Bundle
from foundation.errors import ConfigError
from foundation.settings import load_settings
from reference_line.optics import FRAME_RATE_HZ

BUNDLES = Path(__file__).parent / "bundles"
PAIR = ("edge-reference", "cloud-reference")
DEADLINE_S = 0.033
_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """Everything that is fixed before the demo starts.

    Attributes:
        folder: where everything is written.
        seed: of the line.
        frames: how many the camera delivers.
        edge: settings of the edge node, as read back from its file.
        escalator: settings of the escalator; None runs the edge alone.
        edge_bundle: what the edge detects with.
        cloud_bundle: what the escalator answers with.
    """

    folder: Path
    seed: int
    frames: int
    edge: EdgeSettings
    escalator: EscalatorSettings | None
    edge_bundle: Bundle
    cloud_bundle: Bundle

    @property
    def edge_folder(self) -> Path:
        """Working folder of the edge node."""
        return self.folder / "edge"

    @property
    def escalator_folder(self) -> Path:
        """Working folder of the escalator."""
        return self.folder / "escalator"

    @property
    def results(self) -> Path:
        """The edge node's result lines."""
        return Path(self.edge.results.path)

    @property
    def edge_port(self) -> int:
        """Where the edge node serves its metrics."""
        return self.edge.telemetry.port

    @property
    def escalator_port(self) -> int:
        """Where the escalator serves its metrics; 0 without an escalator."""
        return int(self.escalator.telemetry_listen.rpartition(":")[2]) if self.escalator else 0


def prepare(
    folder: Path, *, seed: int, duration_s: float, with_escalator: bool, bundles: Path
) -> DemoPlan:
    """Verifies the bundles, makes the working folder anew and writes both settings files.

    Raises:
        ConfigError: a bundle is absent, or the folder cannot be written.
        IntegrityError: a bundle is damaged.
    """
    edge_path, cloud_path = (bundles.resolve() / name for name in PAIR)
    edge_bundle, cloud_bundle = Bundle.open(edge_path), Bundle.open(cloud_path)
    folder = folder.resolve()
    frames = max(1, round(duration_s * FRAME_RATE_HZ))
    # Nothing reserves these ports until the services take them; the settings have to name them.
    escalations, edge_telemetry, escalator_telemetry = free_ports(3)
    edge = _edge_document(folder, edge_path, seed, frames, edge_telemetry)
    if with_escalator:
        edge["escalator"] = {"address": f"{_HOST}:{escalations}"}
    escalator = {
        "bundle": str(cloud_path),
        "listen": f"{_HOST}:{escalations}",
        "telemetry_listen": f"{_HOST}:{escalator_telemetry}",
        "drain_s": 5.0,
        # The machine is shared with the edge here, which is meant to feel nothing of it.
        "inference": {"threads": 1},
    }
    try:
        for part in ("edge", "escalator"):
            # What an earlier run left must not be taken for this one's.
            shutil.rmtree(folder / part, ignore_errors=True)
        edge_file = _write(folder / "edge" / "edge.yaml", edge, "edge-node run")
        escalator_file = None
        if with_escalator:
            escalator_file = _write(
                folder / "escalator" / "escalator.yaml", escalator, "cloud-escalator serve"
            )
    except OSError as error:
        raise ConfigError(
            f"Cannot write the demo's folder {folder}: {error}", remedy="Choose another with --out"
        ) from error
    return DemoPlan(
        folder,
        seed,
        frames,
        load_settings(edge_file, EdgeSettings),
        load_settings(escalator_file, EscalatorSettings) if escalator_file else None,
        edge_bundle,
        cloud_bundle,
    )


def seen_in_training(plan: DemoPlan) -> bool:
    """Whether a bundle's card says that it was trained on a line of this very seed."""
    for bundle in (plan.edge_bundle, plan.cloud_bundle):
        try:
            dataset = json.loads(bundle.info.model_card.dataset)
            if dataset["info"]["seed"] == plan.seed:
                return True
        except (ValueError, KeyError, TypeError):
            continue  # a card in free words
    return False


def free_ports(count: int) -> list[int]:
    """Different TCP ports of this machine that nobody listens on at this moment."""
    sockets = [socket.create_server((_HOST, 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _edge_document(
    folder: Path, bundle: Path, seed: int, frames: int, telemetry_port: int
) -> dict[str, Any]:
    return {
        "site": "demo",
        "camera": "line",
        "source": {
            "kind": "line",
            "pace": "realtime",
            "frame_rate_hz": FRAME_RATE_HZ,
            "parameters": {"seed": seed, "frames_max": frames},
        },
        "detector": {"bundle": str(bundle)},
        "deadline": {"deadline_s": DEADLINE_S},
        "results": {"path": str(folder / "edge" / "results.jsonl")},
        "telemetry": {"host": _HOST, "port": telemetry_port},
    }


def _write(path: Path, document: dict[str, Any], command: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"# Written by the demo. Run it again by hand: {command} --config {path.name}\n"
    path.write_text(head + yaml.safe_dump(document, sort_keys=False), "utf-8")
    return path
