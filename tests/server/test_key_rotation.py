"""Keys rotated under load: two gunicorn workers, a second process that knows just the JWKS URL.

All algorithms at once, each with a server of its own, as it is real time that goes by: keys are
published for six seconds before they sign, and tokens live twelve. On a machine that is so busy
that a client takes longer than that for one round, what came too late is not counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest

from jwt_server.database import Database
from tests.helpers.factories import CREDENTIALS, add_user, bearer
from tests.helpers.http import Response, send_to_server
from tests.helpers.server import (
    BASE_ENVIRONMENT,
    ROOT,
    Server,
    failed_start,
    flask,
    started,
    until,
)

ALGORITHMS = ["EdDSA", "ES256", "RS256"]

wait_until = partial(until, seconds=60)
MAX_AGE = 3
LEAD = 2 * MAX_AGE
TTL = 12
PAUSE = 0.02
"""So that the load is a steady one, and not all that the machine can give."""

# What another service does: tokens on standard input, a line each, and a verdict for each.
VERIFIER = """
import sys, jwt
url, algorithm = sys.argv[1:]
client = jwt.PyJWKClient(url, lifespan=1, cache_keys=False)
for line in sys.stdin:
    try:
        key = client.get_signing_key_from_jwt(line.strip())
        claims = jwt.decode(line.strip(), key, [algorithm], audience="jwt-server",
                            issuer="jwt-server", options={"require": ["exp", "iss", "aud", "sub"]})
        print("good", claims["sub"], flush=True)
    except jwt.ExpiredSignatureError:
        print("expired", flush=True)
    except Exception as error:
        print("bad", repr(error), flush=True)
"""


class Since:
    """A moment, and whether so many seconds may have gone by since then.

    Token times are whole seconds, so the last one does not count.
    """

    def __init__(self) -> None:
        self.moment = time.monotonic()

    def over(self, seconds: int) -> bool:
        return time.monotonic() - self.moment >= seconds - 1


def sign_in(server: Server, username: str = "travis") -> Response:
    body = json.dumps(CREDENTIALS | {"username": username})
    return send_to_server(server, "POST", "/auth", {}, body, "application/json")


@dataclass
class Load:
    """Clients that sign in and read as long as the load lasts, and what went wrong.

    Each is a user of its own: a user has 50 sessions at the most, the oldest ends.
    """

    server: Server
    kids: list[str] = field(default_factory=list)
    unpublished: list[str] = field(default_factory=list)
    """Keys that signed a token which a client had not seen in the JWKS just before."""
    mistakes: list[str] = field(default_factory=list)
    verified: list[str] = field(default_factory=list)
    asked: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def client(self, username: str, verifier: subprocess.Popen[str] | None = None) -> None:
        while not self.over.wait(PAUSE):
            since = Since()
            known = send_to_server(self.server, "GET", "/.well-known/jwks.json").text
            signed_in = sign_in(self.server, username)
            in_time = not since.over(LEAD)
            read = send_to_server(self.server, "GET", "/pets", bearer(signed_in.text))
            self.asked += 1
            if (signed_in.status, read.status) != (200, 200):
                if signed_in.status != 200 or not since.over(TTL):
                    self.mistakes.append(f"{signed_in.text[:40]} {read.status} {read.text[:40]}")
                continue
            kid = jwt.get_unverified_header(signed_in.text)["kid"]
            if kid not in self.kids:
                self.kids.append(kid)
            if kid not in known and in_time:
                self.unpublished.append(kid)
            if verifier is not None:
                self.verify(verifier, signed_in.text, since)

    def verify(self, verifier: subprocess.Popen[str], token: str, since: Since) -> None:
        assert verifier.stdin is not None
        assert verifier.stdout is not None
        verifier.stdin.write(f"{token}\n")
        verifier.stdin.flush()
        verdict = verifier.stdout.readline().strip()
        if verdict != "expired" or not since.over(TTL):
            self.verified.append(verdict)


@contextmanager
def loaded(server: Server, algorithm: str) -> Iterator[Load]:
    load = Load(server)
    verifier = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-c", VERIFIER, f"{server.url}/.well-known/jwks.json", algorithm],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    clients = [
        threading.Thread(target=load.client, args=args)
        for args in (["travis", verifier], ["second"], ["third"])
    ]
    for client in clients:
        client.start()
    try:
        yield load
    finally:
        load.over.set()
        for client in clients:
            client.join()
        verifier.communicate(timeout=10)


def published(server: Server) -> set[str]:
    """The keys that every worker publishes; it must be the same set in each."""
    answers = {
        frozenset(key["kid"] for key in json.loads(answer.body)["keys"])
        for answer in (send_to_server(server, "GET", "/.well-known/jwks.json") for _ in range(12))
    }
    [keys] = answers
    return set(keys)


def rotate_under_load(folder: Path, algorithm: str) -> None:
    settings = BASE_ENVIRONMENT | {
        "JWT_ALGORITHM": algorithm, "JWT_KEYS_DIR": str(folder / "keys"), "WORKERS": "2",
        "JWKS_MAX_AGE": str(MAX_AGE), "TEXT_TOKEN_TTL": str(TTL), "ACCESS_TOKEN_TTL": str(TTL),
    }  # fmt: skip

    def command(*words: str) -> str:
        done = flask(folder, settings, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for words in (("init-db",), ("seed",), ("keys", "rotate")):
        command(*words)
    with closing(Database(folder / "server.db")) as database, database.connection() as db:
        for username in ("second", "third", "onlooker"):
            add_user(db, username, CREDENTIALS["password"])
    with started(folder, settings) as server, loaded(server, algorithm) as load:
        [first] = published(server)
        wait_until(lambda: first in load.kids)

        command("keys", "rotate")
        [second] = published(server) - {first}
        since, old = Since(), sign_in(server, "onlooker").text
        wait_until(lambda: second in load.kids)
        answer = send_to_server(server, "GET", "/pets", bearer(old))
        assert answer.status == 200 or since.over(TTL)  # old tokens verify to their end

        wait_until(lambda: "Removed" in command("keys", "prune"))
        assert published(server) == {second}
        assert load.unpublished == []  # published before it signs
        assert load.mistakes == []
        assert set(load.verified) == {"good 1"}  # the other service follows all along

        command("keys", "revoke", second)
        [third] = published(server)
        wait_until(lambda: third in load.kids)
        wait_until(lambda: load.verified[-1:] == ["good 1"])
    assert load.kids == [first, second, third]
    # Only tokens of the revoked key may be refused, at the moment of it. The other service asks
    # for the keys again within their age.
    assert all("Forged token." in mistake for mistake in load.mistakes), load.mistakes
    assert len(load.mistakes) <= 3
    assert load.asked > 50


def test_keys_rotate_without_a_failed_request(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def run(algorithm: str) -> None:
        folder = tmp_path / algorithm
        folder.mkdir()
        try:
            rotate_under_load(folder, algorithm)
        except BaseException as error:  # noqa: BLE001 - told below, with the algorithm's name
            error.add_note(algorithm)
            failures.append(error)

    threads = [threading.Thread(target=run, args=[algorithm]) for algorithm in ALGORITHMS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for failure in failures:
        raise failure


def test_the_documented_verifier_takes_our_tokens_and_no_others(tmp_path: Path) -> None:
    code = (ROOT / "docs" / "clients.md").read_text().split("```python\n")[1].split("```")[0]
    settings = BASE_ENVIRONMENT | {"JWT_ALGORITHM": "EdDSA", "JWT_KEYS_DIR": f"{tmp_path}/keys"}
    for words in (("init-db",), ("seed",), ("keys", "rotate")):
        assert flask(tmp_path, settings, *words).returncode == 0
    other = settings | {"JWT_AUDIENCE": "another"}
    names: dict[str, Any] = {}

    with started(tmp_path, settings) as server:
        exec(code.replace("http://127.0.0.1:3000", server.url), names)  # noqa: S102 - the document's
        assert names["user_of"](sign_in(server).text) == 1
        with started(tmp_path, other) as elsewhere, pytest.raises(jwt.InvalidAudienceError):
            names["user_of"](sign_in(elsewhere).text)


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("", "There is no folder"),
        (".", "There is no usable key in"),
        ("./1-x.pem", "Its name is not <activation>-<kid>.pem."),
    ],
)
def test_gunicorn_does_not_start_without_a_good_key(tmp_path: Path, file: str, why: str) -> None:
    settings = BASE_ENVIRONMENT | {"JWT_ALGORITHM": "EdDSA", "JWT_KEYS_DIR": f"{tmp_path}/keys"}
    assert flask(tmp_path, settings, "init-db").returncode == 0
    if file:
        (tmp_path / "keys").mkdir()
    if file.endswith(".pem"):
        (tmp_path / "keys" / file).write_text("x")

    [line] = failed_start(tmp_path, settings)

    assert why in line
