"""The gate: measures a model, judges it, and writes it only where it holds every floor."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.bundle import Bundle
from foundation.errors import ConfigError
from model_workshop.datasets import Split, check_unseen, read_split, split_digest
from model_workshop.evaluation.coco import check_labels
from model_workshop.evaluation.measure import measure_bundles
from model_workshop.gating.errors import BelowFloorError
from model_workshop.gating.floors import FIGURES, Floors, read_floors
from model_workshop.gating.judgement import Judgement, check_strata, judge


@dataclass(frozen=True)
class Gate:
    """Floors and what is needed to hold models against them.

    Attributes:
        floors_path: the file, for messages and the model card.
        floors: what is demanded.
        split: what it is measured on.
        reference: what losses are measured against; None where no losses are limited.
        proposer: for a crop model, the frame model that says where it is asked.
        threads: of one inference.
    """

    floors_path: Path
    floors: Floors
    split: Split
    reference: Bundle | None = None
    proposer: Bundle | None = None
    threads: int = 1

    def judge(self, bundle: Bundle) -> Judgement:
        """Measures a bundle, and the reference on the same images, and compares with the floors.

        Raises:
            ConfigError: labels differ, a picture cannot be read, the model was trained on the
                split or its scores were fitted there, or floors name a stratum that the split does
                not have.
            IntegrityError: the model does not load or run.
        """
        check_unseen(bundle.info, self.split, to_judge=True)
        bundles = [bundle] if self.reference is None else [self.reference, bundle]
        evaluation = measure_bundles(
            bundles, self.split, proposer=self.proposer, threads=self.threads
        )
        return judge(evaluation, self.floors)

    def admit(self, bundle: Bundle) -> Bundle:
        """Judges a bundle, prints the table, and gives it back with the judgement in its card.

        Raises:
            BelowFloorError: it misses a floor; the message names each one missed.
            ConfigError: see `judge`.
            IntegrityError: see `judge`.
        """
        judgement = self.judge(bundle)
        print(judgement.table())
        if not judgement.passed:
            raise BelowFloorError(
                f"{bundle.info.name} is refused by {self.floors_path} on {self.split.directory}: "
                + "; ".join(judgement.reasons),
                remedy="Improve the model; the floor was decided before it was optimized",
            )
        card = bundle.info.model_card
        figures = {**card.figures, "gate": self._record(judgement)}
        info = bundle.info.model_copy(
            update={"model_card": card.model_copy(update={"figures": figures})}
        )
        return dataclasses.replace(bundle, info=info)

    def _record(self, judgement: Judgement) -> dict[str, Any]:
        """What the model card says of a judgement that was passed."""
        overall = judgement.figures.overall
        record: dict[str, Any] = {
            "floors": hashlib.sha256(self.floors_path.read_bytes()).hexdigest(),
            "split": split_digest(self.split),
            "verdicts": judgement.counts,
            "overall": {name: getattr(overall, name).model_dump() for name in FIGURES},
        }
        if self.reference is not None:
            record["reference"] = self.reference.digest
        return record


def read_gate(
    floors_path: Path,
    split_path: Path,
    *,
    reference: Bundle | None = None,
    proposer: Bundle | None = None,
    threads: int = 1,
) -> Gate:
    """Reads and checks everything a gate needs, so that judging does not fail for want of it.

    Args:
        floors_path: floors.yaml.
        split_path: what to measure on.
        reference: what losses are measured against, if floors limit any.
        proposer: for a crop model, the frame model that says where it is asked.
        threads: of one inference.

    Raises:
        ConfigError: a file is not what it should be, or losses are limited without a reference.
    """
    floors = read_floors(floors_path)
    if floors.losses is None:
        reference = None
    elif reference is None:
        raise ConfigError(
            f"{floors_path} limits losses, and there is nothing to lose against",
            remedy="Give the reference (--reference BUNDLE)",
        )
    split = read_split(split_path)
    for bundle in filter(None, (reference, proposer)):
        check_labels(bundle, split)
    classes = (key for key in floors.named_strata if key.startswith("class/"))
    check_strata(classes, [f"class/{label}" for label in split.labels])
    return Gate(floors_path, floors, split, reference, proposer, threads)


def write_admitted(bundle: Bundle, path: Path, gate: Gate | None) -> Bundle:
    """Writes a bundle if it holds every floor, and nothing otherwise.

    Args:
        bundle: what a command has made.
        path: where it is wanted.
        gate: None where no floors were given; said aloud.

    Returns:
        What was written: the judgement is in its model card.

    Raises:
        BelowFloorError: it misses a floor; nothing was written.
        ConfigError: it cannot be measured or written.
        IntegrityError: the model does not load or run.
    """
    if gate is None:
        print("No accuracy floor was given (--floors): nothing says that this model is good enough")
    else:
        bundle = gate.admit(bundle)
    bundle.write(path)
    return bundle
