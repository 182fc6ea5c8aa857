"""docs/config-edge.md against the settings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pydantic
import yaml

from edge_node.config import EdgeSettings
from foundation.settings import Settings, load_settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "config-edge.md"
ROW = re.compile(r"^\| `([\w.]+)` \| `(.*?)` \| (.*) \|$", re.MULTILINE)


def keys_of(model: type[Settings], prefix: str = "") -> dict[str, tuple[str, str]]:
    """Every leaf key with its default as JSON and its description."""
    keys: dict[str, tuple[str, str]] = {}
    for name, field in model.model_fields.items():
        annotation: Any = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Settings):
            keys |= keys_of(annotation, f"{prefix}{name}.")
        else:
            default = pydantic.TypeAdapter(Any).dump_python(
                field.get_default(call_default_factory=True), mode="json"
            )
            description = " ".join((field.description or "").split())
            keys[prefix + name] = (json.dumps(default), description)
    return keys


def test_document_lists_every_key_with_default_and_meaning() -> None:
    """And no other; regenerate the table from the settings when this fails."""
    documented = {
        key: (default, meaning)
        for key, default, meaning in ROW.findall(DOCUMENT.read_text("utf-8"))
    }
    assert documented == keys_of(EdgeSettings)


def test_example_in_the_document_is_valid(tmp_path: Path) -> None:
    """Word for word."""
    example = re.search(r"```yaml\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert example is not None
    path = tmp_path / "edge.yaml"
    path.write_text(example.group(1))
    settings = load_settings(path, EdgeSettings)
    assert settings.source.uri
    assert settings.policy.band_low
    assert yaml.safe_load(example.group(1))


def test_defaults_are_valid() -> None:
    """A settings file may leave out everything but the bundle."""
    assert EdgeSettings.model_validate({}) == EdgeSettings()
