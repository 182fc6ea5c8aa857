"""All systems on the same lines: their claims, questions and bytes at one budget."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks.frontier_parts import every_frame, oracles
from benchmarks.frontier_parts.counting import Counts, board_counts
from benchmarks.frontier_parts.whole_frames import TiledCloud
from edge_node.adapters.rules import gain_model_of, open_rules
from edge_node.config import CropSettings, EdgeSettings
from foundation.bundle import Bundle
from foundation.gains import FRAMING_BYTES, PROPOSAL_BYTES, GainModel
from reference_line.asked import Answered, Hindsight
from reference_line.evaluation import Claim, final_claims
from reference_line.fit_asking import EverythingAsked, ask_everything
from reference_line.recorded_line import (
    FRAME_RATE_HZ,
    UNLIMITED,
    RecordedLine,
    claims_of_edge,
    play,
    read_lines,
    record_line,
    settings_of,
)
from replay.recorded_lane import RecordedCloud, RecordedLane

LEVELS = ("webp80", "webp60", "avif60", "webp80/96", "webp80/56", "webp60/56", "webp80/40")
BURST_S = 10.0
"""What may leave at once after a quiet time, in seconds of the rate."""


@dataclass(frozen=True, slots=True)
class Point:
    """What a system came to at one budget: bytes and questions, counts by board of all lines."""

    budget: float
    sent_bytes: float
    questions: int
    counts: Counts = field(repr=False)


@dataclass(frozen=True, slots=True)
class Curve:
    """A system at rising budgets; kind is own, track, frame, oracle or ablation."""

    name: str
    kind: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Scene:
    """One line with everything that is asked of it.

    Attributes:
        recorded: the line.
        asked: the edge's tracks, and what asking about each gives.
        alone: what the edge reports by itself, ready for whole frames.
        tiled: what the cloud says about whole frames.
    """

    recorded: RecordedLine
    asked: EverythingAsked
    alone: Hindsight
    tiled: TiledCloud

    def count(self, claims: Sequence[Claim]) -> Counts:
        """Counts by board."""
        recorded = self.recorded
        return board_counts(claims, recorded.truth(claims), recorded.known, recorded.boards)


class Frontier:
    """All systems on the same lines."""

    def __init__(
        self, edge: Path, cloud: Path, work: Path, seeds: Sequence[int], frames: int
    ) -> None:
        self.edge, self.cloud = Bundle.open(edge), Bundle.open(cloud)
        self._edge_path = edge
        self.settings = settings_of(edge)
        self.pool = None if self.edge.policy is None else self.edge.policy.pool
        self.scenes: list[Scene] = []
        for seed in seeds:
            recorded = record_line(edge, seed, frames, work)
            asked = ask_everything(recorded, edge, RecordedCloud(self.cloud), pool=self.pool)
            own = claims_of_edge(asked.alone, self.edge, self.settings)
            alone = Hindsight(asked.alone, own, recorded.known, self.settings.fusion, self.pool)
            tiled = TiledCloud(self.cloud, recorded, asked.alone.frames)
            self.scenes.append(Scene(recorded, asked, alone, tiled))

    @property
    def jpeg_bytes(self) -> float:
        """All frames of all lines as JPEG 85."""
        return sum(scene.recorded.jpeg_bytes for scene in self.scenes)

    def edge_alone(self) -> Counts:
        """The edge by itself."""
        return np.concatenate([scene.count(scene.alone.edge) for scene in self.scenes])

    def everything(self, every: int) -> tuple[Counts, float]:
        """The cloud on whole frames so far apart, each place once; its counts and bytes."""
        counts, sent = [], 0.0
        for scene in self.scenes:
            sequences = list(range(every // 2, scene.recorded.frames, every))
            answers = scene.tiled.ask(sequences, "jpeg85")
            sent += sum(one.sent_bytes for one in answers)
            seen = [claim for one in answers for claim in _claims_of(one)]
            counts.append(scene.count(scene.alone.joined(seen)))
        return np.concatenate(counts), sent

    def every_proposal(self, level: str) -> Point:
        """All tracks that the edge may ask about, at one level."""
        return self._asked(0.0, [self._at(scene, level) for scene in self.scenes])

    def tracks(self, rules: Mapping[str, tuple[GainModel, EdgeSettings]]) -> dict[str, Point]:
        """The frame lane with tables of gains and settings, all side by side."""
        found: dict[str, list[tuple[int, int, Counts]]] = {name: [] for name in rules}
        for scene in self.scenes:
            with contextlib.ExitStack() as stack:
                lanes = {}
                for name, (gains, settings) in rules.items():
                    bundle = replace(self.edge, policy=gains)
                    limits = scene.recorded.model.limits
                    opened = stack.enter_context(open_rules(settings, bundle, limits))
                    lanes[name] = RecordedLane(
                        settings,
                        scene.recorded.model,
                        opened,
                        scene.asked.cloud,
                        frame_rate_hz=FRAME_RATE_HZ,
                    )
                runs = play(scene.recorded, lanes)
            for name, run in runs.items():
                claims = final_claims(read_lines(run.records).tracks)
                found[name].append((run.sent_bytes, run.escalations, scene.count(claims)))
        return {
            name: Point(
                0.0,
                sum(row[0] for row in rows),
                sum(row[1] for row in rows),
                np.concatenate([row[2] for row in rows]),
            )
            for name, rows in found.items()
        }

    def lane_settings(self, budget: float) -> EdgeSettings:
        """An edge node whose rate and burst together keep a share of the bytes of all frames."""
        recorded = self.scenes[0].recorded
        per_s = self.jpeg_bytes / sum(s.recorded.duration_s for s in self.scenes)
        rate = budget * per_s * recorded.duration_s / (recorded.duration_s + BURST_S)
        gains = gain_model_of(self.edge, CropSettings())
        sides = gains.sides_px(CropSettings().side_min_px)[:, None]
        smallest = float(gains.image_bytes(sides**2, 1.0).max())
        smallest += FRAMING_BYTES + PROPOSAL_BYTES
        policy = UNLIMITED.model_copy(
            update={
                "uplink_bytes_per_s": rate,
                "uplink_bytes_burst": max(rate * BURST_S, smallest / 0.85),
                "encode_share": 0.25,
            }
        )
        return settings_of(self._edge_path, policy)

    def oracle(self, budgets: Sequence[float], *, any_region: bool) -> Curve:
        """Whoever knows the truth, with the crops of tracks, or with any crop."""
        options = []
        for scene in self.scenes:
            own = oracles.options_of_tracks(scene.asked, LEVELS)
            options.append(own + oracles.options_of_defects(scene.asked, LEVELS) * any_region)
        points = []
        for budget in budgets:
            chosen = [
                oracles.choose(own, budget * scene.recorded.jpeg_bytes)
                for own, scene in zip(options, self.scenes, strict=True)
            ]
            points.append(self._asked(budget, chosen))
        return Curve(
            "oracle, any region" if any_region else "oracle, the edge's tracks",
            "oracle",
            tuple(points),
        )

    def frames(self, budget: float, chosen: Sequence[Sequence[int]], level: str) -> Point:
        """Whole frames of each line at a level."""
        answers = [
            scene.tiled.ask(sequences, level)
            for scene, sequences in zip(self.scenes, chosen, strict=True)
        ]
        return self._asked(budget, answers, whole=True)

    def not_once(self, budget: float, threshold: float) -> Point:
        """Every proposal of every frame down to a value of p(1 - p)."""
        chosen = []
        for scene in self.scenes:
            found = every_frame.offers(scene.asked, *self.band)
            wanted = [one for one in found if one.value >= threshold]
            chosen.append(every_frame.ask(scene.asked, wanted))
        return self._asked(budget, chosen, whole=True)

    @property
    def band(self) -> tuple[float, float]:
        """Scores between which the edge asks."""
        default = self.edge.thresholds.default
        return default.escalate_low, default.escalate_high

    def _at(self, scene: Scene, level: str) -> list[Answered]:
        return [scene.asked.answered(one, level) for one in scene.asked.candidates]

    def _asked(
        self, budget: float, asked: Sequence[Sequence[Answered]], *, whole: bool = False
    ) -> Point:
        counts = []
        for scene, own in zip(self.scenes, asked, strict=True):
            hindsight = scene.alone if whole else scene.asked.hindsight
            counts.append(scene.count(hindsight.claims(own)))
        sent = sum(one.sent_bytes for own in asked for one in own)
        return Point(budget, sent, sum(map(len, asked)), np.concatenate(counts))


def _claims_of(one: Answered) -> Iterator[Claim]:
    answer = one.answer
    rows = zip(answer.boxes.tolist(), answer.scores.tolist(), answer.labels, strict=True)
    for (x1, y1, x2, y2), score, label in rows:
        yield Claim(-1, label, score, (x1, y1, x2, y2), one.question.sequence)
