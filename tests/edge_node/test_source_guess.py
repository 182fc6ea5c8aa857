"""The kind of source that a quick start means."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from edge_node.__main__ import guess_source


@pytest.mark.parametrize(
    ("text", "kind"),
    [("/dev/video2", "v4l2"), ("clips/a.mp4", "video"), ("a.mp4", "video"), ("line", "line")],
)
def test_kind_of_source_is_guessed(text: str, kind: str) -> None:
    """From what a person writes after --source."""
    assert guess_source(text)["kind"] == kind


def test_folder_is_guessed_to_hold_images(tmp_path: Path) -> None:
    """A path that is a folder."""
    assert guess_source(str(tmp_path)) == {"kind": "images", "uri": str(tmp_path)}


def test_file_in_memory_is_no_camera() -> None:
    """Though its path begins like that of a device."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm", suffix=".mp4") as file:
        assert guess_source(file.name) == {"kind": "video", "uri": file.name}
