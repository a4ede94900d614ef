"""The scripts that browsers load: types, and the size of `/client.js`."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.clients.conftest import NODE, run
from tests.helpers.server import ROOT

pytestmark = pytest.mark.slow

CLIENT = Path("jwt_server", "static", "client.js")
PANEL = "jwt_server/static/admin/app.js"
"""Imports all modules of the admin panel."""
MAX_BYTES = 6 * 1024


@pytest.mark.usefixtures("npm")
def test_its_types_are_correct_and_their_declarations_up_to_date(tmp_path: Path) -> None:
    lines = (ROOT / "CONTRIBUTING.md").read_text().splitlines()
    [command] = [line for line in lines if line.startswith("node ") and str(CLIENT) in line]

    run(*command.split(), "--outDir", tmp_path, cwd=ROOT)

    assert (tmp_path / "client.d.ts").read_text() == (ROOT / CLIENT).with_suffix(
        ".d.ts"
    ).read_text()


@pytest.mark.usefixtures("npm")
def test_the_types_of_the_admin_panel_are_correct() -> None:
    lines = (ROOT / "CONTRIBUTING.md").read_text().splitlines()
    [command] = [line for line in lines if line.startswith("node ") and line.endswith(PANEL)]

    run(*command.split(), cwd=ROOT)


def test_it_is_small_when_minified_and_compressed(npm: Path) -> None:
    options = ("--module", "--compress", "--mangle")
    minified = run(*NODE, npm / "terser", *options, "--", CLIENT, cwd=ROOT)

    assert len(gzip.compress(minified.encode())) <= MAX_BYTES
