"""The libraries that docs/clients.md lists: each row is run, with the version that it names."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

import jwt
import pytest

from jwt_server.security import keys
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

Verdicts = dict[str, dict[str, list[str]]]


@pytest.fixture(scope="module")
def verdicts(
    npm: Path, venv: Path, service: Server, tmp_path_factory: pytest.TempPathFactory
) -> Verdicts:
    """What each library says of a good token and of four bad ones, by algorithm."""
    with signing_with("EdDSA", tmp_path_factory.mktemp("eddsa")) as other:
        return {
            algorithm: ask(server, algorithm, "node", "libraries.mjs")
            | ask(server, algorithm, venv / "python", "libraries.py")
            for algorithm, server in (("ES256", service), ("EdDSA", other))
        }


def ask(server: Server, algorithm: str, program: str | Path, script: str) -> dict[str, list[str]]:
    """What each library that a script runs says of the tokens of a server."""
    [pem] = (server.log_file.parent / "keys").glob("*.pem")
    key = keys.load(algorithm, pem.read_bytes())
    issuer = {"iss": server.url, "aud": "my-api"}
    changes = ({"aud": "other"}, {"iss": "http://127.0.0.1:9"}, {"exp": int(time.time()) - 9})
    good = send_to_server(
        server, "POST", "/auth", {}, json.dumps(CREDENTIALS), "application/json"
    ).text
    bad = [
        jwt.encode(claims() | issuer | each, pem.read_text(), algorithm, {"kid": key.kid})
        for each in changes
    ]
    given = {
        "issuer": server.url, "audience": "my-api", "algorithm": algorithm,
        "public_key": keys.dump_public(key), "tokens": [good, *bad, good[:-20] + "A" * 20],
    }  # fmt: skip
    done = subprocess.run(  # noqa: S603 - our own command
        [program, CLIENTS / "verifiers" / script, json.dumps(given)],
        stdout=subprocess.PIPE, text=True, timeout=300, check=True,
    )  # fmt: skip
    said: dict[str, list[str]] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
@pytest.mark.parametrize("library", VERIFIERS)
def test_a_verifier_accepts_what_the_documentation_says(
    verdicts: Verdicts, library: str, algorithm: str
) -> None:
    is_refused = [each.startswith("refused: ") for each in verdicts[algorithm][library]]

    assert is_refused == [algorithm not in VERIFIERS[library], *[True] * 4]


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
