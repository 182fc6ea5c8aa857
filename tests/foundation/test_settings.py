"""Settings: what an operator may write, and the answers to what they may not."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import ConfigError
from foundation.settings import Settings, load_settings, parse_settings

Write = Callable[[str | bytes], Path]


class Color(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Limits(Settings):
    pixels_max: Annotated[int, pydantic.Field(gt=0)] = 1000
    deadline_s: float = 0.5


class File(Settings):
    kind: Literal["file"]
    path: Path


class Network(Settings):
    kind: Literal["network"]
    address: str


class Service(Settings):
    name: str
    password_path: Path | None = None
    verbose: bool = False
    color: Color = Color.RED
    limits: Limits = Limits()
    tags: tuple[str, ...] = ()
    sources: Mapping[str, Annotated[File | Network, pydantic.Field(discriminator="kind")]] = (
        pydantic.Field(default_factory=dict)
    )

    @pydantic.field_validator("name")
    @classmethod
    def _is_lower_case(cls, name: str) -> str:
        if name != name.lower():
            raise ValueError("Names are written in lower case")
        return name


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a settings file and returns its path."""

    def do(content: str | bytes) -> Path:
        path = tmp_path / "service.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return do


def refusal(path: Path) -> str:
    """The message with which a file is refused; it names the file and has a remedy."""
    with pytest.raises(ConfigError) as caught:
        load_settings(path, Service)
    assert str(path) in caught.value.message
    assert caught.value.remedy
    return str(caught.value)


def test_what_is_written_is_read(write: Write) -> None:
    """Every kind of value, in its type."""
    found = load_settings(
        write(
            """
            name: press-7
            password_path: /run/secrets/password
            color: blue
            limits: {pixels_max: 20, deadline_s: 1}
            tags: [a, b]
            sources:
              left: {kind: file, path: left.mp4}
              right: {kind: network, address: "10.0.0.1"}
            """
        ),
        Service,
    )
    assert found == Service(
        name="press-7",
        password_path=Path("/run/secrets/password"),
        color=Color.BLUE,
        limits=Limits(pixels_max=20, deadline_s=1.0),
        tags=("a", "b"),
        sources={
            "left": File(kind="file", path=Path("left.mp4")),
            "right": Network(kind="network", address="10.0.0.1"),
        },
    )


def test_settings_do_not_change(write: Write) -> None:
    """They are values."""
    found = load_settings(write("name: a"), Service)
    with pytest.raises(pydantic.ValidationError):
        found.name = "b"  # type: ignore[misc]


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("name: a\nverbos: true", "verbos", "did you mean 'verbose'?"),
        ("name: a\nlimits: {pixel_max: 3}", "limits.pixel_max", "did you mean 'pixels_max'?"),
        ("name: a\nlimits: {zzz: 3}", "limits.zzz", "valid keys: deadline_s, pixels_max"),
        (
            "name: a\nsources: {left: {kind: network, adress: b}}",
            "adress",
            "did you mean 'address'?",
        ),
        ("name: a\n1: 2", "1", "keys should be strings"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(
    write: Write, text: str, key: str, hint: str
) -> None:
    """At every depth, with the whole path of the key."""
    message = refusal(write(text))
    assert key in message
    assert hint in message


def test_a_missing_key_is_named(write: Write) -> None:
    """Also where the file is empty, which is a mapping without keys."""
    for text in ("", "# nothing but a comment\n", "verbose: true"):
        assert "key 'name' is missing" in refusal(write(text))


def test_a_key_that_is_given_twice_is_refused(write: Write) -> None:
    """YAML would silently take the last."""
    message = refusal(write("name: a\nlimits:\n  deadline_s: 1\n  deadline_s: 2\n"))
    assert "'deadline_s' is given twice" in message
    assert "line 4" in message


def test_every_problem_is_told_at_once(write: Write) -> None:
    """An operator should not have to start the service once per mistake."""
    message = refusal(write("nam: a\nlimits: {pixels_max: -1}\ncolor: green"))
    for part in ("'nam'", "'limits.pixels_max'", "'color'", "'name' is missing"):
        assert part in message


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "shown"),
    [
        ("name: a\nlimits: {pixels_max: many}", "limits.pixels_max", "'many'"),
        ("name: a\nlimits: {pixels_max: 0}", "limits.pixels_max", "got 0"),
        ("name: a\nlimits: {deadline_s: .nan}", "limits.deadline_s", "nan"),
        ("name: a\nlimits: {deadline_s: .inf}", "limits.deadline_s", "inf"),
        ("name: a\nlimits: 5", "limits", "got 5"),
        ("name: [a]", "name", "['a']"),
        ("name: 2024-01-01", "name", "datetime.date(2024, 1, 1)"),
        ("name: A", "name", "names are written in lower case"),
        ("name: a\ncolor: green", "color", "'green'"),
        ("name: a\nsources: {left: {kind: tape}}", "sources.left", "tape"),
    ],
)
def test_an_ill_typed_value_is_shown(write: Write, text: str, key: str, shown: str) -> None:
    """With its key and what was found there."""
    message = refusal(write(text))
    assert f"key '{key}'" in message
    assert shown in message


def test_a_long_value_is_not_shown_whole(write: Write) -> None:
    """A file pasted into a field must not fill the log."""
    message = refusal(write(f"name: a\ncolor: {'x' * 5000}"))
    assert len(message) < 500


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "name: [a",
        "name: 'a",
        "\tname: a",
        "name: !!python/object/apply:os.getcwd []",
        "name: 2024-13-45",
        "name: *unknown",
        "a: &a [*a]",
        "[" * 5000,
        "name: \x07",
    ],
)
def test_what_is_no_yaml_is_refused(write: Write, content: str) -> None:
    """Broken, malicious, endless."""
    assert "is not valid YAML" in refusal(write(content))


@pytest.mark.parametrize("content", ["- a\n- b", "text", "5", "false", "[]"])
def test_what_is_no_mapping_is_refused(write: Write, content: str) -> None:
    """A list or a word is no settings file."""
    assert "no mapping of keys" in refusal(write(content))


def test_a_binary_file_is_refused(write: Write) -> None:
    """A model given for a settings file, say."""
    assert "Cannot read settings" in refusal(write(bytes(range(256)) * 4))


def test_a_file_that_is_too_large_is_refused(write: Write) -> None:
    """Before it is read."""
    assert "larger than 1048576 bytes" in refusal(write(b"#" * ((1 << 20) + 1)))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Nor is a directory a settings file."""
    assert "Cannot read settings" in refusal(tmp_path / "missing.yaml")
    assert "Cannot read settings" in refusal(tmp_path)


# --- environment ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["123", "yes", "null", "1e3", "a: b", "[x]", "# c", "'q", "  s "])
def test_text_from_the_environment_stays_text(
    write: Write, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Whatever it would mean in YAML."""
    monkeypatch.setenv("SITE", value)
    assert load_settings(write("name: ${SITE}"), Service).name == value
    assert load_settings(write("name: 'line-${SITE}-x'"), Service).name == f"line-{value}-x"


def test_the_environment_gives_numbers_and_switches(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the field is one."""
    monkeypatch.setenv("PIXELS", "77")
    monkeypatch.setenv("VERBOSE", "true")
    monkeypatch.setenv("COLOR", "blue")
    text = """
        name: a
        verbose: ${VERBOSE}
        color: ${COLOR}
        limits: {pixels_max: "${PIXELS}", deadline_s: "${DEADLINE_S:-0.25}"}
        tags: ["${COLOR}", "${NOBODY:-}"]
    """
    found = load_settings(write(text), Service)
    assert found.limits == Limits(pixels_max=77, deadline_s=0.25)
    assert found.verbose
    assert found.color is Color.BLUE
    assert found.tags == ("blue", "")


def test_a_variable_that_is_not_set_is_named(write: Write) -> None:
    """With the key that wants it and how to give a default."""
    message = refusal(write("name: a\ntags: [b, '${HARDCASE_UNSET}']"))
    assert "key 'tags.1'" in message
    assert "HARDCASE_UNSET is not set" in message
    assert "${HARDCASE_UNSET:-default}" in message


@pytest.mark.parametrize("value", ["${}", "${A-b}", "${A", "${1A}", "x${A B}y"])
def test_a_reference_that_is_none_is_refused(write: Write, value: str) -> None:
    """It would otherwise reach the service as it stands."""
    message = refusal(write(f"name: '{value}'"))
    assert "key 'name'" in message
    assert "no reference to an environment variable" in message


def test_an_ill_typed_variable_is_shown(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """As what it was replaced by."""
    monkeypatch.setenv("PIXELS", "many")
    message = refusal(write("name: a\nlimits: {pixels_max: '${PIXELS}'}"))
    assert "key 'limits.pixels_max'" in message
    assert "'many'" in message


@given(
    document=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["name", "limits", "sources", "tags", "x", "kind"]), inner
            )
        ),
    )
)
def test_any_document_is_read_or_refused(document: Any) -> None:
    """There is no third way."""
    try:
        found = parse_settings(document, Service, origin="the document")
    except ConfigError as error:
        refused = str(error)
    else:
        refused = ""
        assert isinstance(found, Service)
    assert not refused or refused.startswith("the document: ")
