"""`hardcase-certs` as a person meets it."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from certificates.__main__ import main
from certificates.authority import read_certificate
from cloud_escalator.config import EscalatorSettings
from edge_node.config import EdgeSettings
from foundation.errors import EXIT_CONFIG, EXIT_OK
from foundation.identity import DeviceName, names_of
from foundation.settings import load_settings


def make(folder: Path, *more: str) -> None:
    """A quick start that works."""
    assert main(["quickstart", "plant", "cam 1", *more, "--out", str(folder)]) == EXIT_OK


def revoked_serials(folder: Path) -> set[int]:
    """What the list of an authority has."""
    listed = x509.load_pem_x509_crl((folder / "revoked.crl").read_bytes())
    return {entry.serial_number for entry in listed}


def test_quick_start_prints_settings_that_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both sections can be pasted into settings files as they are."""
    make(tmp_path, "--host", "escalator.example")
    _, server, device = capsys.readouterr().out.split(", in its settings:\n\n")
    (tmp_path / "escalator.yaml").write_text(
        "bundle: b\nlisten: 0.0.0.0:7443\n" + server.split("\n\n")[0]
    )
    (tmp_path / "edge.yaml").write_text(device + "  address: escalator.example:7443\n")
    escalator = load_settings(tmp_path / "escalator.yaml", EscalatorSettings)
    edge = load_settings(tmp_path / "edge.yaml", EdgeSettings)
    for path in (*escalator.tls.model_dump().values(), *edge.escalator.tls.model_dump().values()):
        assert Path(path).is_file()
    names = names_of(read_certificate(Path(edge.escalator.tls.certificate)))
    assert names == (DeviceName("plant", "cam 1"),)


def test_keys_are_their_owners_alone(tmp_path: Path) -> None:
    """Whatever the process would write otherwise."""
    make(tmp_path)
    keys = list(tmp_path.glob("*.key"))
    assert len(keys) == 3
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_each_certificate_is_for_one_use(tmp_path: Path) -> None:
    """A device's for clients, a server's for servers; 90 days."""
    make(tmp_path)
    for name, usage in (
        ("localhost.crt", ExtendedKeyUsageOID.SERVER_AUTH),
        ("plant-cam%201.crt", ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        certificate = read_certificate(tmp_path / name)
        extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        assert list(extended.value) == [usage]
        remaining = certificate.not_valid_after_utc - datetime.now(UTC)
        assert timedelta(days=89) < remaining < timedelta(days=91)


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither an authority nor a device."""
    make(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    ca = ["--ca", str(tmp_path)]
    assert main(["init", "--out", str(tmp_path)]) == EXIT_CONFIG
    assert main(["device", "plant", "cam 1", *ca]) == EXIT_CONFIG
    assert "exists already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_site_without_cameras_is_the_whole_site(tmp_path: Path) -> None:
    """And several cameras are several names."""
    make(tmp_path)
    ca = ["--ca", str(tmp_path)]
    assert main(["device", "north", *ca]) == EXIT_OK
    assert main(["device", "north", "a", "b", *ca, "--out", str(tmp_path / "x" / "y.z")]) == EXIT_OK
    assert names_of(read_certificate(tmp_path / "north.crt")) == (DeviceName("north", None),)
    two = names_of(read_certificate(tmp_path / "x" / "y.z.crt"))
    assert two == (DeviceName("north", "a"), DeviceName("north", "b"))


def test_revoking_adds_to_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once each, and the earlier ones stay."""
    make(tmp_path)
    ca = ["--ca", str(tmp_path)]
    assert main(["device", "plant", "cam 2", *ca]) == EXIT_OK
    assert revoked_serials(tmp_path) == set()
    paths = [tmp_path / "plant-cam%201.crt", tmp_path / "plant-cam%202.crt"]
    for path in [*paths, paths[0]]:
        assert main(["revoke", str(path), *ca]) == EXIT_OK
    assert revoked_serials(tmp_path) == {read_certificate(path).serial_number for path in paths}
    assert "revoked.crl" in capsys.readouterr().out


def test_another_authoritys_certificate_cannot_be_revoked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though both authorities have the same name."""
    make(tmp_path / "one")
    make(tmp_path / "two")
    path = str(tmp_path / "two" / "localhost.crt")
    assert main(["revoke", path, "--ca", str(tmp_path / "one")]) == EXIT_CONFIG
    assert "did not make this certificate" in capsys.readouterr().err


def test_show_says_whom_and_until_when(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a person with a file and a question."""
    make(tmp_path)
    capsys.readouterr()
    assert main(["show", str(tmp_path / "plant-cam%201.crt")]) == EXIT_OK
    shown = capsys.readouterr().out
    assert "hardcase://plant/cam%201" in shown
    assert "valid until" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["device", "plant", "--ca", "absent"],
        ["revoke", "absent.crt"],
        ["show", "absent.crt"],
    ],
)
def test_what_is_absent_is_named(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With what to do."""
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == EXIT_CONFIG
    assert "Cannot read" in capsys.readouterr().err


def test_bad_host_and_bad_days_are_refused(tmp_path: Path) -> None:
    """Before anything is written."""
    make(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert main(["server", "hôst", "--ca", str(tmp_path)]) == EXIT_CONFIG
    with pytest.raises(SystemExit):
        main(["server", "host", "--days", "0", "--ca", str(tmp_path)])
    assert sorted(tmp_path.iterdir()) == before
