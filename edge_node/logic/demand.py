"""What has been offered lately: how much at which value per unit, and how unsteadily it comes.

Everything lies in one array, so that it can be kept in a file and shared.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Amounts = npt.NDArray[np.floating[Any]] | float
"""(N,) amounts, or one."""

PER_OCTAVE = 4
LOWEST_OCTAVE = -30
BINS = 160
"""Value per unit is told apart from 2^-30 to 2^10, so it may be counted in whatever is at hand."""

_EXPOSURE_S = 0
_RECENT_UNITS, _RECENT_S = 1, 2
_WINDOW_UNITS, _WINDOW_S = 3, 4
_WINDOWS, _SUM, _SQUARES, _PAIRS, _PRODUCTS, _PREVIOUS = 5, 6, 7, 8, 9, 10
_HEAD = 11
RECORD_LENGTH = _HEAD + 2 * BINS

_MEMORY_WINDOWS = 10.0
_RHYTHM_MEMORY_WINDOWS = 30.0
_RECENT_WINDOWS = 0.25
"""The present, by which the next window is foretold: a longer one lags behind a swing."""
_SHORTEST_S = 1e-9
_WINDOWS_MIN = 3.0
_CORRELATION_MAX = 0.9999
_UNSTEADINESS_AT_FIRST, _UNSTEADINESS_MAX = 10.0, 30.0
"""Before windows have told, traffic is taken to come in bursts: to save for what then does not come
costs more than to spend on what is not quite the best."""
_PRIOR_WINDOWS = 2.0
"""What was taken to be counts for so many windows: a steady stream is soon known as one."""


class Demand:
    """A record that forgets, in windows of the time that filling the bucket takes.

    The distribution over value per unit is remembered for ten windows, the totals of windows for
    thirty. How much will come in the next window is predicted from the last quarter of one, as far
    as one window has told of the next so far; what that leaves unexplained is the unsteadiness.

    Attributes:
        record: (RECORD_LENGTH,) float64, everything it knows; may be copied in and out.
    """

    def __init__(self, window_s: float) -> None:
        self.record: Array = np.zeros(RECORD_LENGTH)
        self._units = self.record[_HEAD : _HEAD + BINS]
        self._squares = self.record[_HEAD + BINS :]
        self._window_s = window_s

    def add(self, value: Amounts, units: Amounts) -> None:
        """Counts one offer or several; one that is worth nothing is no demand."""
        worth, amounts = np.broadcast_arrays(
            np.asarray(value, np.float64), np.asarray(units, np.float64)
        )
        counted = (worth > 0.0) & (amounts > 0.0)
        amounts = amounts[counted]
        if amounts.size == 0:
            return
        octave = np.log2(worth[counted]) - np.log2(amounts) - LOWEST_OCTAVE
        place = np.clip(octave * PER_OCTAVE, 0.0, BINS - 1.0).astype(np.intp)
        np.add.at(self._units, place, amounts)
        np.add.at(self._squares, place, amounts * amounts)
        total = float(amounts.sum())
        self.record[_RECENT_UNITS] += total
        self.record[_WINDOW_UNITS] += total

    def age(self, elapsed_s: float) -> None:
        """Lets time pass, whatever has been added since the last call having come in it."""
        record, window_s = self.record, self._window_s
        kept = math.exp(-elapsed_s / (_MEMORY_WINDOWS * window_s))
        record[_HEAD:] *= kept
        # Time fades as what came in it: else a step that is long beside the memory would dilute it.
        record[_EXPOSURE_S] = (record[_EXPOSURE_S] + elapsed_s) * kept
        kept = math.exp(-elapsed_s / (_RECENT_WINDOWS * window_s))
        record[_RECENT_UNITS] *= kept
        record[_RECENT_S] = (record[_RECENT_S] + elapsed_s) * kept
        record[_WINDOW_S] += elapsed_s
        if record[_WINDOW_S] >= window_s:
            self._close_window()

    def forecast(self) -> tuple[Array, Array]:
        """What the next window is expected to bring.

        Returns:
            (BINS,) float64 units a second by value per unit, and (BINS,) float64 the variance of
            that a second.
        """
        record = self.record
        # So short a record says little: it is taken as a bit of demand in a longer time.
        exposure_s = max(float(record[_EXPOSURE_S]), self._window_s / 10.0)
        squares_per_s = float(self._squares.sum()) / exposure_s
        correlation, unsteadiness = self._rhythm(squares_per_s)
        mean = float(self._units.sum()) / exposure_s
        scale = 1.0
        recent_s = float(record[_RECENT_S])
        # After a step in which the present has faded altogether, nothing is known of it.
        if mean > 0.0 and recent_s > _SHORTEST_S:
            scale += correlation * (float(record[_RECENT_UNITS]) / recent_s / mean - 1.0)
        return (
            self._units * (scale / exposure_s),
            self._squares * (scale * unsteadiness / exposure_s),
        )

    def _close_window(self) -> None:
        record = self.record
        rate = record[_WINDOW_UNITS] / record[_WINDOW_S]
        record[_WINDOWS : _PRODUCTS + 1] *= math.exp(
            -record[_WINDOW_S] / (_RHYTHM_MEMORY_WINDOWS * self._window_s)
        )
        if record[_WINDOWS] > 0.0:
            record[_PAIRS] += 1.0
            record[_PRODUCTS] += rate * record[_PREVIOUS]
        record[_WINDOWS] += 1.0
        record[_SUM] += rate
        record[_SQUARES] += rate * rate
        record[_PREVIOUS] = rate
        record[_WINDOW_UNITS] = record[_WINDOW_S] = 0.0

    def _rhythm(self, squares_per_s: float) -> tuple[float, float]:
        """The correlation of one window with the next, and the variance left over independent's."""
        windows, total, squares, pairs, products, _ = self.record[_WINDOWS:_HEAD].tolist()
        if windows < _WINDOWS_MIN or squares_per_s <= 0.0:
            return 0.0, _UNSTEADINESS_AT_FIRST
        mean = total / windows
        variance = squares / windows - mean * mean
        if variance <= 0.0:
            return 0.0, 1.0
        correlation = _believed((products / pairs - mean * mean) / variance, windows)
        left = variance * (1.0 - correlation * correlation) * self._window_s / squares_per_s
        seen = left * windows + _UNSTEADINESS_AT_FIRST * _PRIOR_WINDOWS
        return correlation, min(_UNSTEADINESS_MAX, max(1.0, seen / (windows + _PRIOR_WINDOWS)))


def _believed(correlation: float, windows: float) -> float:
    """A correlation less its standard error: what so few windows show by chance is none.

    By Fisher's z, whose error is about one over the root of the number of pairs.
    """
    if correlation <= 0.0:
        return 0.0
    z = math.atanh(min(correlation, _CORRELATION_MAX)) - 1.0 / math.sqrt(max(windows - 1.0, 1.0))
    return max(0.0, math.tanh(z))
