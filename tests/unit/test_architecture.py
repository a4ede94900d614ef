"""docs/architecture.md has every module and library; functions are short."""

from __future__ import annotations

import ast
import re
from configparser import ConfigParser

from tests.helpers.server import ROOT

PACKAGE = ROOT / "jwt_server"
TEXT = (ROOT / "docs" / "architecture.md").read_text()
MAX_FUNCTION_LINES = 40


def test_every_module_is_named_in_its_folder_and_no_other() -> None:
    modules = {
        str(path.relative_to(PACKAGE))
        for kind in ("py", "sql")
        for path in PACKAGE.rglob(f"*.{kind}")
        if path.name != "__init__.py" and "migrations" not in path.parts
    }

    named, folder = set(), ""
    tree = TEXT.split("\n## Modules\n")[1].split("```")[1].split("jwt_server/\n")[1]
    for indent, name in re.findall(r"^( {2,4})([\w.]+(?:\.py|\.sql|/))(?: |$)", tree, re.MULTILINE):
        if name.endswith("/"):
            folder = name
        else:
            named.add(name if len(indent) == 2 else f"{folder}{name}")
    assert named == modules | {name for name in named if name.endswith("__init__.py")}


def test_no_function_is_longer_than_40_lines() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= MAX_FUNCTION_LINES, f"{path}: {node.name} has {lines} lines"


def test_every_library_has_its_reason_and_no_other() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = setup["options"]["install_requires"] + "".join(
        setup["options.extras_require"][extra] for extra in ("postgresql", "dev")
    )
    table = re.findall(r"^\|[^|]+\|([^|]+)\|", TEXT.split("## Libraries")[1], re.MULTILINE)[2:]
    column = ",".join(re.sub(r"\(.*?\)", "", cell) for cell in table)

    named = [name.strip() for name in column.split(",")]
    assert len(named) == len(set(named))
    assert set(named) == set(re.findall(r"^([\w-]+(?:\[\w+\])?)", required, re.MULTILINE))
