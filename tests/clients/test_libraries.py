"""The libraries that the documentation lists: each row is run, with the version that it names."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.clients.conftest import CLIENTS, given, run, signing_with
from tests.helpers.server import ROOT, Server

pytestmark = pytest.mark.slow

PAGES = [(ROOT / "docs" / name).read_text() for name in ("clients.md", "verifiers.md")]
ROWS = [
    [cell.strip() for cell in row.split("|")[1:-1]]
    for row in re.findall(r"^\| [\w@/-]+ \| \d[\d.]+ \|.*$", "".join(PAGES), re.MULTILINE)
]
VERIFIERS = {row[0]: row[2].split(", ") for row in ROWS if len(row) == 6}
NODE_PACKAGES = json.loads((CLIENTS / "package.json").read_text())["dependencies"]


@pytest.fixture(scope="module")
def services(
    service: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Server]]:
    """The service with a key for each algorithm."""
    with signing_with("EdDSA", tmp_path_factory.mktemp("eddsa")) as other:
        yield {"ES256": service, "EdDSA": other}


def test_verifiers_for_node_accept_what_the_documentation_says(
    npm: Path, services: dict[str, Server]
) -> None:
    documented = {name: VERIFIERS[name] for name in VERIFIERS if name in NODE_PACKAGES}

    check("node", "libraries.mjs", services, documented)


def test_verifiers_in_python_accept_what_the_documentation_says(
    venv: Path, services: dict[str, Server]
) -> None:
    documented = {name: VERIFIERS[name] for name in VERIFIERS if name not in NODE_PACKAGES}

    check(venv / "python", "libraries.py", services, documented)


def check(
    program: str | Path,
    script: str,
    services: dict[str, Server],
    documented: dict[str, list[str]],
) -> None:
    """Check what the libraries that a script runs say of two good tokens and of four bad ones."""
    all_given = [asdict(given(services[algorithm], algorithm)) for algorithm in services]
    done = subprocess.run(  # noqa: S603 - our own command
        [program, CLIENTS / "verifiers" / script, json.dumps(all_given)],
        stdout=subprocess.PIPE, text=True, timeout=300, check=True,
    )  # fmt: skip

    for algorithm, line in zip(services, done.stdout.splitlines(), strict=True):
        verdicts: dict[str, list[str]] = json.loads(line)
        assert {
            name: ["refused" if each.startswith("refused: ") else each for each in verdicts[name]]
            for name in verdicts
        } == {
            name: ["1" if algorithm in documented[name] else "refused"] * 2 + ["refused"] * 4
            for name in documented
        }, (algorithm, verdicts)


def test_oauth_libraries_sign_in_and_refresh(venv: Path, service: Server, tmp_path: Path) -> None:
    run(venv / "python", CLIENTS / "tours" / "oauth.py", service.url, cwd=tmp_path)


def test_the_documented_versions_are_those_of_the_tests() -> None:
    locked = (CLIENTS / "requirements.txt").read_text()
    python = dict(re.findall(r"^([\w-]+)(?:\[.*\])?==(\S+)", locked, re.MULTILINE))

    assert len(ROWS) == 20
    for name, version, *_ in ROWS:
        assert (NODE_PACKAGES | python)[
            name if name in NODE_PACKAGES else name.lower()
        ] == version, name
