"""The alert rules about identity and what is kept, on made-up series."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.support.alerts import (
    EDGE,
    ESCALATOR,
    HOURS,
    Case,
    Series,
    constant,
    firing,
    rising,
)

DAY_S = 86_400.0
EXPIRES, EXPIRED = "HardcaseCertificateExpires", "HardcaseCertificateExpired"
OVERDUE = "HardcaseRevocationListOverdue"


def ends_in(
    service: str, file: str, days: float, *, lifetime_days: float | None = 90.0
) -> list[Series]:
    """A file that ends so many days after the end of the series; a list has no lifetime."""
    labels = f'{EDGE if service == "edge" else ESCALATOR},file="{file}"'
    ends = HOURS * 3600 + days * DAY_S
    series = [constant(f"{service}_certificate_expiry_timestamp_seconds{{{labels}}}", ends)]
    if lifetime_days is not None:
        name = f"{service}_certificate_lifetime_seconds"
        series.append(constant(f"{name}{{{labels}}}", lifetime_days * DAY_S))
    return series


def overdue(days: float) -> list[Series]:
    """A list of revoked certificates of which the next was due so many days ago."""
    return ends_in("escalator", "revoked", -days, lifetime_days=None)


def handshakes(begun: float, identified: float) -> list[Series]:
    """Connections to an escalator, per minute."""
    return [
        rising(f"escalator_handshakes_total{{{ESCALATOR}}}", begun),
        rising(f"escalator_identified_total{{{ESCALATOR}}}", identified),
    ]


CERTIFICATES = [
    Case(EXPIRES, ends_in("edge", "certificate", 13), True),
    Case(EXPIRES, ends_in("escalator", "ca", 13), True),
    Case(EXPIRES, ends_in("edge", "certificate", 15), False),
    Case(EXPIRES, ends_in("edge", "certificate", 15, lifetime_days=365), False),
    Case(EXPIRES, ends_in("edge", "certificate", 0.4, lifetime_days=1), False),
    Case(EXPIRES, ends_in("edge", "certificate", 0.3, lifetime_days=1), True),
    Case(EXPIRES, ends_in("escalator", "certificate", 11, lifetime_days=30), False),
    Case(EXPIRES, ends_in("escalator", "certificate", 9, lifetime_days=30), True),
    Case(EXPIRES, ends_in("edge", "certificate", math.nan, lifetime_days=math.nan), False),
    Case(EXPIRES, overdue(-1), False),
    Case(EXPIRED, ends_in("escalator", "ca", 1), False),
    Case(EXPIRED, ends_in("escalator", "ca", -1), True),
    Case(EXPIRED, ends_in("edge", "certificate", -0.01, lifetime_days=1), True),
    Case(EXPIRED, ends_in("edge", "certificate", math.nan), False),
    Case(EXPIRED, overdue(1), False),
    Case(OVERDUE, overdue(1), True),
    Case(OVERDUE, overdue(-1), False),
    Case(OVERDUE, overdue(math.nan), False),
    Case(OVERDUE, ends_in("escalator", "certificate", -1), False),
]

IDENTITY = [
    Case(
        "HardcaseCertificateNotTaken",
        [rising(f"edge_certificate_reload_errors_total{{{EDGE}}}", 0.1)],
        True,
    ),
    Case(
        "HardcaseCertificateNotTaken",
        [rising(f"escalator_certificate_reload_errors_total{{{ESCALATOR}}}", 0.1)],
        True,
    ),
    Case(
        "HardcaseCertificateNotTaken",
        [rising(f"edge_certificate_reload_errors_total{{{EDGE}}}", 0)],
        False,
    ),
    Case("HardcasePlainText", [constant(f"edge_plain_text{{{EDGE}}}", 1)], True),
    Case("HardcasePlainText", [constant(f"escalator_plain_text{{{ESCALATOR}}}", 1)], True),
    Case("HardcasePlainText", [constant(f"escalator_plain_text{{{ESCALATOR}}}", 0)], False),
    Case(
        "HardcaseLinkMistrusted",
        [rising(f'edge_uplink_errors_total{{{EDGE},reason="identity"}}', 1)],
        True,
    ),
    Case(
        "HardcaseLinkMistrusted",
        [rising(f'edge_uplink_errors_total{{{EDGE},reason="unavailable"}}', 1)],
        False,
    ),
    Case("HardcaseHandshakesRefused", handshakes(2, 2), False),
    Case("HardcaseHandshakesRefused", handshakes(2, 1), True),
    Case(
        "HardcaseIdentityRefused",
        [rising(f'escalator_identity_refusals_total{{{ESCALATOR},reason="revoked"}}', 1)],
        True,
    ),
    Case(
        "HardcaseIdentityRefused",
        [rising(f'escalator_rejects_total{{{ESCALATOR},reason="not_permitted"}}', 1)],
        True,
    ),
    Case(
        "HardcaseIdentityRefused",
        [rising(f'escalator_rejects_total{{{ESCALATOR},reason="too_small"}}', 1)],
        False,
    ),
]

KEEPING = [
    Case("HardcaseNotKept", [rising(f'edge_spool_losses_total{{{EDGE},reason="disk"}}', 1)], True),
    Case("HardcaseNotKept", [rising(f'edge_spool_losses_total{{{EDGE},reason="disk"}}', 0)], False),
    # Found while the spool was opened: the first scrape has it already.
    Case("HardcaseSpoolDamaged", [constant(f"edge_spool_quarantines_total{{{EDGE}}}", 1)], True),
    Case("HardcaseSpoolDamaged", [rising(f"edge_spool_quarantines_total{{{EDGE}}}", 0.1)], True),
    Case("HardcaseSpoolDamaged", [constant(f"edge_spool_quarantines_total{{{EDGE}}}", 0)], False),
    Case("HardcaseNothingLeaves", [rising(f"edge_egress_unentered_total{{{EDGE}}}", 1)], True),
    Case("HardcaseNothingLeaves", [rising(f"edge_egress_unentered_total{{{EDGE}}}", 0)], False),
]

CASES = [*CERTIFICATES, *IDENTITY, *KEEPING]


@pytest.mark.parametrize(("alert", "series", "fires"), CASES)
def test_alert_fires_when_it_should(
    repository: Path, tmp_path: Path, alert: str, series: list[Series], fires: bool
) -> None:
    """And not otherwise."""
    assert firing(repository, tmp_path, series, alert) is fires
