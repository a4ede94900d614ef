"""docs/architecture.md shows the house as it stands: every room, and every library."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from configparser import ConfigParser
from itertools import takewhile
from pathlib import Path

from tests.helpers.server import ROOT

PACKAGE = ROOT / "jwt_server"
TEXT = (ROOT / "docs" / "architecture.md").read_text()
PICTURE = (ROOT / "docs" / "architecture.svg").read_text()
LONGEST = 40
"""lines of a function"""


def children() -> set[str]:
    """Files and folders of the package, as the picture writes them; SQL is told of in the text."""
    return {
        f"{path.name}/" if path.is_dir() else path.name
        for path in PACKAGE.iterdir()
        if path.name != "__pycache__" and path.suffix != ".sql"
    }


def test_the_picture_has_every_room_and_no_other() -> None:
    drawn = set(re.findall(r'class="file"[^>]*>([^<]+)<', PICTURE))
    rooms = {name for name in drawn if "/" not in name.rstrip("/")}

    assert rooms == children()
    for passed in drawn - rooms:
        assert (PACKAGE / passed).exists(), passed


def told() -> Iterator[Path]:
    """Each file that the rooms name, in the folder under which it stands there."""
    folder = room = ROOT
    for line in TEXT.split("## Rooms")[1].split("```")[1].splitlines():
        words, depth = line.split(), len(line) - len(line.lstrip())
        if depth <= 2:
            folder = room = PACKAGE if depth else ROOT
        if depth <= 2 and words and words[0].endswith("/"):
            room = folder / words[0]
        if room == folder or depth == 4:  # what follows the names says what they are for
            words = list(takewhile(re.compile(r"[\w.]+(\.\w+|/)$").match, words))
        yield from (room / name for name in re.findall(r"[\w.]+\.(?:py|sql)", " ".join(words)))


def test_the_text_has_every_file_in_its_folder_and_no_other() -> None:
    there = {
        path for kind in ("py", "sql") for path in PACKAGE.rglob(f"*.{kind}")
        if path == PACKAGE / "__init__.py" or path.name != "__init__.py"
        if path.parent.name != "migrations"
    }  # fmt: skip

    assert {path for path in told() if path.is_relative_to(PACKAGE)} == there
    assert [path for path in told() if not path.exists()] == []


def test_no_function_is_longer_than_a_screen() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= LONGEST, f"{path}: {node.name} has {lines} lines"


def test_every_library_has_its_reason_and_no_other_is_told_of() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options"]["install_requires"] + setup["options.extras_require"]["dev"]
    table = re.findall(r"^\|[^|]+\|([^|]+)\|", TEXT.split("## Libraries")[1], re.MULTILINE)[2:]
    column = ",".join(re.sub(r"\(.*?\)", "", cell) for cell in table)

    named = [name.strip() for name in column.split(",")]
    assert len(named) == len(set(named))
    assert set(named) == set(re.findall(r"^([\w-]+(?:\[\w+\])?)", wanted, re.MULTILINE))
