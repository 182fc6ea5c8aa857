"""The house's own linter finds what it says it finds, and leaves alone what it should."""

from __future__ import annotations

import ast

import pytest

from checks import house


def findings(text: str, tmp_name: str = "edge_node/camera.py") -> list[str]:
    """Return what is wrong with a module of this text."""
    return list(house.module_findings(house.ROOT / tmp_name, text))


def test_sound_module_has_no_findings() -> None:
    """A small module with plain names passes."""
    assert (
        findings('def handle(request: str) -> str:\n    """Answers."""\n    return request\n') == []
    )


def test_long_module_is_found() -> None:
    """A module past the hard limit is to be split."""
    assert findings("pass\n" * 400) == []
    assert "401 lines" in findings("pass\n" * 401)[0]


def test_docstring_does_not_count_as_length() -> None:
    """A function is measured without its docstring."""
    docstring = '    """Says.\n' + "    much\n" * 80 + '    """\n'
    function = ast.parse("def f() -> None:\n" + docstring + "    pass\n" * 58).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert house.body_lines(function) == 59


@pytest.mark.parametrize(
    "name", ["ClientManager", "image_utils", "RequestHandler", "common_things", "SpoolHelper"]
)
def test_vague_name_is_found(name: str) -> None:
    """A name that fits everything is a finding, in either spelling."""
    assert findings(f"class {name}:\n    pass\n")


@pytest.mark.parametrize("name", ["commons_of", "Utility", "handled", "managed_slots"])
def test_similar_name_is_left_alone(name: str) -> None:
    """A word that only begins like a vague one is fine."""
    assert findings(f"class {name}:\n    pass\n") == []


def test_patching_is_found() -> None:
    """Changing a module from outside is a finding; setting the environment is not."""
    text = "def test(monkeypatch: object) -> None:\n    monkeypatch.{}\n"
    assert findings(text.format("setattr(a, 'b', c)"))
    assert findings(text.format("setenv('A', 'b')")) == []


def test_machine_path_is_found() -> None:
    """A path of one machine is a finding; a path in a container or a relative one is not."""
    here = "/" + "root/project"
    assert list(house.trace_findings("docs/a.md", f"run {here}/x"))
    assert list(house.trace_findings("docs/a.md", "run ../shared/data and /var/lib/x")) == []
