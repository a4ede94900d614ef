"""The server under attack, under one algorithm, with the key that only the tests know, and what an
attack must get.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from jwt_server.security import keys
from jwt_server.security.keys import Jwk, KeyPair
from tests.attacks.forging import Json, as_json, compact, signature
from tests.helpers.databases import create_database
from tests.helpers.factories import CREDENTIALS, JWT_SECRET, base64url, bearer, claims
from tests.helpers.http import Response, send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, Server, started

PAIRS = ("EdDSA", "ES256", "RS256")
ALGORITHMS = ("HS256", *PAIRS)

FORGED = "Forged token."
MALFORMED = "Malformed token."
EXPIRED = "Expired token. Sign in again."
REVOKED = "Revoked token. Sign in again."
OF_NOBODY = "Token of a user who is gone."
OF_DISABLED = "Token of a disabled user."

CHALLENGE = 'Bearer error="invalid_token"'

# Where a token is shown, and the status of a refusal there: the original's clients expect 403.
DOORS = (("/pets", 401), ("/my-pets", 403))

ACCESS = "jwt_server.access"
"""What is in the line of each request that the service has answered, and in no other line."""

ACCESS_LINE = re.compile(
    r'\{"time": "[^"]+", "level": "INFO", "logger": "jwt_server\.access", "pid": \d+,'
    r' "message": "(\S+) (\S+) (\S+)", "request_id": "[0-9a-f]{32}", "method": "[A-Z-]+",'
    r' "route": "[^"]*", "status": \d+, "code": (?:null|"\w+"), "duration_ms": [0-9.]+,'
    r' "user_id": (?:null|\d+), "address": "127\.0\.0\.1"\}'
)


@dataclass(frozen=True)
class Target:
    """A server, a token that it gave, and the key that it signs with."""

    server: Server
    folder: Path
    algorithm: str
    settings: dict[str, str]
    key: Any = field(repr=False)
    header: dict[str, str]
    jwk: Jwk
    good: str

    def sign(self, header: Json | None = None, payload: Json | None = None, **changes: Any) -> str:
        """A token under the server's own key, whatever it says; changes are to the claims."""
        header = self.header if header is None else header
        payload = claims(**changes) if payload is None else payload
        parts = (base64url(as_json(header)), base64url(as_json(payload)))
        return self.sign_parts(*parts)

    def sign_parts(self, header: str, payload: str) -> str:
        """The same, for parts that are spelled as no good one is."""
        made = signature(self.algorithm, self.key, f"{header}.{payload}".encode())
        return f"{header}.{payload}.{base64url(made)}"

    def forge(self, header: Json, secret: bytes, **changes: Any) -> str:
        """A token whose signature is an HMAC under what an attacker takes for the secret."""
        message = f"{base64url(as_json(header))}.{base64url(as_json(claims(**changes)))}"
        return f"{message}.{base64url(signature('HS256', secret, message.encode()))}"

    def with_signature(self, made: bytes) -> str:
        """The token that the server would take, with another signature."""
        return compact(self.header, claims(), made)

    def show(self, token: str, path: str = "/pets", **headers: str) -> Response:
        return send_to_server(self.server, "GET", path, bearer(token) | headers)

    def log_since(self, before: int) -> list[str]:
        with self.server.log_file.open() as log:
            log.seek(before)
            return log.read().splitlines()

    def log_size(self) -> int:
        return self.server.log_file.stat().st_size

    def refuses(self, token: str, says: str) -> None:
        """See that a token is refused wherever it is shown: with these words and no others, and a
        line in the log that says no more.
        """
        before = self.log_size()
        for path, status in DOORS:
            answer = self.show(token, path)
            assert (answer.status, answer.text) == (status, says), token[:200]
            assert answer.headers.getlist("WWW-Authenticate") == [CHALLENGE]
        lines = self.log_since(before)
        logged = [found and found.groups() for found in map(ACCESS_LINE.fullmatch, lines)]
        assert logged == [("GET", path, str(status)) for path, status in DOORS], lines

    def still_works(self) -> None:
        """The control: what was refused was not refused because nothing is taken any more."""
        assert [self.show(self.good, path).status for path, _ in DOORS] == [200, 200]


@dataclass(frozen=True)
class Attack:
    """One way in that was open somewhere."""

    id: str
    what: str
    """What it was, in a line."""
    tokens: Callable[[Target], Iterable[str]]
    says: str = FORGED
    against: Sequence[str] = ALGORITHMS

    def run(self, target: Target) -> None:
        tokens = list(self.tokens(target))
        assert tokens, "an attack that sends nothing shows nothing"
        for token in tokens:
            assert token != target.good
            target.refuses(token, self.says)
        target.still_works()


def cases(attacks: Iterable[Attack]) -> pytest.MarkDecorator:
    """Each attack on each server that it can apply to."""
    return pytest.mark.parametrize(
        ("target", "attack"),
        [
            pytest.param(algorithm, attack, id=f"{attack.id}-{algorithm}")
            for attack in attacks
            for algorithm in attack.against
        ],
        indirect=["target"],
    )


each_algorithm = pytest.mark.parametrize("target", ALGORITHMS, indirect=True)


@cache
def pair_of(algorithm: str) -> KeyPair:
    """One pair for all servers of an algorithm, as making one of RS256 takes a second."""
    return keys.generate(algorithm)


def prepare(folder: Path, algorithm: str) -> tuple[dict[str, str], Any, dict[str, str], Jwk]:
    """A database with the demo user, and a key; what a server there is set to, the key, the header
    of its tokens, and what is public of it.
    """
    path = folder / "server.db"
    create_database(path)
    settings = BASE_ENVIRONMENT | {"JWT_ALGORITHM": algorithm}
    if algorithm == "HS256":
        return settings, JWT_SECRET, {"alg": "HS256", "typ": "JWT"}, {}
    pair = pair_of(algorithm)
    (folder / "keys").mkdir(mode=0o700)
    file = folder / "keys" / f"0-{pair.kid}.pem"
    file.touch(mode=0o600)
    file.write_bytes(keys.dump(pair))
    header = {"alg": algorithm, "kid": pair.kid, "typ": "JWT"}
    return settings | {"JWT_KEYS_DIR": str(folder / "keys")}, pair.private, header, pair.jwk


@contextmanager
def attacked(folder: Path, algorithm: str, **extra: str) -> Iterator[Target]:
    """Run a server to attack, with the demo user signed in."""
    settings, key, header, jwk = prepare(folder, algorithm)
    settings |= extra
    with started(folder, settings) as server:
        good = sign_in(server).text
        yield Target(server, folder, algorithm, settings, key, header, jwk, good)


def sign_in(server: Server, **changes: str) -> Response:
    """The bare token, as the original's clients get it."""
    form = urlencode(CREDENTIALS | changes)
    answer = send_to_server(server, "POST", "/auth", {}, form, "application/x-www-form-urlencoded")
    assert answer.status == 200, answer.text
    return answer


def ask_json(
    server: Server, method: str, path: str, body: object = None, token: str | None = None
) -> Response:
    """Ask as a front end does."""
    headers = {"Accept": "application/json"} | (bearer(token) if token else {})
    data = None if body is None else json.dumps(body)
    return send_to_server(server, method, path, headers, data, data and "application/json")


def tokens_of(server: Server, username: str = "travis", password: str = "mypassword") -> Any:
    """The token object of a fresh sign-in."""
    body = {"username": username, "password": password}
    answer = ask_json(server, "POST", "/auth", body)
    assert answer.status == 200, answer.text
    return json.loads(answer.body)
