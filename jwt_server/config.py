"""The settings: read once, from the environment and a `.env` file beside it, checked, frozen.

`load_settings` collects every mistake before it gives up, so that a person mends them all
in one go. What has a secret in it is never shown by `repr`.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from marshmallow.validate import OneOf, Range, Regexp

from jwt_server.environment import (
    INSTANCE,
    SOCKET,
    Reader,
    can_be_listed,
    check_address,
    check_host,
    environment,
)
from jwt_server.errors import ConfigurationError

DEFAULT_DATABASE: Final = INSTANCE / "jwt-server.db"
DEFAULT_KEYS: Final = INSTANCE / "jwt_keys"

SECRETS: Final = ("SECRET_KEY", "JWT_SECRET")
SALT_ROUNDS_WISE: Final = range(10, 16)
"""Below, a stolen hash falls quickly; above, a sign-in takes seconds of a core."""

LIGHT_THREADS: Final = 32
"""A worker's threads beside those that hash or wait to: for the requests that take a moment."""

TTL: Final = Range(1, 365 * 24 * 60 * 60)
TRIES: Final = Range(1, 1_000_000)

NUMBERS: Final[Mapping[str, Range]] = {
    "ACCESS_TOKEN_TTL": TTL,
    "AUDIT_RETENTION": Range(1, 10 * 365),
    "HASH_QUEUE": Range(0, 1024),
    "HASH_WAIT": Range(0, 300),
    "JWKS_MAX_AGE": TTL,
    "METRICS_PORT": Range(0, 65535),
    "PASSWORD_MIN_LENGTH": Range(1, 64),  # what NIST SP 800-63B wants to be possible at least
    "PORT": Range(1, 65535),
    "REFRESH_GRACE": Range(0, 5 * 60),  # so long a stolen token may be used beside its owner's
    "REFRESH_TOKEN_IDLE_TTL": TTL,
    "REFRESH_TOKEN_TTL": TTL,
    "SALT_ROUNDS": Range(4, 31, error="bcrypt's cost (log2) is from {min} to {max}."),
    "TEXT_TOKEN_TTL": TTL,
    "THROTTLE_ACCOUNT": TRIES,
    "THROTTLE_ADDRESS": TRIES,
    "THROTTLE_PAIR": TRIES,
    "TRUSTED_PROXIES": Range(0, 10),
}
"""The settings that are whole numbers, with what they may be; their defaults are in Settings."""

WORKERS: Final = Range(1, 512)
HASH_CONCURRENCY: Final = Range(1, 1024)
ALGORITHMS: Final = OneOf(("HS256", "EdDSA", "ES256", "RS256"), error="One of {choices}.")
LOG_FORMATS: Final = OneOf(("json", "text"), error="One of {choices}.")
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
    """An address, a name, or `unix:` and the path of a socket."""
    trusted_proxies: int = 0
    """How many proxies are believed for the client's address."""
    port: int = 3000
    workers: int = 1
    salt_rounds: int = 12
    hash_concurrency: int = 1
    """How many passwords a worker hashes at once, how many wait, and how long."""
    hash_queue: int = 32
    hash_wait: int = 10
    throttle_pair: int = 5
    """Tries at a password that are free: at one account from one address, at one account in a day,
    from one address in 15 minutes."""
    throttle_account: int = 100
    throttle_address: int = 100
    password_min_length: int = 8
    """In characters; for new passwords."""
    jwt_issuer: str = "jwt-server"
    jwt_audience: str = "jwt-server"
    access_token_ttl: int = 15 * 60
    text_token_ttl: int = 12 * 60 * 60
    refresh_token_idle_ttl: int = 7 * 24 * 60 * 60
    refresh_token_ttl: int = 30 * 24 * 60 * 60
    refresh_grace: int = 10
    audit_retention: int = 365
    """How long the audit log keeps a row, in days."""
    signup: str = "closed"
    cors_origins: tuple[str, ...] = ("*",)
    log_format: str = "json"
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9464
    """Where Prometheus asks; with port 0 it can't."""

    @property
    def bind(self) -> str:
        """Where to listen, as gunicorn takes it."""
        return self.host if self.is_socket else _bind(self.host, self.port)

    @property
    def metrics_bind(self) -> str:
        """Where to listen for Prometheus."""
        return _bind(self.metrics_host, self.metrics_port)

    @property
    def is_socket(self) -> bool:
        """Whether to listen on a Unix socket."""
        return self.host.startswith(SOCKET)

    @property
    def threads(self) -> int:
        """A worker's threads: a full lane leaves enough for the rest."""
        return self.hash_concurrency + self.hash_queue + LIGHT_THREADS

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect; who is behind a socket's proxy is not known."""
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


def _bind(host: str, port: int) -> str:
    """An address as gunicorn takes it: of IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def load_settings() -> Settings:
    """Read and check every setting.

    Raises ConfigurationError with one line for each mistake.
    """
    reader = Reader(environment())
    algorithm = reader.text("JWT_ALGORITHM", Settings.jwt_algorithm, ALGORITHMS)
    issuer = reader.text("JWT_ISSUER", Settings.jwt_issuer, NAME)
    cores = len(usable_cores())
    workers = reader.number("WORKERS", cores, WORKERS)
    settings = Settings(
        secret_keys=reader.secrets("SECRET_KEY"),
        jwt_secrets=reader.secrets("JWT_SECRET") if algorithm == "HS256" else (),
        jwt_algorithm=algorithm,
        jwt_keys_dir=reader.folder("JWT_KEYS_DIR", Settings.jwt_keys_dir),
        jwt_issuer=issuer,
        jwt_audience=reader.text("JWT_AUDIENCE", issuer, NAME),
        database=reader.database(DEFAULT_DATABASE),
        host=reader.text("HOST", Settings.host, check_host),
        workers=workers,
        hash_concurrency=reader.number(
            "HASH_CONCURRENCY", max(1, cores // workers), HASH_CONCURRENCY
        ),
        signup=reader.text("SIGNUP", Settings.signup, SIGNUP),
        cors_origins=reader.origins(),
        log_format=reader.text(
            "LOG_FORMAT", "text" if sys.stderr.isatty() else "json", LOG_FORMATS
        ),
        metrics_host=reader.text("METRICS_HOST", Settings.metrics_host, check_address),
        **_numbers(reader),
    )
    if settings.is_socket and not settings.trusted_proxies:
        reader.mistakes.append(
            "TRUSTED_PROXIES: Behind a Unix socket is a proxy, so it must be 1 or more."
        )
    if settings.metrics_port == settings.port and not settings.is_socket:
        reader.mistakes.append("METRICS_PORT: The service itself is on that port.")
    if reader.mistakes:
        raise ConfigurationError(reader.mistakes)
    return settings


def _numbers(reader: Reader) -> dict[str, Any]:
    found = {}
    for name, check in NUMBERS.items():
        field_name = name.lower()
        found[field_name] = reader.number(name, getattr(Settings, field_name), check)
    return found


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
