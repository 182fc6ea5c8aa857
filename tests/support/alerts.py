"""Alert rules on made-up series, judged by Prometheus's own tool."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

RULES = Path("deploy") / "prometheus" / "alerts.yml"
HOURS = 3
"""How long the made-up series last, one sample a minute."""
EDGE, ESCALATOR = 'job="edge",instance="e"', 'job="escalator",instance="c"'

Series = dict[str, str]


class Case(NamedTuple):
    """What an alert is to do at the end of some series."""

    alert: str
    series: list[Series]
    fires: bool


def constant(series: str, value: float) -> Series:
    """A series that stays as it is, from its first sample on."""
    return {"series": series, "values": " ".join([f"{value}"] * (HOURS * 60 + 1))}


def rising(series: str, per_minute: float) -> Series:
    """A counter."""
    return {"series": series, "values": f"0+{per_minute}x{HOURS * 60}"}


def lately(series: str, value: float, *, since_min: int, before: float | None = None) -> Series:
    """A series that has had a value for some minutes only, and another or none before."""
    earlier = "_" if before is None else f"{before}"
    samples = [earlier] * (HOURS * 60 + 1 - since_min) + [f"{value}"] * since_min
    return {"series": series, "values": " ".join(samples)}


@cache
def rules(repository: Path) -> dict[str, dict[str, Any]]:
    """The alerts that are shipped, by name."""
    document = yaml.safe_load((repository / RULES).read_text("utf-8"))
    found = [rule for group in document["groups"] for rule in group["rules"]]
    by_name = {rule["alert"]: rule for rule in found}
    assert len(by_name) == len(found)
    return by_name


def firing(repository: Path, folder: Path, series: list[Series], alert: str) -> bool:
    """Whether an alert fires at the end of these series, with every label that its texts name."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (package prometheus)")
    rule = rules(repository)[alert]
    # Alone, because the tool evaluates every rule of a file at every minute.
    shipped = folder / "rules.yml"
    shipped.write_text(yaml.safe_dump({"groups": [{"name": alert, "rules": [rule]}]}), "utf-8")
    case: dict[str, Any] = {
        "interval": "1m",
        "input_series": series,
        "alert_rule_test": [{"eval_time": f"{HOURS}h", "alertname": alert, "exp_alerts": []}],
    }
    path = folder / "test.yml"
    document = {"rule_files": [str(shipped)], "tests": [case]}
    path.write_text(yaml.safe_dump(document), "utf-8")
    judged = subprocess.run(
        [promtool, "test", "rules", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if judged.returncode == 0:
        return False
    # The tool expects no alert; that it found one is what it complains of.
    complaint = judged.stdout + judged.stderr
    assert "exp:" in complaint, complaint
    for label in re.findall(r"\$labels\.(\w+)", str(rule["annotations"])):
        assert f'{label}="' in complaint, f"{alert} names the label {label}, which it has not"
    return True
