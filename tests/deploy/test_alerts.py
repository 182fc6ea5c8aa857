"""The alert rules, judged by Prometheus's own tool on made-up series."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

DAY_S = 86_400
HOURS = 3
"""How long the made-up series last, one sample a minute."""
EDGE, ESCALATOR = 'job="edge",instance="e"', 'job="escalator",instance="c"'


def constant(series: str, value: float) -> dict[str, str]:
    """A series that stays as it is."""
    return {"series": series, "values": " ".join([str(value)] * (HOURS * 60 + 1))}


def rising(series: str, per_minute: float) -> dict[str, str]:
    """A counter."""
    return {"series": series, "values": f"0+{per_minute}x{HOURS * 60}"}


def firing(repository: Path, folder: Path, series: list[dict[str, str]], alert: str) -> bool:
    """Whether an alert fires at the end of these series."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (package prometheus)")
    rules = repository / "deploy" / "prometheus" / "alerts.yml"
    case: dict[str, Any] = {
        "interval": "1m",
        "input_series": series,
        "alert_rule_test": [{"eval_time": f"{HOURS}h", "alertname": alert, "exp_alerts": []}],
    }
    path = folder / "test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": [case]}), "utf-8")
    judged = subprocess.run(
        [promtool, "test", "rules", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    # The tool expects no alert; that it found one is what it complains of.
    complaint = judged.stdout + judged.stderr
    assert judged.returncode == 0 or "exp:" in complaint, complaint
    return judged.returncode != 0


def ends_in(service: str, file: str, days: float) -> list[dict[str, str]]:
    """A certificate that ends so many days after the end of the series."""
    labels = f'{EDGE if service == "edge" else ESCALATOR},file="{file}"'
    name = f"{service}_certificate_expiry_timestamp_seconds"
    ends = HOURS * 3600 + days * DAY_S
    return [constant(f"{name}{{{labels}}}", ends)]


def handshakes(begun: float, identified: float) -> list[dict[str, str]]:
    """Connections to an escalator, per minute."""
    return [
        rising(f"escalator_handshakes_total{{{ESCALATOR}}}", begun),
        rising(f"escalator_identified_total{{{ESCALATOR}}}", identified),
    ]


@pytest.mark.parametrize(
    ("alert", "series", "fires"),
    [
        ("HardcaseCertificateExpires", ends_in("edge", "certificate", 13), True),
        ("HardcaseCertificateExpires", ends_in("escalator", "revoked", 13), True),
        ("HardcaseCertificateExpires", ends_in("edge", "certificate", 15), False),
        ("HardcaseCertificateExpires", ends_in("edge", "certificate", math.nan), False),
        ("HardcaseCertificateExpired", ends_in("escalator", "ca", 1), False),
        ("HardcaseCertificateExpired", ends_in("escalator", "ca", -1), True),
        (
            "HardcaseCertificateNotTaken",
            [rising(f"edge_certificate_reload_errors_total{{{EDGE}}}", 0.1)],
            True,
        ),
        ("HardcasePlainText", [constant(f"edge_plain_text{{{EDGE}}}", 1)], True),
        ("HardcasePlainText", [constant(f"escalator_plain_text{{{ESCALATOR}}}", 1)], True),
        ("HardcasePlainText", [constant(f"escalator_plain_text{{{ESCALATOR}}}", 0)], False),
        (
            "HardcaseLinkMistrusted",
            [rising(f'edge_uplink_errors_total{{{EDGE},reason="identity"}}', 1)],
            True,
        ),
        (
            "HardcaseLinkMistrusted",
            [rising(f'edge_uplink_errors_total{{{EDGE},reason="unavailable"}}', 1)],
            False,
        ),
        ("HardcaseHandshakesRefused", handshakes(2, 2), False),
        ("HardcaseHandshakesRefused", handshakes(2, 1), True),
        (
            "HardcaseIdentityRefused",
            [rising(f'escalator_identity_refusals_total{{{ESCALATOR},reason="revoked"}}', 1)],
            True,
        ),
        (
            "HardcaseIdentityRefused",
            [rising(f'escalator_rejects_total{{{ESCALATOR},reason="not_permitted"}}', 1)],
            True,
        ),
        (
            "HardcaseIdentityRefused",
            [rising(f'escalator_rejects_total{{{ESCALATOR},reason="too_small"}}', 1)],
            False,
        ),
        ("HardcaseNotKept", [rising(f'edge_spool_losses_total{{{EDGE},reason="disk"}}', 1)], True),
        ("HardcaseNotKept", [rising(f'edge_spool_losses_total{{{EDGE},reason="disk"}}', 0)], False),
        ("HardcaseSpoolDamaged", [rising(f"edge_spool_quarantines_total{{{EDGE}}}", 0.1)], True),
        ("HardcaseSpoolDamaged", [rising(f"edge_spool_quarantines_total{{{EDGE}}}", 0)], False),
        ("HardcaseNothingLeaves", [rising(f"edge_egress_unentered_total{{{EDGE}}}", 1)], True),
        ("HardcaseNothingLeaves", [rising(f"edge_egress_unentered_total{{{EDGE}}}", 0)], False),
    ],
)
def test_alert_fires_when_it_should(
    repository: Path, tmp_path: Path, alert: str, series: list[dict[str, str]], fires: bool
) -> None:
    """And not otherwise."""
    assert firing(repository, tmp_path, series, alert) is fires


def test_every_alert_explains_itself(repository: Path) -> None:
    """Each has a severity, a sentence that says what is, and one that says what it means."""
    document = yaml.safe_load((repository / "deploy/prometheus/alerts.yml").read_text("utf-8"))
    for group in document["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"warning", "critical"}
            assert set(rule["annotations"]) == {"summary", "description"}
            assert all(text.endswith(".") for text in rule["annotations"].values())
