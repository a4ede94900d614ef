"""docs/security.md accounts for every requirement of ASVS 5.0, and names only tests that exist."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.server import ROOT

TESTS = ROOT / "tests"
TEXT = (ROOT / "docs" / "security.md").read_text()
LEVELS = dict(
    line.split() for line in (TESTS / "data" / "asvs-5.0.txt").read_text().splitlines()
    if not line.startswith("#")
)  # fmt: skip


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


REQUIREMENTS, NOT_OURS = TEXT.split("\n## ASVS 5.0\n")[1].split("\n### What does not apply\n")
ROWS = [cells(line) for line in REQUIREMENTS.splitlines() if line.startswith("| V")]
NAMED = sorted(set(re.findall(r"`([\w/]*test_\w+\.py)(?:::(\w+))?`", TEXT)))


def test_every_requirement_is_accounted_for_once() -> None:
    told = [row[0] for row in ROWS]
    told += re.findall(r"\bV[\d.]+\d\b", re.sub(r"\(V[\d.]+\)", "", NOT_OURS))

    assert len(LEVELS) == 253  # 70 of level 1, and 183 of level 2
    assert Counter(told) == Counter(LEVELS.keys())


def test_each_row_says_how_and_what_shows_it() -> None:
    for name, level, what, met, how, shown in ROWS:
        assert level == LEVELS[name]
        assert what, name
        assert how, name
        assert met in {"yes", "part", "no", "operator"}, name
        assert met in {"no", "operator"} or shown != "–", name


def test_the_counts_are_right() -> None:
    introduction = " ".join(REQUIREMENTS.split("\n###")[0].split())
    counts = Counter(row[3] for row in ROWS)

    for told in (
        f"Of {len(LEVELS)}, {len(LEVELS) - len(ROWS)} [do not apply]",
        f"of the {len(ROWS)} that do, {counts['yes']} are met",
        f"{counts['part']} in part",
        f"{counts['no']} are not",
        f"{counts['operator']} are for who runs the service",
    ):
        assert told in introduction


@pytest.mark.parametrize(("file", "function"), NAMED, ids="::".join)
def test_every_test_that_it_names_is_there(file: str, function: str) -> None:
    assert re.search(rf"^def {function}\b", (TESTS / file).read_text(), re.MULTILINE)


def test_every_file_that_it_names_is_there() -> None:
    named = re.findall(r"(?<![\w/.])(?:bench|deploy|docs|jwt_server|tests)/[\w./-]*\w", TEXT)

    assert {"deploy/nginx.conf", "docs/deployment.md"} <= set(named)
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https:)([^)#]*)#?([\w-]*)\)", TEXT)

    assert len(links) > 10
    for file, heading in links:
        path = ROOT / "docs" / (file or "security.md")
        assert path.exists(), file
        assert not heading or heading in headings(path), (file, heading)


def headings(path: Path) -> set[str]:
    """The anchors that a page's headings have."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
