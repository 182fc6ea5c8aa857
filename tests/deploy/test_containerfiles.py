"""The Containerfiles, read by a parser: no container engine is needed, so none is built here."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser

SERVICES = {"edge-node": "edge", "cloud-escalator": "cloud"}
PINNED = re.compile(r"^docker\.io/library/python:\d+\.\d+\.\d+-slim-bookworm@sha256:[0-9a-f]{64}$")


def parse(repository: Path, service: str) -> list[dict[str, Any]]:
    """Return the instructions of a service's Containerfile."""
    path = repository / "deploy" / f"{service}.Containerfile"
    with path.open("rb") as file:
        structure: list[dict[str, Any]] = DockerfileParser(fileobj=file).structure
    return [step for step in structure if step["instruction"] != "COMMENT"]


def values(steps: list[dict[str, Any]], instruction: str) -> list[str]:
    """Return the values of every step of one instruction."""
    return [step["value"] for step in steps if step["instruction"] == instruction]


@pytest.mark.parametrize("service", SERVICES)
def test_stages_share_one_pinned_base(repository: Path, service: str) -> None:
    """Both stages of both files start from the same image, pinned by tag and digest."""
    bases = {
        base.split()[0] for name in SERVICES for base in values(parse(repository, name), "FROM")
    }
    assert len(bases) == 1
    assert PINNED.match(bases.pop())
    assert len(values(parse(repository, service), "FROM")) == 2


@pytest.mark.parametrize("service", SERVICES)
def test_runs_as_a_number_that_is_not_root(repository: Path, service: str) -> None:
    """The user is numeric, not root, and the one that the manifests name."""
    assert values(parse(repository, service), "USER") == ["65532:65532"]


@pytest.mark.parametrize("service", SERVICES)
def test_entry_point_is_an_installed_command(repository: Path, service: str) -> None:
    """The entry point is a command of the distribution and reads the mounted settings."""
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    steps = parse(repository, service)
    (command,) = json.loads(values(steps, "ENTRYPOINT")[0])
    assert command == service
    assert command in project["scripts"]
    assert json.loads(values(steps, "CMD")[0])[1] == "--config"
    assert f'image.version="{project["version"]}"' in values(steps, "LABEL")[0]


@pytest.mark.parametrize("service", SERVICES)
def test_copies_what_exists_and_is_not_ignored(repository: Path, service: str) -> None:
    """Every path copied from the build context is in the repository and let through to it."""
    admitted = {
        line[1:]
        for line in (repository / ".dockerignore").read_text("utf-8").splitlines()
        if line.startswith("!")
    }
    for copied in values(parse(repository, service), "COPY"):
        if copied.startswith("--from="):
            continue
        for source in copied.split()[:-1]:
            assert (repository / source).exists(), source
            assert source.split("/")[0] in admitted, source


@pytest.mark.parametrize("service", SERVICES)
def test_installs_by_hash_only(repository: Path, service: str) -> None:
    """Every install either requires hashes or takes nothing but what was built here."""
    for run in values(parse(repository, service), "RUN"):
        for command in run.split("&&"):
            if " install " in command or " wheel " in command:
                assert "--require-hashes" in command or "--no-deps" in command, command


def test_both_files_differ_only_in_the_service(repository: Path) -> None:
    """The two files are one file but for the names of the service, so they cannot drift apart."""
    texts = []
    for service, bundle in SERVICES.items():
        steps = parse(repository, service)
        kept = [step for step in steps if step["instruction"] not in {"EXPOSE", "CMD"}]
        text = "".join(step["content"] for step in kept)
        texts.append(text.replace(service, "SERVICE").replace(f"{bundle}-reference", "BUNDLE"))
    assert texts[0] == texts[1]
