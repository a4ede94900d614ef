"""The service under attack, under one algorithm, and what an attack on it must get."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain, cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask

from jwt_server.app import create_app
from jwt_server.config import Settings
from jwt_server.logs import formatter
from jwt_server.security import keys
from jwt_server.security.keys import Jwk, Key
from jwt_server.web.service import EXTENSION
from tests.attacks.forging import Json, as_json, compact, signature
from tests.helpers.databases import create_database, database_in
from tests.helpers.factories import (
    CREDENTIALS,
    JWT_SECRET,
    SECRET_KEY,
    UNTHROTTLED,
    base64url,
    bearer,
    claims,
)
from tests.helpers.http import Response, send_to_app

PAIRS = ("EdDSA", "ES256", "RS256")
ALGORITHMS = ("HS256", *PAIRS)

FORGED = "Forged token."
MALFORMED = "Malformed token."
EXPIRED = "Expired token. Sign in again."
REVOKED = "Revoked token. Sign in again."
OF_NOBODY = "Token of a user who is gone."
OF_DISABLED = "Token of a disabled user."

CHALLENGE = 'Bearer error="invalid_token"'

Guarded = Sequence[tuple[str, int]]
GUARDED: Guarded = (("/pets", 401), ("/my-pets", 403))
"""Guarded routes, and the status of a refusal there: the original's clients expect 403."""

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

LOG_FORMAT = formatter("json")
ACCESS_LINE = re.compile(
    r'\{"time": "[^"]+", "level": "INFO", "logger": "jwt_server\.access", "pid": \d+,'
    r' "message": "(\S+) (\S+) (\S+)", "request_id": "[0-9a-f]{32}", "method": "[A-Z-]+",'
    r' "route": "[^"]*", "status": \d+, "code": (?:null|"\w+"), "duration_ms": [0-9.]+,'
    r' "user_id": (?:null|\d+), "address": "127\.0\.0\.1"\}'
)


@dataclass(frozen=True)
class Target:
    """An app, a token that it issued, and the key that it signs with."""

    app: Flask
    settings: Settings
    key: Any = field(repr=False)
    header: dict[str, str]
    """The header of each of its tokens."""
    jwk: Jwk
    good: str = ""
    log: pytest.LogCaptureFixture | None = field(default=None, repr=False)

    @property
    def algorithm(self) -> str:
        return self.settings.jwt_algorithm

    def send(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        data: bytes | str | None = None,
        content_type: str | None = None,
    ) -> Response:
        """Send a request, without cookies."""
        client = self.app.test_client(use_cookies=False)
        return send_to_app(
            client, method, path, headers=headers, data=data, content_type=content_type
        )

    def sign(self, header: Json | None = None, payload: Json | None = None, **changes: Any) -> str:
        """Return a token of any content under the service's own key; changes are to the claims."""
        header = self.header if header is None else header
        payload = claims(**changes) if payload is None else payload
        parts = (base64url(as_json(header)), base64url(as_json(payload)))
        return self.sign_parts(*parts)

    def sign_parts(self, header: str, payload: str) -> str:
        """Return the same for encoded parts, which need not be canonical."""
        made = signature(self.algorithm, self.key, f"{header}.{payload}".encode())
        return f"{header}.{payload}.{base64url(made)}"

    def forge(self, header: Json, secret: bytes, **changes: Any) -> str:
        """Return a token whose signature is an HMAC under a secret that the attacker guesses."""
        message = f"{base64url(as_json(header))}.{base64url(as_json(claims(**changes)))}"
        return f"{message}.{base64url(signature('HS256', secret, message.encode()))}"

    def with_signature(self, made: bytes) -> str:
        """Return a good token but for its signature."""
        return compact(self.header, claims(), made)

    def show(self, token: str, path: str = "/pets", **headers: str) -> Response:
        """Send a token as servers pass it on: without the white space around a header's value."""
        return self.send("GET", path, {"Authorization": f"Bearer {token}".rstrip(" \t")} | headers)

    def log_lines(self) -> list[str]:
        """Return the lines that this test has logged."""
        assert self.log is not None
        return [LOG_FORMAT.format(record) for record in self.log.records]

    def refuses(self, token: str, text: str, guarded: Guarded = GUARDED) -> None:
        """Check that each guarded route refuses a token with this text and no details, in the
        response as in the log.
        """
        assert self.log is not None
        self.log.clear()
        for path, status in guarded:
            response = self.show(token, path)
            assert (response.status, response.text) == (status, text), token[:200]
            assert response.headers.getlist("WWW-Authenticate") == [CHALLENGE]
        lines = self.log_lines()
        logged = [found and found.groups() for found in map(ACCESS_LINE.fullmatch, lines)]
        assert logged == [("GET", path, str(status)) for path, status in guarded], lines

    def still_works(self) -> None:
        """Check that the good token is still accepted, so that the refusals prove something."""
        assert [self.show(self.good, path).status for path, _ in GUARDED] == [200, 200]


@dataclass(frozen=True)
class Attack:
    """One attack that worked against another implementation."""

    id: str
    what: str
    """What it was, in a line."""
    tokens: Callable[[Target], Iterable[str]]
    text: str = FORGED
    """The text of each refusal."""
    against: Sequence[str] = ("EdDSA",)
    """The algorithms that it concerns; one where it concerns any."""

    def run(self, target: Target) -> None:
        """Check that the first token is refused everywhere, and each other at a route in turn."""
        tokens = list(self.tokens(target))
        assert tokens, "an attack without tokens tests nothing"
        routes = chain([GUARDED], cycle([each] for each in GUARDED))
        for token, guarded in zip(tokens, routes, strict=False):
            assert token != target.good
            target.refuses(token, self.text, guarded)
        target.still_works()


def cases(attacks: Iterable[Attack]) -> pytest.MarkDecorator:
    """Parametrize by attack and by the algorithms that it concerns."""
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
def pair_of(algorithm: str) -> Key:
    """Return one pair for all targets of an algorithm; a pair of RS256 takes a second."""
    return keys.generate(algorithm)


@contextmanager
def attacked(folder: Path, algorithm: str, **changes: Any) -> Iterator[Target]:
    """Make a service to attack, with the demo user signed in; `changes` are to its settings."""
    database = database_in(folder)
    create_database(database)
    settings = Settings(
        (SECRET_KEY,),
        (JWT_SECRET,),
        database,
        salt_rounds=4,
        jwt_algorithm=algorithm,
        jwt_keys_dir=folder / "keys",
        **UNTHROTTLED | changes,
    )
    key, header, jwk = write_key(settings)
    with running(settings) as app:
        target = Target(app, settings, key, header, jwk)
        yield replace(target, good=sign_in(target).text)


def write_key(settings: Settings) -> tuple[Any, dict[str, str], Jwk]:
    """Give a service its key; returns the key, the header of its tokens, and the public JWK."""
    if settings.jwt_algorithm == "HS256":
        return JWT_SECRET, {"alg": "HS256", "typ": "JWT"}, {}
    pair = pair_of(settings.jwt_algorithm)
    settings.jwt_keys_dir.mkdir(mode=0o700)
    file = settings.jwt_keys_dir / f"0-{pair.kid}.pem"
    file.touch(mode=0o600)
    file.write_bytes(keys.dump(pair))
    return pair.signing, dict(pair.header), pair.jwk


@contextmanager
def running(settings: Settings) -> Iterator[Flask]:
    """Create an app, as a server or one more worker does at its start."""
    app = create_app(settings)
    yield app
    app.extensions[EXTENSION].database.close()


@contextmanager
def another(target: Target, **changes: Any) -> Iterator[Target]:
    """Make another process of the same service: a second worker, or the same after a restart."""
    settings = replace(target.settings, **changes)
    with running(settings) as app:
        yield replace(target, app=app, settings=settings)


def sign_in(target: Target, **changes: str) -> Response:
    """Get the bare token, as the original's clients do."""
    response = target.send("POST", "/auth", {}, urlencode(CREDENTIALS | changes), FORM)
    assert response.status == 200, response.text
    return response


def send_json(
    target: Target, method: str, path: str, body: object = None, token: str | None = None
) -> Response:
    """Send a request as a front end does."""
    headers = {"Accept": JSON} | (bearer(token) if token else {})
    data = None if body is None else json.dumps(body)
    return target.send(method, path, headers, data, data and JSON)


def tokens_of(target: Target, username: str = "travis", password: str = "mypassword") -> Any:
    """Sign in; returns the token object."""
    body = {"username": username, "password": password}
    response = send_json(target, "POST", "/auth", body)
    assert response.status == 200, response.text
    return json.loads(response.body)
