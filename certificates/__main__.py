"""The command line that makes certificates for development and trials.

hardcase-certs quickstart SITE [CAMERA ...] [--host HOST ...] [--out FOLDER]
hardcase-certs init [--out FOLDER]
hardcase-certs server HOST [HOST ...] [--ca FOLDER] [--out NAME]
hardcase-certs device SITE [CAMERA ...] [--ca FOLDER] [--out NAME]
hardcase-certs revoke CERTIFICATE [--ca FOLDER]
hardcase-certs show CERTIFICATE
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from certificates.authority import CA_CERTIFICATE, REVOKED, Authority, Issued, read_certificate
from foundation.certificates import describe
from foundation.identity import DeviceName, names_of
from foundation.supervision import exit_code_of

DEFAULT_FOLDER = Path("hardcase-certs")
AUTHORITY_DAYS, LEAF_DAYS = 1825.0, 90.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code of the process."""
    options = _parser().parse_args(arguments)
    return exit_code_of(lambda: options.run(options))


def _init(options: argparse.Namespace) -> None:
    _create(options.out, options.days)


def _server(options: argparse.Namespace) -> None:
    authority = Authority.open(options.ca)
    paths = _paths(options, options.hosts[0])
    authority.issue_server(options.hosts, paths, days=options.days)
    _print_settings(
        f"The escalator at {', '.join(options.hosts)}", "tls:", options.ca, paths, REVOKED
    )


def _device(options: argparse.Namespace) -> None:
    authority = Authority.open(options.ca)
    names = [DeviceName(options.site, camera) for camera in options.cameras or [None]]
    paths = _paths(options, "-".join((options.site, *options.cameras)))
    authority.issue_device(names, paths, days=options.days)
    title = f"The edge node {', '.join(name.uri for name in names)}"
    _print_settings(title, "escalator:\n  tls:", options.ca, paths)


def _quickstart(options: argparse.Namespace) -> None:
    _create(options.out, AUTHORITY_DAYS)
    options.hosts = options.hosts or ["localhost", "127.0.0.1", "::1"]
    options.ca, options.out = options.out, None
    _server(options)
    _device(options)


def _revoke(options: argparse.Namespace) -> None:
    authority = Authority.open(options.ca)
    certificate = read_certificate(options.certificate)
    authority.revoke(certificate)
    print(f"Revoked: {describe(certificate)}")
    print(f"Bring {options.ca / REVOKED} to where `tls.revoked` of each escalator points.")


def _show(options: argparse.Namespace) -> None:
    certificate = read_certificate(options.certificate)
    print(describe(certificate))
    for name in names_of(certificate):
        print(name.uri)


def _create(folder: Path, days: float) -> None:
    Authority.create(folder, days=days)
    print(f"An authority is in {folder}; whoever has its ca.key can make certificates.")


def _paths(options: argparse.Namespace, name: str) -> Issued:
    base = options.out or options.ca / quote(name, safe="")
    return Issued(base.with_name(f"{base.name}.crt"), base.with_name(f"{base.name}.key"))


def _print_settings(
    title: str, keys: str, authority: Path, paths: Issued, revoked: str = ""
) -> None:
    indent = "    " if "\n" in keys else "  "
    lines = [
        keys,
        f"{indent}ca: {(authority / CA_CERTIFICATE).resolve()}",
        f"{indent}certificate: {paths.certificate.resolve()}",
        f"{indent}key: {paths.key.resolve()}",
    ]
    if revoked:
        lines.append(f"{indent}revoked: {(authority / revoked).resolve()}")
    print(f"\n{title}, in its settings:\n")
    print("\n".join(lines))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hardcase-certs",
        description="Makes certificates for development and trials. In production the "
        "organization's own authority makes them (docs/security.md).",
    )
    commands = parser.add_subparsers(required=True)
    days = argparse.ArgumentParser(add_help=False)
    days.add_argument("--days", type=_days, default=LEAF_DAYS, help="validity (%(default)g)")
    ca = argparse.ArgumentParser(add_help=False)
    ca.add_argument(
        "--ca", type=Path, default=DEFAULT_FOLDER, help="the authority's folder (%(default)s)"
    )
    out = argparse.ArgumentParser(add_help=False)
    out.add_argument("--out", type=Path, metavar="NAME", help="writes NAME.crt and NAME.key")

    quickstart = commands.add_parser(
        "quickstart", parents=[days], help="an authority, a server and a device at once"
    )
    quickstart.add_argument("--out", type=Path, default=DEFAULT_FOLDER, help="folder (%(default)s)")
    quickstart.add_argument(
        "--host",
        dest="hosts",
        action="append",
        metavar="HOST",
        help="name or address that the server is reached by; may be repeated (localhost)",
    )
    quickstart.set_defaults(run=_quickstart)
    init = commands.add_parser("init", help="an authority")
    init.add_argument("--out", type=Path, default=DEFAULT_FOLDER, help="folder (%(default)s)")
    init.add_argument("--days", type=_days, default=AUTHORITY_DAYS, help="validity (%(default)g)")
    init.set_defaults(run=_init)
    server = commands.add_parser("server", parents=[ca, out, days], help="an escalator's")
    server.add_argument("hosts", nargs="+", metavar="HOST", help="name or address it is reached by")
    server.set_defaults(run=_server)
    device = commands.add_parser("device", parents=[ca, out, days], help="an edge node's")
    device.set_defaults(run=_device)
    for command in (quickstart, device):
        command.add_argument("site", metavar="SITE", help="as `site` in its settings")
        command.add_argument(
            "cameras", nargs="*", metavar="CAMERA", help="as `camera`; none: all of the site"
        )
    revoke = commands.add_parser("revoke", parents=[ca], help="take a certificate back")
    revoke.set_defaults(run=_revoke)
    show = commands.add_parser("show", help="whom a certificate names, and until when")
    show.set_defaults(run=_show)
    for command in (revoke, show):
        command.add_argument("certificate", type=Path, metavar="CERTIFICATE")
    return parser


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days <= 36_500:
        raise argparse.ArgumentTypeError("is not between 0 and 36500")
    return days


if __name__ == "__main__":
    sys.exit(main())
