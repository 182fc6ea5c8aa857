"""How fast variants of one model are beside each other: for a price, not for a benchmark."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from foundation.bundle import Bundle
from foundation.detector import Detector

_ROUNDS = 25
_WARM_UP_ROUNDS = 3


def compare_pace(bundles: Sequence[Bundle]) -> list[float]:
    """Median processor seconds of one inference on one thread, in the bundles' order.

    The bundles take turns, so that what disturbs the machine disturbs them alike. Processor time,
    because a workshop is seldom idle, and one thread that waits for nothing needs no other time.
    """
    runs = [Detector.open(bundle).load([bundle.smoke.pixels]) for bundle in bundles]
    seconds = np.zeros((_ROUNDS, len(runs)))
    for round_number in range(_ROUNDS):
        for position, run in enumerate(runs):
            started = time.thread_time()
            run.run()
            seconds[round_number, position] = time.thread_time() - started
    medians: list[float] = np.median(seconds[_WARM_UP_ROUNDS:], axis=0).tolist()
    return medians
