"""The settings: read once, from the environment and a `.env` file beside it, checked, frozen.

`load_settings` collects every mistake before it gives up, so that a person mends them all
in one go. What has a secret in it is never shown by `repr`.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from marshmallow.validate import OneOf, Range, Regexp

from jwt_server.environment import INSTANCE, Reader, can_be_listed, check_host, environment
from jwt_server.errors import ConfigurationError

DEFAULT_DATABASE: Final = INSTANCE / "jwt-server.db"
DEFAULT_KEYS: Final = INSTANCE / "jwt_keys"

SECRETS: Final = ("SECRET_KEY", "JWT_SECRET")
SALT_ROUNDS: Final = Range(4, 31, error="bcrypt's cost (log2) is from {min} to {max}.")
SALT_ROUNDS_WISE: Final = range(10, 16)
"""Below, a stolen hash falls quickly; above, a sign-in takes seconds of a core."""

PASSWORD_MIN_LENGTH: Final = Range(1, 64)  # what NIST SP 800-63B wants to be possible at least
PORT: Final = Range(1, 65535)
WORKERS: Final = Range(1, 512)
TTL: Final = Range(1, 365 * 24 * 60 * 60)
GRACE: Final = Range(0, 5 * 60)  # as long as a stolen token may be used beside its owner's
ALGORITHMS: Final = OneOf(("HS256", "EdDSA", "ES256", "RS256"), error="One of {choices}.")
SIGNUP: Final = OneOf(("open", "closed"), error="One of {choices}.")

NAME: Final = Regexp(r"[!-~]{1,255}\Z", error="Use 1 to 255 letters, digits and signs of ASCII.")
"""What a token calls its issuer and its audience: short, so that every token is."""


@dataclass(frozen=True)
class Settings:
    """How a service is to run. Times are in seconds."""

    secret_keys: tuple[bytes, ...] = field(repr=False)
    """The first makes refresh tokens, all verify."""
    jwt_secrets: tuple[bytes, ...] = field(repr=False)
    """Under HS256: the first signs, all verify."""
    database: Path
    jwt_algorithm: str = "HS256"
    jwt_keys_dir: Path = DEFAULT_KEYS
    """The key pairs, under the other algorithms."""
    jwks_max_age: int = 10 * 60
    host: str = "127.0.0.1"
    port: int = 3000
    workers: int = 1
    salt_rounds: int = 12
    password_min_length: int = 8
    """In characters; for new passwords."""
    jwt_issuer: str = "jwt-server"
    jwt_audience: str = "jwt-server"
    access_token_ttl: int = 15 * 60
    text_token_ttl: int = 12 * 60 * 60
    refresh_token_idle_ttl: int = 7 * 24 * 60 * 60
    refresh_token_ttl: int = 30 * 24 * 60 * 60
    refresh_grace: int = 10
    signup: str = "closed"
    cors_origins: tuple[str, ...] = ("*",)

    @property
    def bind(self) -> str:
        """Host and port as gunicorn takes them, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def longest_token_ttl(self) -> int:
        """How long an access token may live at most, in seconds."""
        return max(self.access_token_ttl, self.text_token_ttl)

    @property
    def warnings(self) -> Sequence[str]:
        """What is allowed, but unwise; a line each."""
        found = []
        if self.salt_rounds not in SALT_ROUNDS_WISE:
            found.append(f"SALT_ROUNDS is {self.salt_rounds}: under 10 is weak, over 15 is slow.")
        for name, secrets in (("SECRET_KEY", self.secret_keys), ("JWT_SECRET", self.jwt_secrets)):
            if not all(can_be_listed(secret) for secret in secrets):
                found.append(
                    f"{name} has a comma, a line end, or a space at its end, which {name}_PREVIOUS"
                    " can't hold: to swap it is to sign everybody out."
                )
        return found


def load_settings() -> Settings:
    """Read and check every setting.

    Raises ConfigurationError with one line for each mistake.
    """
    reader = Reader(environment())
    algorithm = reader.text("JWT_ALGORITHM", Settings.jwt_algorithm, ALGORITHMS)
    issuer = reader.text("JWT_ISSUER", Settings.jwt_issuer, NAME)
    settings = Settings(
        secret_keys=reader.secrets("SECRET_KEY"),
        jwt_secrets=reader.secrets("JWT_SECRET") if algorithm == "HS256" else (),
        jwt_algorithm=algorithm,
        jwt_keys_dir=reader.folder("JWT_KEYS_DIR", Settings.jwt_keys_dir),
        jwks_max_age=reader.number("JWKS_MAX_AGE", Settings.jwks_max_age, TTL),
        database=reader.database(DEFAULT_DATABASE),
        host=reader.text("HOST", Settings.host, check_host),
        port=reader.number("PORT", Settings.port, PORT),
        workers=reader.number("WORKERS", len(usable_cores()), WORKERS),
        salt_rounds=reader.number("SALT_ROUNDS", Settings.salt_rounds, SALT_ROUNDS),
        password_min_length=reader.number(
            "PASSWORD_MIN_LENGTH", Settings.password_min_length, PASSWORD_MIN_LENGTH
        ),
        jwt_issuer=issuer,
        jwt_audience=reader.text("JWT_AUDIENCE", issuer, NAME),
        access_token_ttl=reader.number("ACCESS_TOKEN_TTL", Settings.access_token_ttl, TTL),
        text_token_ttl=reader.number("TEXT_TOKEN_TTL", Settings.text_token_ttl, TTL),
        refresh_token_idle_ttl=reader.number(
            "REFRESH_TOKEN_IDLE_TTL", Settings.refresh_token_idle_ttl, TTL
        ),
        refresh_token_ttl=reader.number("REFRESH_TOKEN_TTL", Settings.refresh_token_ttl, TTL),
        refresh_grace=reader.number("REFRESH_GRACE", Settings.refresh_grace, GRACE),
        signup=reader.text("SIGNUP", Settings.signup, SIGNUP),
        cors_origins=reader.origins(),
    )
    if reader.mistakes:
        raise ConfigurationError(reader.mistakes)
    return settings


@cache
def process_settings() -> Settings:
    """The settings of this process, read when they are first asked for.

    A forked worker has those of its parent, so that all agree on a secret whatever has become
    of the file that it came from. Raises ConfigurationError.
    """
    return load_settings()


def usable_cores() -> list[int]:
    """The numbers of the cores that this process may run on, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
