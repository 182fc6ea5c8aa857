"""What asking gains on the reference line: the policy of its edge bundle, fitted and put in.

The edge node's own frame lane plays validation lines and asks about every track; each crop that it
cut is then answered at every level. The gain of a crop is what it changed about the physical
defects that are in the record: 1 for a defect that is claimed, -1 for a claim that is wrong. That
is the quadratic score of `foundation.gains` for a record that says either nothing or, with a score
of 1, that a defect is there. So it counts what the report threshold does with a score, which
p(1 - p) does not know.
"""

from __future__ import annotations

import dataclasses
import io
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from edge_node.adapters.rules import open_rules
from edge_node.config import CropSettings, MissedSettings
from edge_node.values import Candidate
from foundation.bundle import Bundle
from foundation.escalations import LabelledBoxes
from foundation.gains import texture_of
from foundation.geometry import crop_within
from foundation.levels import Level, encode_at
from foundation.pool import Pool
from model_workshop.policy.bundles import put_policy
from model_workshop.policy.fitting import GROUPS_MIN, PolicyFit, fit_policy
from model_workshop.policy.observations import FORMAT, check_learnable, read_observations
from model_workshop.policy.pooling import fit_pool
from reference_line.asked import Answered, Hindsight
from reference_line.board import BOARD_PITCH_PX
from reference_line.evaluation import (
    Claim,
    Judgement,
    RunTruth,
    final_claims,
    judge_claims,
)
from reference_line.fit_alone import MIN_TRACK_FRAMES, edge_alone, ordinary_frames, risk_units
from reference_line.line import Line
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
from reference_line.records import RunRecords
from reference_line.track_thresholds import FRAMES, VALIDATION_SEEDS
from replay.recorded_lane import RecordedCloud, RecordedLane, wire_bytes

LEVELS = ("webp80", "webp80/96", "webp80/56", "webp80/40")
"""With less and less around the tracks, which saves more than stronger compression does."""
AGES_FRAMES = (MIN_TRACK_FRAMES, 60)
"""How long a track has lived when it is asked about: as soon as it may be, and later."""
EDGE_SEEDS = (*VALIDATION_SEEDS, 203, 204)
"""Lines on which the edge's doubt and what is ordinary are learned; the cloud has no part in it."""
_SIDE_BY_SIDE = 2
"""Lines that are played at the same time, each by one core."""
_NO_PLACES = MissedSettings(gaps=False, background=False, novelty=False)


@dataclass(slots=True)
class Noting:
    """Answers as another one does, and keeps what was asked."""

    cloud: RecordedCloud
    candidates: list[Candidate] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Of the bundle that answers."""
        return self.cloud.digest

    def answer(self, candidate: Candidate) -> tuple[bytes, LabelledBoxes]:
        """The encoded crop, and what is reported of it."""
        self.candidates.append(candidate)
        return self.cloud.answer(candidate)


@dataclass(frozen=True, slots=True)
class EverythingAsked:
    """A line on which the edge asked about every track of its band.

    Attributes:
        recorded: the line.
        alone: what the edge node wrote when it asked nothing, frames included.
        records: what it wrote when it asked, frames left out.
        candidates: what was asked, in order.
        hindsight: what the edge reports by itself, ready for any choice of the candidates.
        cloud: what answers them.
    """

    recorded: RecordedLine
    alone: RunRecords
    records: RunRecords
    candidates: tuple[Candidate, ...]
    hindsight: Hindsight
    cloud: RecordedCloud

    def answered(self, candidate: Candidate, level: str) -> Answered:
        """One of the candidates at a level."""
        at_level = at(candidate, Level.parse(level))
        image, found = self.cloud.answer(at_level)
        return Answered(at_level.question, found, wire_bytes(at_level, image))


def at(candidate: Candidate, level: Level) -> Candidate:
    """A candidate at a level, with no more of the surroundings than that level shows."""
    question, pixels = candidate.question, candidate.pixels
    asked = [subject.box for subject in question.subjects if subject.asked]
    if level.side_px is not None and asked:
        whole = question.region
        part = crop_within(
            whole, np.array(asked), margin=CropSettings().margin, side_min_px=level.side_px
        )
        left, top = part.x1 - whole.x1, part.y1 - whole.y1
        pixels = pixels[top : top + part.height, left : left + part.width]
        question = dataclasses.replace(question, region=part)
    return dataclasses.replace(candidate, question=question, pixels=pixels, level=level)


def ask_everything(
    recorded: RecordedLine,
    path: Path,
    cloud: RecordedCloud,
    *,
    min_track_frames: int = 5,
    pool: Pool | None = None,
) -> EverythingAsked:
    """Plays a line to the edge node without a budget; nothing is known yet of what asking gains.

    Args:
        recorded: the line.
        path: of the edge bundle, whose policy is left aside.
        cloud: what answers.
        min_track_frames: frames that a track must have lived before it is asked about.
        pool: how hindsight joins both opinions.
    """
    bundle = dataclasses.replace(Bundle.open(path), policy=None)
    update = {"missed": _NO_PLACES, "min_track_frames": min_track_frames}
    settings = settings_of(path, UNLIMITED.model_copy(update=update))
    noting = Noting(cloud)
    with open_rules(settings, bundle, recorded.model.limits) as rules:
        lanes = {
            name: RecordedLane(
                settings,
                recorded.model,
                rules,
                answers,
                frame_rate_hz=FRAME_RATE_HZ,
                keep_frames=answers is None,
            )
            for name, answers in (("asked", noting), ("alone", None))
        }
        runs = play(recorded, lanes)
    records = {name: read_lines(run.records) for name, run in runs.items()}
    edge = claims_of_edge(records["asked"], bundle, settings)
    hindsight = Hindsight(records["asked"], edge, recorded.known, settings.fusion, pool)
    candidates = tuple(noting.candidates)
    return EverythingAsked(
        recorded, records["alone"], records["asked"], candidates, hindsight, cloud
    )


def opinions(asked: EverythingAsked) -> tuple[list[float], list[float], list[bool]]:
    """Of every claim that the cloud made about a line: the edge's score, its own, and the truth.

    Claims about defects that do not count are left out; the edge's score is 0 where it saw nothing.
    """
    tracks = {track.track_id: track for track in asked.records.tracks}
    claims = final_claims(asked.records.tracks)
    edge, cloud, right = [], [], []
    for one in judge_claims(claims, asked.recorded.truth(claims)):
        track = tracks[one.claim.track_id]
        known = one.judgement is not Judgement.IGNORED
        if known and track.final_source == "cloud" and track.cloud is not None:
            edge.append(0.0 if track.edge is None else track.edge.score)
            cloud.append(track.cloud.score)
            right.append(one.judgement is Judgement.RIGHT)
    return edge, cloud, right


def worth_by_track(claims: Sequence[Claim], truth: RunTruth) -> dict[int, int]:
    """By track, its right claims less its wrong ones."""
    worth: dict[int, int] = {}
    for one in judge_claims(claims, truth):
        if one.judgement is not Judgement.IGNORED:
            change = 1 if one.judgement is Judgement.RIGHT else -1
            worth[one.claim.track_id] = worth.get(one.claim.track_id, 0) + change
    return worth


def observe(asked: EverythingAsked, levels: Sequence[str], group_first: int) -> dict[str, Any]:
    """The arrays of a file of observations, of one line; its boards are the groups.

    Args:
        asked: the line.
        levels: at which every candidate is answered.
        group_first: number of the line's first board among the groups.
    """
    candidates = [one for one in asked.candidates if one.question.subjects]
    before = worth_by_track(asked.hindsight.edge, asked.recorded.truth(asked.hindsight.edge))
    gains: list[dict[int, float]] = []
    for level in levels:
        claims = asked.hindsight.claims([asked.answered(one, level) for one in candidates])
        after = worth_by_track(claims, asked.recorded.truth(claims))
        gains.append({k: after.get(k, 0) - before.get(k, 0) for k in {*after, *before}})
    labels = asked.recorded.model.labels
    rows: dict[str, list[Any]] = {
        name: [] for name in ("score", "size_px", "class_id", "unit", "gain")
    }
    for unit, candidate in enumerate(candidates):
        for subject in candidate.question.subjects:
            if subject.asked:
                x1, y1, x2, y2 = subject.box.tolist()
                rows["score"].append(subject.score)
                rows["size_px"].append(((x2 - x1) * (y2 - y1)) ** 0.5)
                rows["class_id"].append(labels.index(subject.label))
                rows["unit"].append(unit)
                rows["gain"].append([of.get(subject.track_id, 0.0) for of in gains])
    cut = [[at(one, Level.parse(level)) for level in levels] for one in candidates]
    sizes = [[asked.answered(one, level).sent_bytes for level in levels] for one in candidates]
    overhead = [wire_bytes(one, b"") for one in candidates]
    line = asked.recorded.known
    return {
        "score": np.array(rows["score"], np.float32),
        "size_px": np.array(rows["size_px"], np.float32),
        "class_id": np.array(rows["class_id"], np.int32),
        "unit": np.array(rows["unit"], np.int32),
        "gain": np.array(rows["gain"], np.float32).reshape(-1, len(levels)),
        "unit_frame": np.array([one.question.sequence for one in candidates], np.int32),
        "unit_group": np.array([group_first + _board(one, line) for one in candidates], np.int32),
        "unit_whole": np.zeros(len(candidates), np.bool_),
        "unit_gain": np.zeros((len(candidates), len(levels)), np.float32),
        "unit_pixels": np.array(
            [[one.pixels.shape[0] * one.pixels.shape[1] for one in own] for own in cut]
        ).reshape(-1, len(levels)),
        "unit_texture": np.array([texture_of(one.pixels) for one in candidates], np.float32),
        "unit_bytes": np.array(sizes, np.int64) - np.array(overhead, np.int64)[:, None],
        "unit_encode_s": np.array(
            [[_encode_s(one) for one in own] for own in cut], np.float32
        ).reshape(-1, len(levels)),
    }


def join_observations(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Observations of several runs as one; units are numbered on."""
    joined = {}
    for name in parts[0]:
        columns = [part[name] for part in parts]
        if name == "unit":
            starts = np.cumsum([0, *(len(part["unit_group"]) for part in parts)])
            columns = [part + start for part, start in zip(columns, starts, strict=False)]
        joined[name] = np.concatenate(columns)
    return joined


def _board(candidate: Candidate, line: Line) -> int:
    region = candidate.question.region
    centre = line.position(candidate.question.sequence) + (region.x1 + region.x2) / 2
    return int(centre // BOARD_PITCH_PX)


def _encode_s(candidate: Candidate) -> float:
    """Processor time, so that what else runs on the machine does not count."""
    begun = time.thread_time()
    encode_at(candidate.pixels, candidate.level)
    return time.thread_time() - begun


@dataclass(frozen=True, slots=True)
class _Playing:
    """Plays lines in processes of their own; what they find is small."""

    edge: Path
    cloud: Path
    work: Path
    frames: int

    def opinions(self, seed: int) -> tuple[list[float], list[float], list[bool]]:
        """What both say about a line."""
        return opinions(self._asked(seed))

    def observations(self, job: tuple[int, int, int, Pool]) -> dict[str, Any]:
        """What asking gains on a line, at an age, with the number of its first board."""
        seed, age, first, pool = job
        return observe(self._asked(seed, min_track_frames=age, pool=pool), LEVELS, first)

    def alone(self, seed: int) -> RunRecords:
        """What the edge by itself makes of a line."""
        return edge_alone(self._line(seed), self.edge)

    def _line(self, seed: int) -> RecordedLine:
        return record_line(self.edge, seed, self.frames, self.work)

    def _asked(self, seed: int, **how: Any) -> EverythingAsked:
        cloud = RecordedCloud(Bundle.open(self.cloud))
        return ask_everything(self._line(seed), self.edge, cloud, **how)


def fit_policy_of_edge(
    edge: Path, cloud: Path, work: Path, *, frames: int = FRAMES, learned: bool | None = None
) -> tuple[Bundle, PolicyFit]:
    """The edge bundle with the policy that its validation lines give, for this cloud bundle.

    Args:
        edge: path of the edge bundle.
        cloud: path of the cloud bundle.
        work: folder for what the edge detected, and for the observations.
        frames: of each line.
        learned: takes this rule, whatever measures better; None lets held-out boards decide.

    Raises:
        ConfigError: nothing can be learned from what was observed.
    """
    bundle, cloud_bundle = Bundle.open(edge), Bundle.open(cloud)
    playing = _Playing(edge, cloud, work, frames)
    with ProcessPoolExecutor(_SIDE_BY_SIDE, mp_context=get_context("spawn")) as workers:
        said = list(workers.map(playing.opinions, EDGE_SEEDS))
        pool = fit_pool(*(np.concatenate(column) for column in zip(*said, strict=True)))
        lines = [record_line(edge, seed, frames, work) for seed in EDGE_SEEDS]
        firsts = np.cumsum([0, *(line.boards for line in lines)]).tolist()
        jobs = [
            (seed, age, first, pool)
            for age in AGES_FRAMES
            for seed, first in zip(EDGE_SEEDS, firsts, strict=False)
            if seed in VALIDATION_SEEDS
        ]
        arrays = join_observations(list(workers.map(playing.observations, jobs)))
        alone = list(workers.map(playing.alone, EDGE_SEEDS))
    meta = {
        "format": FORMAT,
        "edge_bundle": bundle.digest,
        "edge_scores": bundle.scores_digest,
        "cloud_bundle": cloud_bundle.digest,
        "levels": list(LEVELS),
        "labels": list(bundle.labels),
        "groups": [f"board {number}" for number in range(int(arrays["unit_group"].max()) + 1)],
        "material": f"lines {', '.join(map(str, VALIDATION_SEEDS))}, {frames} frames each",
        "material_digest": "",
        "reference": "truth",
        "ordinary": ordinary_frames(lines).model_dump(),
    }
    path = work / "observations.npz"
    buffer = io.BytesIO()
    np.savez_compressed(buffer, meta=np.array(json.dumps(meta)), **arrays)
    path.write_bytes(buffer.getvalue())
    observations = read_observations(path)
    check_learnable(observations, path, groups_min=GROUPS_MIN)
    fit = fit_policy(observations, class_costs={}, learned=learned)
    risk = risk_units(list(zip(lines, alone, strict=True)), bundle)
    return put_policy(bundle, fit, observations, risk=risk, pool=pool), fit
