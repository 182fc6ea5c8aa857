"""Settings: one YAML file per service, validated into frozen values.

Unknown keys are fatal and answered with the file, the key and the nearest valid key. `${NAME}` in a
value is replaced from the environment, `${NAME:-default}` with a default. Secrets are given by file
path only, never by value.
"""

from __future__ import annotations

import difflib
import os
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from foundation.errors import ConfigError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_FILE_BYTES_MAX = 1 << 20


class Settings(pydantic.BaseModel):
    """Base of all settings and manifests: frozen, and closed against unknown keys."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


SettingsT = TypeVar("SettingsT", bound=Settings)


def load_settings(path: Path, model: type[SettingsT]) -> SettingsT:
    """Reads and validates a settings file.

    Raises:
        ConfigError: the file is absent, is no YAML mapping, or does not validate.
    """
    remedy = "Give the path of a YAML settings file"
    try:
        if path.stat().st_size > _FILE_BYTES_MAX:
            raise ConfigError(f"{path} is larger than {_FILE_BYTES_MAX} bytes", remedy=remedy)
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read settings from {path}: {error}", remedy=remedy) from error
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}", remedy="Mend that line") from error
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path} holds no mapping of keys to values", remedy=remedy)
    return parse_settings(_substitute(document, str(path)), model, origin=str(path))


def parse_settings(document: Any, model: type[SettingsT], *, origin: str) -> SettingsT:
    """Validates a document that was already read; `origin` names it in errors.

    Raises:
        ConfigError: it does not validate.
    """
    try:
        return model.model_validate(document)
    except pydantic.ValidationError as error:
        problems = [_describe(problem, model) for problem in error.errors()]
        raise ConfigError(
            f"{origin}: " + "; ".join(problems), remedy="Correct it and start again"
        ) from error


def _substitute(value: Any, origin: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _substitute(item, origin) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, origin) for item in value]
    if not isinstance(value, str) or "${" not in value:
        return value

    def replace(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        found = os.environ.get(name, default)
        if found is None:
            raise ConfigError(
                f"{origin}: environment variable {name} is not set",
                remedy=f"Set it, or write ${{{name}:-default}}",
            )
        return found

    return yaml.safe_load(_VARIABLE.sub(replace, value))


def _describe(problem: Any, model: type[pydantic.BaseModel]) -> str:
    location = tuple(problem["loc"])
    key = ".".join(str(part) for part in location) or "(top level)"
    if problem["type"] == "extra_forbidden":
        valid = _keys_at(model, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(sorted(valid))}"
        return f"unknown key '{key}', {hint}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    return f"key '{key}': {message[:1].lower()}{message[1:]}, got {problem['input']!r:.80}"


def _keys_at(model: type[pydantic.BaseModel], location: tuple[Any, ...]) -> list[str]:
    """The keys that are valid at a place, found by walking down the models' annotations."""
    candidates: list[type[pydantic.BaseModel]] = [model]
    for part in location:
        following: list[type[pydantic.BaseModel]] = []
        for candidate in candidates:
            if isinstance(part, str) and part in candidate.model_fields:
                following += _models_in(candidate.model_fields[part].annotation)
        # Positions in a list and tags of a union do not lead further down.
        candidates = following or candidates
    return [name for candidate in candidates for name in candidate.model_fields]


def _models_in(annotation: Any) -> list[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [found for part in typing.get_args(annotation) for found in _models_in(part)]
