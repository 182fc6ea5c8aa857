"""Searches the INT8 version of a model that is still good: what stays float, and whose ranges.

What one scale cannot serve stays float, and so do blocks that 8 bits destroy on their own. The
calibrator is the one whose version agrees best with the float model, or of several near ones has
the highest mAP. Where a loss is limited, the next most sensitive blocks follow, twice as many each
time, until it is held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from foundation.errors import IntegrityError
from model_workshop.gating.errors import BelowFloorError
from model_workshop.quantization.ranges import Calibrator
from model_workshop.quantization.workbench import Sensitivity, Trial, Workbench, split_destroyed

AGREEMENT_MIN = 0.2
"""Below this little of the float model is left. Good versions agree by 0.6 and more, those whose
scores alone have moved by 0.3 and more."""
_FLOAT_SHARE_MAX = 0.5
_NEAR = 0.05


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was chosen, and from what.

    Attributes:
        chosen: the version.
        trials: one of every calibrator, with the destroyed blocks float.
        sensitivities: of all blocks: the destroyed ones, then the others, the most harmful first.
        destroyed: how many are destroyed and stay float from the start.
        fallbacks: versions with more blocks float, in order; empty where none was needed.
    """

    chosen: Trial
    trials: tuple[Trial, ...]
    sensitivities: tuple[Sensitivity, ...]
    destroyed: int
    fallbacks: tuple[Trial, ...]


def search(
    bench: Workbench,
    *,
    loss_max: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> SearchResult:
    """Searches.

    Args:
        bench: the float model; with a split where a loss is limited.
        loss_max: most that mAP50-95 may fall on the split, in 0..1; None for no limit.
        say: is told what goes on.

    Raises:
        BelowFloorError: the loss is above the limit with half of the blocks float.
        IntegrityError: the best version has next to nothing in common with the float model.
    """
    say(f"measuring the sensitivity of {len(bench.blocks)} blocks, one at a time")
    destroyed, sound = split_destroyed([bench.sensitivity(block) for block in bench.blocks])
    ordered, kept = [*destroyed, *sound], len(destroyed)
    say(f"{kept} of them are destroyed by INT8 and stay float; trying calibrators")
    blocks = [entry.block for entry in ordered]
    trials = tuple(bench.try_out(calibrator, blocks[:kept]) for calibrator in Calibrator)
    chosen = best_trial(trials)
    fallbacks: list[Trial] = []
    step = 1
    while not _holds(bench, chosen, loss_max):
        count = len(chosen.float_blocks) + step
        if count > _FLOAT_SHARE_MAX * len(blocks):
            raise _too_lossy(bench, [*trials, *fallbacks], loss_max)
        say(f"{_lost(bench, chosen)}; leaving {count} blocks float")
        chosen = bench.try_out(chosen.calibrator, blocks[:count])
        fallbacks.append(chosen)
        step *= 2
    check_agreement(chosen.bundle.info.name, chosen.agreement)
    return SearchResult(chosen, trials, tuple(ordered), kept, tuple(fallbacks))


def best_trial(trials: Sequence[Trial]) -> Trial:
    """The version that agrees best, or the one with the highest mAP of those that are as near.

    mAP decides between near ones only: a split of some dozen images moves by half a point for no
    reason, and what it helped to choose it can no longer judge.
    """
    enough = max(trial.agreement for trial in trials) - _NEAR
    near = [trial for trial in trials if trial.agreement >= enough]
    # Of versions that are alike the first, which clips least.
    return max(near, key=lambda trial: (trial.map50_95 or 0.0, round(trial.agreement, 3)))


def check_agreement(name: str, agreed: float) -> None:
    """Refuses a version that runs and finds next to nothing of what the float model finds.

    Raises:
        IntegrityError: the agreement is below the minimum.
    """
    if agreed < AGREEMENT_MIN:
        raise IntegrityError(
            f"The INT8 version of {name} runs, but agrees with the float model by {agreed:.2f} "
            f"only (at least {AGREEMENT_MIN}): it no longer detects what the float model does",
            remedy="Calibrate with images of the model's own domain; where they are, fine-tune the "
            "model with quantization in the loop, or run it in float",
        )


def _loss(bench: Workbench, trial: Trial) -> float:
    return (bench.map50_95 or 0.0) - (trial.map50_95 or 0.0)


def _holds(bench: Workbench, trial: Trial, loss_max: float | None) -> bool:
    return loss_max is None or _loss(bench, trial) <= loss_max


def _lost(bench: Workbench, trial: Trial) -> str:
    return f"{100 * _loss(bench, trial):.1f} points of mAP50-95 are lost"


def _too_lossy(bench: Workbench, trials: list[Trial], loss_max: float | None) -> BelowFloorError:
    best = min(trials, key=lambda trial: _loss(bench, trial))
    return BelowFloorError(
        f"INT8 costs {bench.bundle.info.name} too much: {_lost(bench, best)} even with "
        f"{len(best.float_blocks)} of {len(bench.blocks)} blocks float, and "
        f"{100 * (loss_max or 0):g} are allowed (--loss-max)",
        remedy="Give more calibration images, fine-tune with quantization in the loop, or stay "
        "with the float model",
    )
