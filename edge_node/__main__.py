"""The command line of the edge node: `edge-node run`, `spool`, `egress` and `schema`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_node.config import EdgeSettings
from foundation.errors import ConfigError
from foundation.settings import load_settings, parse_settings

if TYPE_CHECKING:
    from edge_node.adapters.spool.database import SpoolDatabase


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the process's exit code."""
    options = _parser().parse_args(arguments)
    if options.command == "schema":
        print(json.dumps(EdgeSettings.model_json_schema(), indent=2))
        return 0
    if options.command in ("spool", "egress"):
        from foundation.supervision import exit_code_of

        inspect = _inspect_spool if options.command == "spool" else _inspect_egress
        ended: list[int] = []
        code = exit_code_of(lambda: ended.append(inspect(options)))
        return code or ended[0]
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


def _inspect_spool(options: argparse.Namespace) -> int:
    """Runs `edge-node spool`; returns 1 where `check` found something, else 0."""
    import sqlite3

    from edge_node.adapters.spool.cipher import Cipher
    from edge_node.adapters.spool.database import SpoolDatabase

    spool = EdgeSettings().spool
    if options.config is not None:
        spool = load_settings(Path(options.config), EdgeSettings).spool
    folder = options.folder or spool.folder
    if not folder:
        raise ConfigError(
            "No spool is given", remedy="Give --folder, or --config with spool.folder"
        )
    purges = options.action == "purge"
    if purges and not options.yes:  # before anything is opened for writing
        raise ConfigError("Purging cannot be undone", remedy="Say --yes if it is meant")
    cipher = Cipher.from_file(options.key_file or spool.key_file)
    try:
        with SpoolDatabase.open(Path(folder), cipher, read_only=not purges, make=False) as database:
            if not purges or options.state == "ended":
                return _look_into(database, folder, options)
            with _owning(Path(folder)):
                return _look_into(database, folder, options)
    except (sqlite3.Error, OSError) as error:
        raise ConfigError(
            f"Cannot read the spool in {folder}: {error}",
            remedy="Run this as the user of the edge node, which moves a damaged one aside",
        ) from error


@contextmanager
def _owning(folder: Path) -> Iterator[None]:
    """Keeps edge nodes away: what one has in hand would get no end in its results."""
    from edge_node.adapters.spool.folder import FolderLock

    with ExitStack() as stack:
        try:
            stack.enter_context(FolderLock(folder))
        except ConfigError as error:
            raise ConfigError(
                f"What waits in {folder} cannot be purged: {error.message}",
                remedy="Stop the edge node first, or purge with --state ended",
            ) from error
        yield


def _look_into(database: SpoolDatabase, folder: str, options: argparse.Namespace) -> int:
    """Does what `edge-node spool` is asked."""
    from edge_node.adapters.spool import inspection
    from foundation.clock import SystemClock

    clock = SystemClock()
    match options.action:
        case "ls":
            state, limit = options.state, options.limit
            lines = inspection.list_entries(database, clock, state=state, limit=limit)
        case "show":
            entry = inspection.find_entry(database, options.id)
            target = Path(options.out or f"{entry.id[:12]}.png")
            lines = inspection.draw_entry(database, entry, target)
        case "export":
            lines = inspection.export_coco(database, Path(options.out))
        case "purge":
            chosen = {"ended": "outcome <> ''", "waiting": "outcome = ''", "all": ""}
            entries = list(database.entries(chosen[options.state]))
            lines = iter([f"{inspection.purge(database, entries, clock)} are purged"])
        case _:
            damages = list(database.damages())
            print("\n".join(damages) or f"{folder}: nothing is damaged")
            return int(bool(damages))
    for line in lines:
        print(line)
    return 0


def _inspect_egress(options: argparse.Namespace) -> int:
    """Runs `edge-node egress`; returns 1 where there is a break or what cannot be read, else 0."""
    from edge_node.adapters.egress_ledger import find_breaks, report

    egress = EdgeSettings().egress
    if options.config is not None:
        egress = load_settings(Path(options.config), EdgeSettings).egress
    folder = options.folder or egress.ledger
    if not folder:
        raise ConfigError(
            "No ledger is given", remedy="Give --folder, or --config with egress.ledger"
        )
    if options.action == "check":
        lines = list(find_breaks(Path(folder)))
        wrong = len(lines) - 1
    else:
        lines, wrong = report(Path(folder))
    for line in lines:
        print(line)
    return int(wrong > 0)


def guess_source(text: str) -> dict[str, str]:
    """The kind of source that a quick start means: a device, a folder, an entry point, a file."""
    path = Path(text)
    try:
        is_folder, is_file, exists = path.is_dir(), path.is_file(), path.exists()
    except OSError:  # too long for a path, say
        is_folder = is_file = exists = False
    if is_folder:
        return {"kind": "images", "uri": text}
    if text.startswith("/dev/") and not is_file:  # files may lie in /dev/shm
        return {"kind": "v4l2", "uri": text}
    if path.suffix or exists or "/" in text:
        return {"kind": "video", "uri": text}
    return {"kind": text, "uri": ""}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-node", description="Detects under a deadline and escalates what is doubtful."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("schema", help="print the JSON Schema of the settings file")
    _add_spool(commands.add_parser("spool", help="look into the durable spool"))
    _add_egress(commands.add_parser("egress", help="read the ledger of what has left the site"))
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


def _add_spool(spool: argparse.ArgumentParser) -> None:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", metavar="FILE", help="settings that name the spool")
    common.add_argument("--folder", metavar="FOLDER", help="the spool; overrides the settings")
    common.add_argument("--key-file", metavar="FILE", help="its key; overrides the settings")
    actions = spool.add_subparsers(dest="action", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, description=text, parents=[common])

    listed = add("ls", "list escalations, the newest first")
    listed.add_argument("--state", choices=["waiting", "ended", "all"], default="all")
    listed.add_argument("--limit", type=int, default=50, help="0 lists all (default 50)")
    shown = add("show", "draw one crop with both opinions")
    shown.add_argument("id", help="the id, or how it begins")
    shown.add_argument("--out", metavar="FILE", help="the picture (default: ID.png)")
    exported = add(
        "export",
        "write answered crops and both opinions as COCO files, of a damaged spool the rest",
    )
    exported.add_argument("--out", metavar="FOLDER", required=True, help="a new folder")
    purged = add("purge", "drop crops; those that wait end as evicted")
    purged.add_argument(
        "--state",
        choices=["waiting", "ended", "all"],
        default="ended",
        help="what waits may go only while no edge node has the spool",
    )
    purged.add_argument("--yes", action="store_true", help="it is meant")
    add("check", "look for damage; exit status 1 where there is some")


def _add_egress(egress: argparse.ArgumentParser) -> None:
    actions = egress.add_subparsers(dest="action", required=True)
    for name, text in (
        ("report", "sum up what left by day, camera and reason; exit status 1 where unreadable"),
        ("check", "verify the chain of entries; exit status 1 where it is broken"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("--config", metavar="FILE", help="settings that name the ledger")
        action.add_argument("--folder", metavar="FOLDER", help="it; overrides the settings")


if __name__ == "__main__":
    sys.exit(main())
