from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from foundation.errors import ConfigError
from model_workshop.gating.floors import Floors, JudgedBy, read_floors

SOUND: dict[str, Any] = {
    "objects_min": 30,
    "too_few_objects": "skip",
    "floors_points": {
        "judged_by": "point",
        "overall": {"ap50_95": 30, "recall": 60},
        "every_stratum": {"ap50": 20},
        "strata": {"class/red": {"ap50": 40}},
    },
}


def write(path: Path, document: dict[str, Any]) -> Path:
    """Writes a floors file."""
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def test_a_stratum_of_its_own_replaces_the_one_for_all(tmp_path: Path) -> None:
    """What holds where, and what is compared with it."""
    floors = read_floors(write(tmp_path / "floors.yaml", SOUND))
    limits = floors.floors_points
    assert limits is not None
    assert limits.judged_by is JudgedBy.POINT
    assert dict(limits.of("overall").given()) == {"ap50_95": 30, "recall": 60}
    assert dict(limits.of("class/red").given()) == {"ap50": 40}
    assert dict(limits.of("size/smallest").given()) == {"ap50": 20}
    assert floors.losses is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"object_min": 3}, "unknown key 'object_min', did you mean 'objects_min'?"),
        (
            {"floors_points": {"judged_by": "point", "overall": {"map50_95": 30}}},
            "unknown key 'floors_points.overall.map50_95', did you mean 'ap50_95'?",
        ),
        ({"floors_points": {"overall": {"ap50": 30}}}, "'floors_points.judged_by' is missing"),
        ({"floors_points": {"judged_by": "luck", "overall": {"ap50": 30}}}, "judged_by"),
        ({"floors_points": {"judged_by": "point", "overall": {"ap50": 130}}}, "overall.ap50"),
        ({"objects_min": 0}, "objects_min"),
        ({"too_few_objects": "ignore"}, "too_few_objects"),
        ({"floors_points": {"judged_by": "point"}}, "neither floors_points nor losses_points_max"),
    ],
)
def test_wrong_file_is_named_with_a_suggestion(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """A misspelt floor that passes everything would be worse than none."""
    path = write(tmp_path / "floors.yaml", {**SOUND, **changes})
    with pytest.raises(ConfigError) as caught:
        read_floors(path)
    assert message in caught.value.message
    assert str(path) in caught.value.message


def test_what_decides_has_no_default() -> None:
    """Who passes depends on them, so the file says them."""
    required = {name for name, field in Floors.model_fields.items() if field.is_required()}
    assert required == {"objects_min", "too_few_objects"}


def test_the_shipped_example_is_sound(repository: Path) -> None:
    """The edge may lose 0.5 points overall and 1.0 in every stratum against its own float."""
    losses = read_floors(repository / "reference_line" / "floors.yaml").losses
    assert losses is not None
    assert dict(losses.overall.given())["ap50_95"] == 0.5
    assert dict(losses.every_stratum.given())["ap50_95"] == 1.0
