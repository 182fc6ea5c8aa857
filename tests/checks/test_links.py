"""The check of the documents' links."""

from __future__ import annotations

from checks import links


def test_anchor_of_a_heading() -> None:
    """A heading's anchor is lower case, without punctuation, hyphens for spaces."""
    assert links.anchors("# On your own camera & `model`, now\n") == {
        "on-your-own-camera--model-now"
    }


def test_heading_inside_a_code_block_is_none() -> None:
    """A comment in a shell example is no heading."""
    assert links.anchors("```\n# not a heading\n```\n## A heading\n") == {"a-heading"}


def test_repeated_heading_is_numbered() -> None:
    """The second heading of one name gets a number."""
    assert links.anchors("# Twice\n# Twice\n") == {"twice", "twice-1"}
