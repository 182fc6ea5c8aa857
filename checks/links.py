"""Check that every relative link and anchor in the documents leads somewhere."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("*.md", "docs/**/*.md", "deploy/**/*.md", "reference_line/**/*.md", "protos/**/*.md")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """Return the anchors that a code host gives the headings of `text`."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"[`*]|\]\([^)]*\)|[\[\]]", "", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (candidate := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(candidate)
    return found


def broken(document: Path) -> list[str]:
    """Return a finding for each link in `document` that leads nowhere inside the repository."""
    findings = []
    for target in LINK.findall(FENCE.sub("", document.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue  # another site: not ours to promise, and a check must not need the network
        name, _, anchor = target.partition("#")
        path = document if not name else (document.parent / name)
        where = document.relative_to(ROOT)
        if not path.exists():
            findings.append(f"{where}: {target} does not exist")
        elif anchor and path.suffix == ".md" and anchor not in anchors(path.read_text("utf-8")):
            findings.append(f"{where}: {target} names no heading of {path.name}")
    return findings


def main() -> int:
    """Check every document."""
    documents = sorted({path for pattern in DOCUMENTS for path in ROOT.glob(pattern)})
    findings = [finding for document in documents for finding in broken(document)]
    print("\n".join(findings) or f"Links of {len(documents)} documents lead somewhere.")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
