"""The service for clients of others, and where their packages are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jwt
import pytest

from jwt_server.security import key_files, keys
from jwt_server.security.key_files import KeyFolder
from tests.helpers.databases import create_database, database_in
from tests.helpers.factories import CREDENTIALS, claims
from tests.helpers.http import send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, Server, answering, gunicorn
from tests.helpers.waiting import free_port

CLIENTS = Path(__file__).parent
LEEWAY = 600  # seconds, so that no slow machine makes a difference
# It takes an eighth of the CPU of TypeScript 5, which openapi-typescript needs.
TYPESCRIPT = CLIENTS / "node_modules" / "typescript7" / "bin" / "tsc"
# Programs that run for less than a second end before it pays to optimize their code.
NODE = ("node", "--no-opt")
OLDEST_NODE = 20  # Debian 12 has 18, with which these tests are skipped, also in CI
PACKAGES = {
    "node_modules": "npm ci --ignore-scripts --prefix tests/clients",
    ".venv": "python3 -m venv tests/clients/.venv && tests/clients/.venv/bin/pip install"
    " --require-hashes -r tests/clients/requirements.txt",
}
"""Folders of the packages, and what installs them; .ci/run does."""


@pytest.fixture(scope="session")
def npm() -> Path:
    """The folder of the installed programs of Node's packages."""
    node = shutil.which("node")
    folder = _required("node_modules", node)
    version = subprocess.check_output([node or "node", "--version"], text=True).strip()  # noqa: S603 - our own
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"the packages of other clients need Node.js {OLDEST_NODE}, this is {version}")
    return folder / ".bin"


@pytest.fixture(scope="session")
def venv() -> Path:
    """The folder of the installed programs of Python's packages."""
    return _required(".venv", "python3") / "bin"


def _required(name: str, program: str | None) -> Path:
    folder = CLIENTS / name
    is_there = program is not None and folder.is_dir()
    if not is_there and os.environ.get("CI") != "true":
        pytest.skip(f"the packages of other clients are not installed: {PACKAGES[name]}")
    assert is_there, f"CI must install Node.js and run: {PACKAGES[name]}"
    return folder


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service with ES256 keys, whose issuer is its own URL."""
    with signing_with("ES256", tmp_path_factory.mktemp("clients")) as server:
        yield server


@contextmanager
def signing_with(algorithm: str, folder: Path) -> Iterator[Server]:
    """Run the service with keys of an algorithm; its issuer is its own URL."""
    key_folder = KeyFolder(folder / "keys", algorithm)
    port, log_file = free_port(), folder / "server.log"
    key_files.rotate(key_folder, now=0, lead=0)
    settings = BASE_ENVIRONMENT | {
        "JWT_ALGORITHM": algorithm,
        "JWT_KEYS_DIR": str(key_folder.path),
        "JWT_ISSUER": f"http://127.0.0.1:{port}",
        "JWT_AUDIENCE": "my-api",
        "PORT": str(port),
    }
    create_database(database_in(folder))
    process = gunicorn(folder, settings, log_file)
    with answering(port, process, log_file) as server:
        yield server


@dataclass(frozen=True)
class Given:
    """What a verifier needs, and tokens: good, expired within the leeway, then four bad."""

    issuer: str
    audience: str
    algorithm: str
    public_key: str
    leeway: int
    tokens: list[str]


def given(server: Server, algorithm: str) -> Given:
    """Return what a verifier needs to know of a server of `signing_with`."""
    [pem] = (server.log_file.parent / "keys").glob("*.pem")
    key = keys.load(algorithm, pem.read_bytes())
    good = send_to_server(
        server, "POST", "/auth", {}, json.dumps(CREDENTIALS), "application/json"
    ).text
    now = int(time.time())
    changes = (
        {"exp": now - LEEWAY // 2}, {"exp": now - LEEWAY - 9},
        {"aud": "other"}, {"iss": "http://127.0.0.1:9"},
    )  # fmt: skip
    changed = [
        jwt.encode(
            claims(iss=server.url, aud="my-api") | each, pem.read_text(), algorithm,
            {"kid": key.kid},
        )
        for each in changes
    ]  # fmt: skip
    tokens = [good, *changed, good[:-20] + "A" * 20]
    return Given(server.url, "my-api", algorithm, keys.dump_public(key), LEEWAY, tokens)


# The compiler of TYPESCRIPT is in Go, and ends before it needs to collect garbage.
ENVIRONMENT = {"PATH": os.environ["PATH"], "NO_COLOR": "1", "GOGC": "off"}


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Run a program of others, and return what it prints; it must succeed."""
    done = subprocess.run(  # noqa: S603 - the test's own command
        list(map(str, command)),
        cwd=cwd,
        env=ENVIRONMENT | {"HOME": str(cwd)} | variables,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
