"""Systems at rising budgets: what the frontier is drawn from.

Dials of rules about frames and proposals stand where the validation lines put them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.frontier_parts import every_frame
from benchmarks.frontier_parts.systems import Curve, Frontier
from benchmarks.frontier_parts.track_rules import track_rules
from benchmarks.frontier_parts.whole_frames import frame_rules, regular
from edge_node.adapters.rules import gain_model_of
from edge_node.config import CropSettings
from foundation.gains import GainModel
from foundation.levels import Level, encode_at
from reference_line.fit_asking import EverythingAsked
from reference_line.line import Line
from reference_line.recorded_line import RecordedLine

FRAME_LEVELS = ("jpeg85", "webp80", "avif50")
_NOT_ONCE_MAX = 0.003
"""Beyond this budget, asking about every proposal of every frame only costs time here."""
_SCARCE_MAX = 0.001
"""Beyond this budget every rule about tracks asks about all of them."""
_SIZE_EVERY = 300


def track_curves(frontier: Frontier, budgets: Sequence[float]) -> list[Curve]:
    """The shipped policy, other rules, and the shipped policy with one level only."""
    shipped = gain_model_of(frontier.edge, CropSettings())
    rules: dict[str, tuple[str, GainModel, Sequence[float]]] = {
        "tracks, as shipped": ("own", shipped, budgets)
    }
    scarce = [budget for budget in budgets if budget <= _SCARCE_MAX] or budgets[:1]
    for name, gains in track_rules(shipped).items():
        rules[name] = ("track", gains, scarce)
    if len(shipped.parsed_levels) > 1:
        for level in shipped.parsed_levels:
            name = f"tracks, as shipped, {level} only"
            rules[name] = ("ablation", shipped.with_levels([level]), scarce)
    plans = {
        f"{name}|{budget!r}": (gains, frontier.lane_settings(budget))
        for name, (_, gains, own) in rules.items()
        for budget in own
    }
    points = frontier.tracks(plans)
    return [
        Curve(
            name,
            kind,
            tuple(replace(points[f"{name}|{budget!r}"], budget=budget) for budget in own),
        )
        for name, (kind, _, own) in rules.items()
    ]


def frame_curves(
    frontier: Frontier, validation: Sequence[RecordedLine], budgets: Sequence[float]
) -> Iterator[Curve]:
    """Whole frames, chosen by the rules of others and at regular distances."""
    frames_of = sum(line.frames for line in validation)
    for rule in frame_rules():
        fitted = [rule.preferences(line) for line in validation]
        points = []
        for budget in budgets:
            threshold = rule.threshold(fitted, budget * frames_of)
            chosen = [
                rule.choose(rule.preferences(scene.recorded), threshold)
                for scene in frontier.scenes
            ]
            points.append(frontier.frames(budget, chosen, "jpeg85"))
        yield Curve(rule.name, "frame", tuple(points))
    for level in FRAME_LEVELS:
        share = _size_share(validation, level)
        points = [
            frontier.frames(
                budget,
                [regular(s.recorded, budget * s.recorded.frames / share) for s in frontier.scenes],
                level,
            )
            for budget in budgets
        ]
        yield Curve(f"frames, every n-th, {level}", "frame", tuple(points))


def not_once_curve(
    frontier: Frontier, validation: Sequence[EverythingAsked], budgets: Sequence[float]
) -> Curve:
    """p(1 - p) of every proposal of every frame, without once per object."""
    values = np.array(
        sorted(
            (
                offer.value
                for asked in validation
                for offer in every_frame.offers(asked, *frontier.band)
            ),
            reverse=True,
        )
    )
    sizes = [
        asked.answered(one, "webp80").sent_bytes for asked in validation for one in asked.candidates
    ]
    jpeg_bytes = sum(asked.recorded.jpeg_bytes for asked in validation)
    points = []
    for budget in budgets:
        if budget > _NOT_ONCE_MAX:
            continue
        count = int(budget * jpeg_bytes / np.mean(sizes))
        threshold = float(values[min(count, len(values)) - 1]) if count else np.inf
        points.append(frontier.not_once(budget, threshold))
    return Curve("tracks, p(1-p), not once per object", "ablation", tuple(points))


def _size_share(lines: Sequence[RecordedLine], level: str) -> float:
    """Bytes of a frame at a level over those as JPEG 85, on some frames of some lines."""
    if level == "jpeg85":
        return 1.0
    sizes, base = 0, 0.0
    for recorded in lines:
        line = Line(recorded.seed)
        for sequence in range(0, recorded.frames, _SIZE_EVERY):
            sizes += len(encode_at(line.frame(sequence), Level.parse(level)))
            base += recorded.jpeg_bytes / recorded.frames
    return sizes / base
