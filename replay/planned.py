"""The edge's own planner as a policy of a replay: its dial is the price of a byte."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge_node.config import CropSettings
from edge_node.logic.plan import Ask as PlannedAsk
from edge_node.logic.plan import Planner, Prices
from foundation.bundle import Bundle
from foundation.errors import ConfigError
from foundation.gains import GainModel, LevelCosts, variance_gains
from foundation.geometry import box_areas
from foundation.levels import Level
from foundation.settings import parse_settings
from replay.answers import Answers, Ask, whole_ask
from replay.outcomes import PROPOSAL_FLOOR, Asks
from replay.policies import Policy, Setting
from replay.views import Part, View

GAIN_FLOOR = 0.01
"""Calibrated score from which a detection has a gain."""
_PRICES = np.geomspace(1.0, 1e-6, 160)
"""Shares of the price from which nothing is asked."""
_TEXTURE_MIN = 0.05
_GAINS = "planned, gains"
_FITTED = "Give the policy that `model-workshop fit-policy` wrote for these two bundles"


@dataclass(frozen=True)
class Planned:
    """Plans crops, levels and whole frames by value per byte."""

    name: str
    about: str
    model: GainModel | None
    """None: p(1 - p) times what each level retains, found on calibration."""
    levels: tuple[str, ...]
    crop: CropSettings
    labels: tuple[str, ...]
    crops: bool
    own: bool = True

    def settings(self, part: Part) -> Sequence[Setting]:
        """Prices from high to low, with the gain model."""
        model = self.model or variance_model(part, self.levels, crops=self.crops)
        planner = Planner(model, self.crop)
        top = self._top_price(part.views, planner, model)
        return [(planner, model, top * float(share)) for share in _PRICES] if top > 0 else []

    def choose(self, views: Sequence[View], setting: Setting) -> list[Asks]:
        """What is worth its bytes."""
        planner, model, price = setting
        plans = self._plans(views, planner, model, price)
        return [tuple(sorted(_question(ask, model) for ask in asks)) for asks in plans]

    def _top_price(self, views: Sequence[View], planner: Planner, model: GainModel) -> float:
        """The price of a byte from which nothing is asked; it has the unit of the gains."""
        top = 0.0
        while True:
            # How crops are joined depends on the price: at a higher one, some are worth more.
            plans = self._plans(views, planner, model, top)
            best = max((ask.value / ask.size_bytes for asks in plans for ask in asks), default=0.0)
            if best <= top:
                return top
            top = best

    def _plans(
        self, views: Sequence[View], planner: Planner, model: GainModel, price: float
    ) -> list[list[PlannedAsk]]:
        costs = model.class_costs(self.labels)
        plans = []
        for view in views:
            found = view.seen.take(view.seen.scores >= GAIN_FLOOR)
            gains = model.gains_of(found.scores, np.sqrt(box_areas(found.boxes)))
            plans.append(
                planner.plan(
                    found.boxes,
                    gains * costs[found.class_ids],
                    found.scores >= PROPOSAL_FLOOR,
                    view.size,
                    Prices(price),
                    view.texture,
                )
            )
        return plans


def variance_model(part: Part, levels: Sequence[str], *, crops: bool) -> GainModel:
    """p(1 - p) times what each level retains of the gap between both models on a part.

    Whole frames tell that, so levels with a side of their own are left out where there are others.
    """
    levels = [one for one in levels if Level.parse(one).side_px is None] or levels
    edge = part.utility([()] * len(part.positions))
    gap = part.utility(None) - edge
    retained = [(part.utility(part.at(level)) - edge) / gap if gap > 0 else 1.0 for level in levels]
    plain = variance_gains([level_costs(part, level) for level in levels])
    gains = tuple(
        (tuple(max(0.0, share) * p * (1 - p) for p in plain.score_knots),) for share in retained
    )
    shares = {"crop_share": 1.0 if crops else 0.0, "frame_share": 1.0}
    return plain.model_copy(update={"gains": gains, **shares})


def level_costs(part: Part, level: str) -> LevelCosts:
    """What whole frames of a part cost at a level, fitted over texture by least squares."""
    own = LevelCosts(level=level)
    rows = []
    for position in part.positions:
        frame = part.outcomes.frames[position]
        ask = whole_ask(frame, level)
        size, encode_s = part.outcomes.answers.image(frame, ask)
        width, height = Level.parse(level).shrunk_size(*frame.size)
        texture = max(part.outcomes.answers.texture(frame, ask.place), _TEXTURE_MIN)
        sent = max(1.0, size - own.fixed_bytes)
        rows.append((np.log(texture), np.log(sent / (width * height)), encode_s / (width * height)))
    log_texture, log_bytes, seconds = np.array(rows, np.float64).T
    spread = log_texture.var()
    power = float(np.cov(log_texture, log_bytes, bias=True)[0, 1] / spread) if spread > 0 else 0.0
    power = float(np.clip(power, 0.0, 4.0))
    return LevelCosts(
        level=level,
        fixed_bytes=own.fixed_bytes,
        log_bytes=float(log_bytes.mean() - power * log_texture.mean()),
        texture_power=power,
        encode_s_per_megapixel=float(min(60.0, np.median(seconds) * 1e6)),
    )


def _question(ask: PlannedAsk, model: GainModel) -> Ask:
    region = ask.region
    return Ask((region.x1, region.y1, region.x2, region.y2), model.levels[ask.level].level)


def own_policies(
    answers: Answers,
    path: Path | None,
    levels: tuple[str, ...],
    crop: CropSettings,
    *,
    crops: bool,
) -> tuple[list[Policy], tuple[str, ...]]:
    """Ours: with p(1 - p), and with a gain model where a file or the edge's bundle has one.

    Returns:
        The policies, and in sentences why the policy of the edge's bundle is not among them. A
        file that does not fit is refused, because somebody asked for it; what a bundle brings
        along is left out, so that other clouds and levels can be tried with it.

    Raises:
        ConfigError: the file is none, was fitted for other bundles, or may ask nothing with these
            levels and without crops.
    """
    plain = Planned(
        "planned, p(1-p)",
        "Value per byte, crops and whole frames, p(1 - p) times what a level retains.",
        None,
        levels,
        crop,
        answers.labels,
        crops,
    )
    edge, cloud = answers.edge_bundle, answers.cloud_bundle
    if path is not None:
        model, origin = read_model(path), str(path)
        check_fitted(model, edge, cloud, origin)
        model = _narrowed(model, levels, origin, crops=crops)
    elif edge.policy is None:
        return [plain], ()
    else:
        origin = "the edge's bundle"
        try:
            check_fitted(edge.policy, edge, cloud, origin)
            model = _narrowed(edge.policy, levels, origin, crops=crops)
        except ConfigError as error:
            return [plain], (f"'{_GAINS}' is left out. {error}",)
    about = f"Value per byte, with the gains of {origin if path is None else path.name}."
    return [replace(plain, name=_GAINS, about=about, model=model), plain], ()


def read_model(path: Path) -> GainModel:
    """The gain model in a file.

    Raises:
        ConfigError: it is absent, or none.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"The policy {path} cannot be read: {error}", remedy=_FITTED) from error
    return parse_settings(document, GainModel, origin=str(path))


def check_fitted(model: GainModel, edge: Bundle, cloud: Bundle, origin: str) -> None:
    """Compares the bundles that a gain model names with those of a replay.

    Raises:
        ConfigError: it was fitted on others.
    """
    for wanted, own, name in (
        (model.edge_scores, edge.scores_digest, edge.info.name),
        (model.cloud_bundle, cloud.digest, cloud.info.name),
    ):
        if wanted and wanted != own:
            raise ConfigError(
                f"The policy of {origin} was fitted for {wanted[:12]}, but {name} is {own[:12]}",
                remedy=_FITTED,
            )


def _narrowed(model: GainModel, levels: Sequence[str], origin: str, *, crops: bool) -> GainModel:
    """What a gain model may do within what is studied.

    Raises:
        ConfigError: that is nothing.
    """
    kept = [level for level in map(Level.parse, levels) if level in model.parsed_levels]
    if not kept:
        known = ",".join(map(str, model.parsed_levels))
        raise ConfigError(
            f"The policy of {origin} knows none of the levels {','.join(levels)}",
            remedy=f"Give --levels {known}, or some of them",
        )
    model = model.with_levels(kept)
    if crops:
        return model
    if model.frame_share == 0:
        raise ConfigError(
            f"The policy of {origin} asks about crops alone",
            remedy="Leave --frames-only out, or fit a policy on observations of whole frames",
        )
    return model.model_copy(update={"crop_share": 0.0})
