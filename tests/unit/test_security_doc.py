"""docs/security.md has every requirement of ASVS 5.0 once, and names only tests that exist."""

from __future__ import annotations

import re
from collections import Counter

from tests.helpers.server import ROOT

TESTS = ROOT / "tests"
TEXT = (ROOT / "docs" / "security.md").read_text()
LEVELS = dict(
    line.split() for line in (TESTS / "data" / "asvs-5.0.txt").read_text().splitlines()
    if not line.startswith("#")
)  # fmt: skip

APPLICABLE, NOT_APPLICABLE = TEXT.split("\n## ASVS 5.0\n")[1].split("\n### What does not apply\n")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in APPLICABLE.splitlines()
    if line.startswith("| V")
]


def test_every_requirement_is_listed_once() -> None:
    listed = [row[0] for row in ROWS]
    listed += re.findall(r"\bV[\d.]+\d\b", re.sub(r"\(V[\d.]+\)", "", NOT_APPLICABLE))

    assert len(LEVELS) == 253  # 70 of level 1, and 183 of level 2
    assert Counter(listed) == Counter(LEVELS.keys())


def test_each_row_has_its_level_and_its_evidence() -> None:
    for name, level, what, met, how, shown in ROWS:
        assert level == LEVELS[name]
        assert what, name
        assert how, name
        assert met in {"yes", "part", "no", "operator"}, name
        assert met in {"no", "operator"} or shown != "–", name


def test_the_counts_are_those_of_the_table() -> None:
    introduction = APPLICABLE.split("\n###", maxsplit=1)[0]
    counts = Counter(row[3] for row in ROWS)

    assert [int(number) for number in re.findall(r"\b\d+\b(?!\.)", introduction)][-6:] == [
        len(LEVELS) - len(ROWS), len(ROWS),
        counts["yes"], counts["part"], counts["no"], counts["operator"],
    ]  # fmt: skip


def test_every_test_and_file_that_is_named_exists() -> None:
    tests = set(re.findall(r"`([\w/]*test_\w+\.py)(?:::(\w+))?`", TEXT))
    files = re.findall(r"(?<![\w/.])(?:bench|deploy|docs|jwt_server|tests)/[\w./-]*\w", TEXT)

    assert len(tests) > 100
    assert [path for path in files if not (ROOT / path).exists()] == []
    sources = {file: _source(file) for file, _ in tests}
    assert [
        f"{file}::{function}"
        for file, function in sorted(tests)
        if not re.search(rf"^def {function}\b" if function else ".", sources[file], re.MULTILINE)
    ] == []


def _source(file: str) -> str:
    path = TESTS / file
    return path.read_text() if path.exists() else ""
