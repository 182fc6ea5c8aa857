"""docs/alerts.md says of every alert what to do, and of no other; every alert leads there."""

from __future__ import annotations

import re
from pathlib import Path

from checks.links import anchors
from tests.deploy import test_alerts, test_service_alerts
from tests.support.alerts import rules

SECTION = re.compile(r"^### (\w+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)


def sections(repository: Path) -> dict[str, str]:
    """What the document says of each alert, by its name."""
    found = SECTION.findall((repository / "docs" / "alerts.md").read_text("utf-8"))
    assert len(dict(found)) == len(found)
    return dict(found)


def test_document_and_rules_name_the_same_alerts(repository: Path) -> None:
    """In the same order, too: the document is read beside the rules."""
    assert list(sections(repository)) == list(rules(repository))


def test_every_section_says_what_is_lost_and_what_to_do(repository: Path) -> None:
    """Beside what the alert means, which comes first."""
    for name, text in sections(repository).items():
        meaning, _, rest = text.strip().partition("\n\n")
        assert meaning.endswith("."), name
        assert re.findall(r"^\*(.*?):\*", rest, re.MULTILINE) == [
            "Lost meanwhile",
            "What to do",
        ], name


def test_every_alert_explains_itself(repository: Path) -> None:
    """Each has a severity, says what is and what it means, and where to read on."""
    headings = anchors((repository / "docs" / "alerts.md").read_text("utf-8"))
    for name, rule in rules(repository).items():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        texts = dict(rule["annotations"])
        path, _, anchor = texts.pop("runbook").partition("#")
        assert (path, anchor) == ("docs/alerts.md", name.lower())
        assert anchor in headings
        assert set(texts) == {"summary", "description"}
        assert all(text.endswith(".") for text in texts.values())


def test_every_alert_is_seen_to_fire_and_to_keep_quiet(repository: Path) -> None:
    """A rule that is never tried may never fire."""
    cases = [*test_alerts.CASES, *test_service_alerts.CASES]
    tried = {(case.alert, case.fires) for case in cases}
    assert tried == {(name, fires) for name in rules(repository) for fires in (True, False)}
