"""What an error says to a person."""

from __future__ import annotations

import pytest

from foundation.errors import ConfigError, HardcaseError


@pytest.mark.parametrize(
    ("message", "remedy", "text"),
    [
        ("The port is taken", "Choose another", "The port is taken. Choose another."),
        ("The port is taken.", "Choose another.", "The port is taken. Choose another."),
        ("The port is taken", "", "The port is taken."),
        ("Did you mean a?", "Mend it", "Did you mean a? Mend it."),
    ],
)
def test_an_error_is_sentences(message: str, remedy: str, text: str) -> None:
    """What is wrong, then what to do, each with one full stop."""
    error: HardcaseError = ConfigError(message, remedy=remedy)
    assert str(error) == text
