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

from marshmallow.validate import Range, Regexp

from jwt_server.environment import INSTANCE, Reader, check_host, environment
from jwt_server.errors import ConfigurationError

DEFAULT_DATABASE: Final = INSTANCE / "jwt-server.db"

SECRETS: Final = ("SECRET_KEY", "JWT_SECRET")
SALT_ROUNDS: Final = Range(4, 31, error="bcrypt's cost (log2) is from {min} to {max}.")
SALT_ROUNDS_WISE: Final = range(10, 16)
"""Below, a stolen hash falls quickly; above, a sign-in takes seconds of a core."""

PORT: Final = Range(1, 65535)
WORKERS: Final = Range(1, 512)
TTL: Final = Range(1, 365 * 24 * 60 * 60)

NAME: Final = Regexp(r"[!-~]{1,255}\Z", error="Use 1 to 255 letters, digits and signs of ASCII.")
"""What a token calls its issuer and its audience: short, so that every token is."""


@dataclass(frozen=True)
class Settings:
    """How a service is to run. Times are in seconds."""

    secret_key: bytes = field(repr=False)
    jwt_secrets: tuple[bytes, ...] = field(repr=False)
    """The first signs, all verify."""
    database: Path
    host: str = "127.0.0.1"
    port: int = 3000
    workers: int = 1
    salt_rounds: int = 12
    jwt_issuer: str = "jwt-server"
    jwt_audience: str = "jwt-server"
    access_token_ttl: int = 15 * 60
    text_token_ttl: int = 12 * 60 * 60
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
    def warnings(self) -> Sequence[str]:
        """What is allowed, but unwise; a line each."""
        if self.salt_rounds in SALT_ROUNDS_WISE:
            return ()
        return (f"SALT_ROUNDS is {self.salt_rounds}: under 10 is weak, over 15 is slow.",)


def load_settings() -> Settings:
    """Read and check every setting.

    Raises ConfigurationError with one line for each mistake.
    """
    reader = Reader(environment())
    secret_key = reader.secret("SECRET_KEY")
    jwt_secret = reader.secret("JWT_SECRET")
    issuer = reader.text("JWT_ISSUER", Settings.jwt_issuer, NAME)
    settings = Settings(
        secret_key=secret_key,
        jwt_secrets=(jwt_secret, *reader.previous("JWT_SECRET")),
        database=reader.database(DEFAULT_DATABASE),
        host=reader.text("HOST", Settings.host, check_host),
        port=reader.number("PORT", Settings.port, PORT),
        workers=reader.number("WORKERS", len(usable_cores()), WORKERS),
        salt_rounds=reader.number("SALT_ROUNDS", Settings.salt_rounds, SALT_ROUNDS),
        jwt_issuer=issuer,
        jwt_audience=reader.text("JWT_AUDIENCE", issuer, NAME),
        access_token_ttl=reader.number("ACCESS_TOKEN_TTL", Settings.access_token_ttl, TTL),
        text_token_ttl=reader.number("TEXT_TOKEN_TTL", Settings.text_token_ttl, TTL),
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
