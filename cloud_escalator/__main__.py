"""The command line of the escalator.

cloud-escalator serve --config escalator.yaml
cloud-escalator serve --bundle BUNDLE [--listen HOST:PORT] [--telemetry-listen HOST:PORT]
cloud-escalator schema
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from foundation.errors import EXIT_OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code of the process."""
    options = _parser().parse_args(arguments)
    if options.command == "schema":
        from cloud_escalator.config import EscalatorSettings

        print(json.dumps(EscalatorSettings.model_json_schema(), indent=2))
        return EXIT_OK
    return _serve(options)


def _serve(options: argparse.Namespace) -> int:
    import asyncio

    from cloud_escalator.app import serve
    from cloud_escalator.config import EscalatorSettings
    from foundation.settings import load_settings, parse_settings
    from foundation.supervision import run_service

    async def run(stop: asyncio.Event) -> None:
        given = {
            key: value
            for key in ("bundle", "listen", "telemetry_listen")
            if (value := getattr(options, key)) is not None
        }
        if options.config is None:
            settings = parse_settings(given, EscalatorSettings, origin="command line")
        else:
            settings = load_settings(options.config, EscalatorSettings, instead=given)
        await serve(settings, stop)

    return run_service(run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cloud-escalator", description="Answers the edge's doubtful crops with a large model."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve until SIGTERM, then drain and exit")
    serve.add_argument("--config", type=Path, help="YAML settings (docs/config-escalator.md)")
    serve.add_argument("--bundle", type=Path, help="model bundle; overrides the settings")
    serve.add_argument("--listen", metavar="HOST:PORT", help="overrides the settings")
    serve.add_argument("--telemetry-listen", metavar="HOST:PORT", help="overrides the settings")
    commands.add_parser("schema", help="print the JSON Schema of the settings, for editors")
    return parser


if __name__ == "__main__":
    sys.exit(main())
