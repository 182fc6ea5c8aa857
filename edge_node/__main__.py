"""The command line of the edge node: `edge-node run` and `edge-node schema`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_node.config import EdgeSettings
from foundation.errors import ConfigError
from foundation.settings import load_settings, parse_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the process's exit code."""
    options = _parser().parse_args(arguments)
    if options.command == "schema":
        print(json.dumps(EdgeSettings.model_json_schema(), indent=2))
        return 0
    from edge_node.app import run_edge
    from foundation.supervision import exit_code_of, run_service

    settings: list[EdgeSettings] = []
    code = exit_code_of(lambda: settings.append(settings_from(options)))
    return code or run_service(lambda stop: run_edge(settings[0], stop))


def settings_from(options: argparse.Namespace) -> EdgeSettings:
    """The settings of the file, or the defaults, with what the flags override.

    Raises:
        ConfigError: They do not validate.
    """
    base = EdgeSettings()
    if options.config is not None:
        base = load_settings(Path(options.config), EdgeSettings)
    document: dict[str, Any] = base.model_dump()
    if options.source is not None:
        document["source"] = {**document["source"], **guess_source(options.source)}
    if options.camera is not None:
        document["camera"] = options.camera
    if options.site is not None:
        document["site"] = options.site
    for flag, section, key in (
        (options.pace, "source", "pace"),
        (options.bundle, "detector", "bundle"),
        (options.escalator, "escalator", "address"),
        (options.results, "results", "path"),
        (options.telemetry_port, "telemetry", "port"),
    ):
        if flag is not None:
            document[section][key] = flag
    settings = parse_settings(document, EdgeSettings, origin="command line")
    if not settings.detector.bundle:
        raise ConfigError(
            "No edge bundle is given", remedy="Give --bundle, or detector.bundle in the settings"
        )
    return settings


def guess_source(text: str) -> dict[str, str]:
    """The kind of source that a quick start means: a device, a folder, an entry point, a file."""
    path = Path(text)
    if text.startswith("/dev/"):
        return {"kind": "v4l2", "uri": text}
    if path.is_dir():
        return {"kind": "images", "uri": text}
    if path.suffix or path.exists() or "/" in text:
        return {"kind": "video", "uri": text}
    return {"kind": text, "uri": ""}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-node", description="Detects under a deadline and escalates what is doubtful."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("schema", help="print the JSON Schema of the settings file")
    run = commands.add_parser("run", help="run until the source ends or SIGTERM")
    run.add_argument("--config", metavar="FILE", help="YAML settings; flags override them")
    run.add_argument(
        "--source",
        metavar="SOURCE",
        help="video file, folder of images, /dev/videoN, or an installed source such as line",
    )
    run.add_argument("--bundle", metavar="PATH", help="edge bundle: a directory or .zip")
    run.add_argument("--escalator", metavar="HOST:PORT", help="cloud escalator; none runs alone")
    run.add_argument("--results", metavar="FILE", help="where JSON lines go; - is standard output")
    run.add_argument("--pace", choices=["realtime", "unpaced"], help="how files are played")
    run.add_argument("--camera", metavar="NAME", help="name of this camera")
    run.add_argument("--site", metavar="NAME", help="name of this installation")
    run.add_argument("--telemetry-port", metavar="PORT", type=int, help="0 takes a free one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
