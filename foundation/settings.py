"""Settings: one YAML file per service, validated into frozen values.

Unknown keys are fatal and answered with the file, the key and the nearest valid key; so is a key
that is given twice. `${NAME}` in a value is replaced from the environment, `${NAME:-default}` with
a default; what is put in is text and never YAML, and becomes a number where the field is one.
Secrets are given by file path only, never by value.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from foundation.errors import ConfigError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
"""What YAML can spell and no path, header or file can hold: null, and halves of characters."""
_FILE_BYTES_MAX = 1 << 20
_PROBLEMS_MAX = 20


class _Loader(yaml.SafeLoader):
    """YAML as usual, but a key that is given twice is an error instead of a silent choice.

    References to what stands elsewhere in the file are refused: a dozen lines of them that refer to
    one another stand for more values than memory holds.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()  # type: ignore[no-untyped-call] # not in the stubs
            raise yaml.composer.ComposerError(
                None,
                None,
                f"*{event.anchor} refers to another place: write it out",
                event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class Settings(pydantic.BaseModel):
    """Base of all settings and manifests: frozen, and closed against unknown keys."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


SettingsT = TypeVar("SettingsT", bound=Settings)


def load_settings(
    path: Path, model: type[SettingsT], *, instead: Mapping[str, Any] | None = None
) -> SettingsT:
    """Reads and validates a settings file.

    Args:
        path: of the YAML file.
        model: what it is validated into.
        instead: top-level keys whose values replace those of the file, or stand in for them.

    Raises:
        ConfigError: the file is absent, is no YAML mapping, or does not validate.
    """
    remedy = "Give the path of a YAML settings file"
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device may have no end
            raise ConfigError(f"Cannot read settings from {path}: it is no file", remedy=remedy)
        if found.st_size > _FILE_BYTES_MAX:
            raise ConfigError(f"{path} is larger than {_FILE_BYTES_MAX} bytes", remedy=remedy)
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read settings from {path}: {error}", remedy=remedy) from error
    try:
        # Derived from SafeLoader: it builds plain values only.
        document = yaml.load(text, _Loader)  # noqa: S506
        document = _substitute({} if document is None else document, str(path), ())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}", remedy="Mend that line") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} holds no mapping of keys to values", remedy=remedy)
    return parse_settings({**document, **(instead or {})}, model, origin=str(path))


def parse_settings(document: Any, model: type[SettingsT], *, origin: str) -> SettingsT:
    """Validates a document that was already read; `origin` names it in errors.

    Raises:
        ConfigError: it does not validate.
    """
    try:
        return model.model_validate(document)
    except pydantic.ValidationError as error:
        found = error.errors()
        problems = [_describe(problem, model) for problem in found[:_PROBLEMS_MAX]]
        if len(found) > len(problems):
            problems.append(f"and {len(found) - len(problems)} more")
        raise ConfigError(
            f"{origin}: " + "; ".join(problems), remedy="Correct it and start again"
        ) from error


def _substitute(value: Any, origin: str, location: tuple[object, ...]) -> Any:
    if isinstance(value, Mapping):
        return {key: _substitute(item, origin, (*location, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, origin, (*location, i)) for i, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    if _UNUSABLE.search(value):
        raise ValueError(f"the text {value!r:.40} holds a character that no text has")
    if "${" not in value:
        return value
    key = ".".join(map(str, location))
    if "${" in _VARIABLE.sub("", value):
        raise ConfigError(
            f"{origin}: key '{key}': {value!r} is no reference to an environment variable",
            remedy="Write ${NAME} or ${NAME:-default}",
        )

    def replace(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        found = os.environ.get(name, default)
        if found is None:
            raise ConfigError(
                f"{origin}: key '{key}': environment variable {name} is not set",
                remedy=f"Set it, or write ${{{name}:-default}}",
            )
        return found

    return _VARIABLE.sub(replace, value)


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
