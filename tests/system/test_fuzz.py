"""A running escalator is sent mutated requests and keeps its promises."""

from __future__ import annotations

import pytest

from benchmarks.fuzz import parse, run


@pytest.mark.slow
def test_mutated_requests_cost_themselves_alone() -> None:
    """Each has one verdict or ends its stream as it should; the books and the log are clean."""
    figures = run(parse(["--requests", "3000", "--seed", "11"]))
    assert figures["violations"] == []
    assert figures["requests"] == 3000
    assert 0 < figures["no protobuf"] < 1000
    assert figures["outcomes"].keys() >= {"answer", "not_an_image", "malformed", "outside_frame"}
    assert figures["sound requests"] >= 3
