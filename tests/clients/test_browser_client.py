"""The client that browsers load from `/client.js`: its types and its size."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.clients.conftest import NODE, run
from tests.helpers.server import ROOT

pytestmark = pytest.mark.slow

CLIENT = Path("jwt_server", "static", "client.js")
MAX_BYTES = 6 * 1024


@pytest.mark.usefixtures("npm")
def test_its_types_are_correct_and_their_declarations_up_to_date(tmp_path: Path) -> None:
    lines = (ROOT / "CONTRIBUTING.md").read_text().splitlines()
    [command] = [line for line in lines if line.startswith("node ") and str(CLIENT) in line]

    run(*command.split(), "--outDir", tmp_path, cwd=ROOT)

    assert (tmp_path / "client.d.ts").read_text() == (ROOT / CLIENT).with_suffix(
        ".d.ts"
    ).read_text()


def test_it_is_small_when_minified_and_compressed(npm: Path) -> None:
    options = ("--module", "--compress", "--mangle")
    minified = run(*NODE, npm / "terser", *options, "--", CLIENT, cwd=ROOT)

    assert len(gzip.compress(minified.encode())) <= MAX_BYTES
