"""The libraries that docs/clients.md lists: each row is run, with the version that it names."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from tests.clients.conftest import CLIENTS, run, signing_with
from tests.helpers.factories import CREDENTIALS, claims
from tests.helpers.http import send_to_server
from tests.helpers.server import ROOT, Server

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "clients.md").read_text()
ROWS = [
    [cell.strip() for cell in row.split("|")[1:-1]]
    for row in re.findall(r"^\| [\w@/-]+ \| \d[\d.]+ \|.*$", PAGE, re.MULTILINE)
]
VERIFIERS = {row[0]: row[2].split(", ") for row in ROWS if len(row) == 5}
PYTHON = {
    "PyJWT", "python-jose", "joserfc", "djangorestframework-simplejwt", "flask-jwt-extended",
}  # fmt: skip


@pytest.fixture(scope="module", params=["ES256", "EdDSA"])
def signed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """The algorithm, and what a verifier needs as JSON: a good token, and four bad ones."""
    algorithm, folder = str(request.param), tmp_path_factory.mktemp("libraries")
    with signing_with(algorithm, folder) as server:
        good = send_to_server(
            server, "POST", "/auth", {}, json.dumps(CREDENTIALS), "application/json"
        ).text
        issuer = {"iss": server.url, "aud": "my-api"}
        changes = ({"aud": "other"}, {"iss": "http://127.0.0.1:9"}, {"exp": int(time.time()) - 9})
        [pem] = (folder / "keys").glob("*.pem")
        header = {"kid": jwt.get_unverified_header(good)["kid"]}
        bad = [
            jwt.encode(claims() | issuer | each, pem.read_text(), algorithm, header)
            for each in changes
        ]
        bad.append(good[:-20] + "A" * 20)
        given = {"issuer": server.url, "audience": "my-api", "algorithm": algorithm}
        yield algorithm, json.dumps(given | {"tokens": [good, *bad]})


@pytest.mark.parametrize("library", VERIFIERS)
def test_a_verifier_accepts_what_the_documentation_says(
    npm: Path, venv: Path, signed: tuple[str, str], library: str
) -> None:
    algorithm, given = signed
    program, script = ("node", "libraries.mjs")
    if library in PYTHON:
        program, script = (str(venv / "python"), "libraries.py")
    done = subprocess.run(  # noqa: S603 - our own command
        [program, str(CLIENTS / "verifiers" / script), library, given],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip

    is_listed = algorithm in VERIFIERS[library]
    assert done.stdout.split() == ["1" if is_listed else "refused", *["refused"] * 4], done.stderr


def test_oauth_libraries_sign_in_and_refresh(venv: Path, service: Server, tmp_path: Path) -> None:
    run(venv / "python", CLIENTS / "tours" / "oauth.py", service.url, cwd=tmp_path)


def test_the_interceptor_for_axios_refreshes(npm: Path, service: Server, tmp_path: Path) -> None:
    [snippet] = (
        each for each in re.findall(r"```js\n(.*?)```", PAGE, re.DOTALL) if "axios" in each
    )
    tour = (CLIENTS / "tours" / "axios.mjs").read_text().replace("// INTERCEPTOR", snippet)
    (tmp_path / "axios.mjs").write_text(tour)
    (tmp_path / "node_modules").symlink_to(npm.parent)
    run("node", "axios.mjs", service.url, cwd=tmp_path)


def test_the_documented_versions_are_those_of_the_tests() -> None:
    node = json.loads((CLIENTS / "package.json").read_text())["dependencies"]
    locked = (CLIENTS / "requirements.txt").read_text()
    python = dict(re.findall(r"^([\w-]+)(?:\[.*\])?==(\S+)", locked, re.MULTILINE))

    assert len(ROWS) == 17
    for name, version, *_ in ROWS:
        assert (node | python)[name if name in node else name.lower()] == version, name
