"""docs/architecture.md shows the house as it stands: every room, and every library."""

from __future__ import annotations

import ast
import re
from configparser import ConfigParser

from tests.server import ROOT

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


def test_the_text_has_every_file() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name != "__init__.py":
            assert path.name in TEXT, path


def test_the_text_has_no_file_that_is_not_there() -> None:
    rooms = TEXT.split("## Rooms")[1].split("```")[1]
    there = {path.name for path in ROOT.rglob("*.*") if ".venv" not in path.parts}

    for name in re.findall(r"[\w.]+\.(?:py|sql)", rooms):
        assert name in there, name


def test_no_function_is_longer_than_a_screen() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= LONGEST, f"{path}: {node.name} has {lines} lines"


def test_every_library_has_its_reason() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options"]["install_requires"] + setup["options.extras_require"]["dev"]
    reasons = TEXT.split("## Libraries")[1]

    for name in re.findall(r"^([\w-]+)", wanted, re.MULTILINE):
        assert name in reasons, name
