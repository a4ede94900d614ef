"""Requests that schemathesis makes up from `/openapi.json`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jwt_server.database import Database
from jwt_server.users import users
from tests.helpers.databases import database_in, url_of
from tests.helpers.description import operations, password_operations
from tests.helpers.factories import OPERATOR, add_user, bearer, bearer_of, token
from tests.helpers.fuzzing import SCHEMATHESIS_EXAMPLES
from tests.helpers.http import send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, ROOT, Server, running
from tests.helpers.sql import keep_users

pytestmark = pytest.mark.slow

SCHEMATHESIS = ROOT / "tests" / "schemathesis" / "schemathesis.toml"


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for schemathesis to fill with data."""
    with running(
        tmp_path_factory.mktemp("openapi"), BASE_ENVIRONMENT | {"SIGNUP": "open"}
    ) as server:
        yield server


def database_of(server: Server) -> Path | str:
    return database_in(server.log_file.parent)


@pytest.fixture(scope="module")
def users_file(own_server: Server) -> Path:
    """The tokens of travis, an admin, and ada for schemathesis, in the format of Web Fuzzing
    Commons. Neither can be deleted.
    """
    with closing(Database(database_of(own_server))) as database, database.connection() as db:
        users.set_admin(db, 1, admin=True, actor=OPERATOR)
        ada = bearer_of(db, add_user(db, "ada"), int(time.time()))
        keep_users(db)
    auth = [
        {"name": user, "fixedHeaders": [{"name": name, "value": headers[name]} for name in headers]}
        for user, headers in (("travis", bearer(token())), ("ada", ada))
    ]
    path = own_server.log_file.with_name("users.json")
    path.write_text(json.dumps({"auth": auth}))
    return path


def schemathesis(
    server: Server, folder: Path, users_file: Path
) -> subprocess.CompletedProcess[str]:
    """Run schemathesis against a server."""
    return subprocess.run(  # noqa: S603 - our own command
        [
            sys.executable, "-m", "schemathesis.cli", "--config-file", SCHEMATHESIS,
            "--no-color", "run", f"{server.url}/openapi.json",
            "--max-examples", str(SCHEMATHESIS_EXAMPLES), "--generation-deterministic",
        ],
        cwd=folder,
        env={
            "PATH": "", "PYTHONPATH": str(ROOT),
            "DATABASE_URL": url_of(database_of(server)), "USERS": str(users_file),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(ROOT / ".hypothesis"),  # of tables, slow to compute
        },
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_schemathesis_finds_no_failure(
    own_server: Server, users_file: Path, tmp_path: Path
) -> None:
    """Signed in, and in some of its checks not; errors as JSON and as text."""
    description = json.loads(send_to_server(own_server, "GET", "/openapi.json").body)
    done = schemathesis(own_server, tmp_path, users_file)

    assert done.returncode == 0, done.stdout
    asked = len(dict(operations(description))) - 1  # not the description itself
    assert f"Tested: {asked}" in done.stdout
    section = done.stdout.partition("Authentication failed:")[2].partition("Ensure valid")[0]
    # At most those that check a password or a refresh token, which it does not know.
    guesses = {*password_operations(description), "POST /auth/refresh"}
    assert set(re.findall(r"- (\w+ /\S+)", section)) <= guesses
    log = own_server.log()
    # No 5xx, and nothing that could hide one: no rate limit but that of renames, no ended session.
    assert not re.search(
        r'Traceback|"status": 5|(?<!"route": "/me", )"status": 429|"code": "token_revoked"', log
    )
    # ada has requested a pet of travis.
    assert '"route": "/pets/{pet_id}", "status": 404' in of_user(2, log)


def of_user(user_id: int, log: str) -> str:
    """Return the log lines of one user's requests."""
    return "\n".join(line for line in log.splitlines() if f'"user_id": {user_id},' in line)
