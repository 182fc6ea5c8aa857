"""Whole rows of the track table, moved as bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_node.logic.rows import Rows, new_rows, put_rows, take_rows

CLASSES = 3
COUNT = 9


def table(seed: int) -> Rows:
    """Rows that differ in every field."""
    rows = new_rows(COUNT, CLASSES)
    rng = np.random.default_rng(seed)
    for name in rows.dtype.names or ():
        column = rows[name]
        column[...] = rng.integers(0, 100, column.shape).astype(column.dtype)
    return rows


@given(st.lists(st.booleans(), min_size=COUNT, max_size=COUNT), st.integers(0, 5))
def test_rows_moved_as_bytes_are_the_rows_moved_by_fields(chosen: list[bool], seed: int) -> None:
    """By mask, by position, and into a slice; what is taken is a copy."""
    rows, mask = table(seed), np.array(chosen)
    for which in (mask, mask.nonzero()[0]):
        taken = take_rows(rows, which)
        np.testing.assert_array_equal(taken, rows[which])
        taken["score"] = 7.5
        assert not (rows["score"] == 7.5).any()
    by_bytes, by_fields = table(seed), table(seed)
    other = table(seed + 1)[: int(mask.sum())]
    put_rows(by_bytes, mask.nonzero()[0], other)
    by_fields[mask.nonzero()[0]] = other
    np.testing.assert_array_equal(by_bytes, by_fields)
    put_rows(by_bytes, slice(len(other)), other)
    by_fields[: len(other)] = other
    np.testing.assert_array_equal(by_bytes, by_fields)
