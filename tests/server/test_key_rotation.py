"""Keys rotated under load: two gunicorn workers, and a verifier that knows only the JWKS URL.

No time has to pass: a key file's name says when the key signs, so the tests rename it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest

from jwt_server.security import key_files
from jwt_server.security.key_files import KeyFile, KeyFolder
from jwt_server.security.tokens import AccessTokens, TokenSubject
from tests.helpers.databases import create_database, database_in
from tests.helpers.factories import CREDENTIALS, bearer
from tests.helpers.http import Response, send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, ROOT, Server, failed_start, running
from tests.helpers.waiting import until

wait_until = partial(until, seconds=60)
CLIENTS = 2
LONGEST_TTL = 12 * 60 * 60
USER_OF = (ROOT / "docs" / "verifiers.md").read_text().split("```python\n")[1].split("```")[0]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFolder:
    """A folder with a key that has been signing since 1970."""
    folder = KeyFolder(tmp_path_factory.mktemp("rotation") / "keys", "ES256")
    key_files.rotate(folder, now=0, lead=0)
    return folder


@pytest.fixture(scope="module")
def server(keys: KeyFolder) -> Iterator[Server]:
    settings = BASE_ENVIRONMENT | {"JWT_ALGORITHM": "ES256", "JWT_KEYS_DIR": str(keys.path)}
    with running(keys.path.parent, settings | {"WORKERS": "2", "TRUSTED_PROXIES": "1"}) as server:
        yield server


def verifier(server: Server) -> Any:
    """Return the function `user_of` of docs/verifiers.md."""
    names: dict[str, Any] = {}
    exec(USER_OF.replace("http://127.0.0.1:3000", server.url), names)  # noqa: S102 - the project's documentation
    return names["user_of"]


def sign_in(server: Server, address: str = "192.0.2.1") -> Response:
    headers, body = {"X-Forwarded-For": address}, json.dumps(CREDENTIALS)
    return send_to_server(server, "POST", "/auth", headers, body, "application/json")


@dataclass
class Load:
    """Clients that sign in, read and verify their token in turn, and what failed."""

    server: Server
    kids: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    rounds: list[int] = field(default_factory=lambda: [0] * CLIENTS)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, client: int) -> None:
        while not self.stop.wait(0.02):
            signed_in = sign_in(self.server, f"198.51.100.{client}")
            read = send_to_server(self.server, "GET", "/my-pets", bearer(signed_in.text))
            if (signed_in.status, read.status) != (200, 200):
                self.failures.append(f"{signed_in.text[:40]} {read.status} {read.text[:40]}")
                continue
            kid = jwt.get_unverified_header(signed_in.text)["kid"]
            if kid not in self.kids:
                self.kids.append(kid)
            try:  # with fresh keys: in reality hours pass before a new key signs
                assert verifier(self.server)(signed_in.text) == 1
            except jwt.PyJWTError as error:
                self.failures.append(f"{kid}: {error!r}")
            self.rounds[client] += 1

    def wait_for(self, kid: str) -> None:
        """Wait until this key signs, and requests with tokens of the one before are over."""
        wait_until(lambda: kid in self.kids)
        before = list(self.rounds)
        wait_until(
            lambda: all(now > then + 1 for now, then in zip(self.rounds, before, strict=True))
        )


@contextmanager
def load_on(server: Server) -> Iterator[Load]:
    load = Load(server)
    clients = [threading.Thread(target=load.run, args=[number]) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield load
    finally:
        load.stop.set()
        for client in clients:
            client.join()


def published(server: Server) -> set[str]:
    """Return the keys that the workers publish, which must be the same in each."""
    sets = {
        frozenset(key["kid"] for key in json.loads(response.body)["keys"])
        for response in (send_to_server(server, "GET", "/.well-known/jwks.json") for _ in range(8))
    }
    [kids] = sets
    return set(kids)


def activate(file: KeyFile, activation: int) -> None:
    """Rename a key file as if its key had been added earlier."""
    file.path.rename(file.path.with_name(f"{activation}-{file.key.kid}.pem"))


def test_keys_rotate_without_a_failed_request(server: Server, keys: KeyFolder) -> None:
    with load_on(server) as load:
        [first] = published(server)
        load.wait_for(first)
        old = sign_in(server).text

        second = key_files.rotate(keys, int(time.time()), lead=3600)
        assert published(server) == {first, second.key.kid}
        assert load.kids == [first]
        activate(second, 1)
        load.wait_for(second.key.kid)
        assert send_to_server(server, "GET", "/my-pets", bearer(old)).status == 200

        key_files.prune(keys, int(time.time()), LONGEST_TTL)
        assert published(server) == {second.key.kid}
        assert send_to_server(server, "GET", "/my-pets", bearer(old)).text == "Forged token."
        load.wait_for(second.key.kid)
        assert load.failures == []

        third = key_files.revoke(keys, second.key.kid, int(time.time()))
        assert third is not None
        assert published(server) == {third.key.kid}
        load.wait_for(third.key.kid)
    assert load.kids == [first, second.key.kid, third.key.kid]
    # Only a token of the revoked key may be refused: one of each client that was under way.
    assert len(load.failures) <= CLIENTS
    assert all("Forged token." in each or second.key.kid in each for each in load.failures)


def test_the_documented_verifier_checks_signature_and_audience(
    server: Server, keys: KeyFolder, tmp_path: Path
) -> None:
    user_of = verifier(server)
    subject, now = TokenSubject(1, "s" * 22), int(time.time())

    def token(audience: str, signed_with: KeyFolder = keys) -> str:
        tokens = AccessTokens(signed_with, "jwt-server", audience)
        return tokens.issue(subject, admin=False, now=now, ttl=60)

    other_keys = KeyFolder(tmp_path / "other", "ES256")
    key_files.rotate(other_keys, now=0, lead=0)

    assert user_of(sign_in(server).text) == 1
    assert user_of(token("jwt-server")) == 1
    with pytest.raises(jwt.InvalidAudienceError):
        user_of(token("another"))
    with pytest.raises(jwt.PyJWKClientError):
        user_of(token("jwt-server", other_keys))


@pytest.mark.slow
def test_gunicorn_does_not_start_without_a_usable_key(tmp_path: Path) -> None:
    settings = BASE_ENVIRONMENT | {"JWT_ALGORITHM": "EdDSA", "JWT_KEYS_DIR": f"{tmp_path}/keys"}
    create_database(database_in(tmp_path))

    [line] = failed_start(tmp_path, settings)

    assert "run `keys rotate`" in line
