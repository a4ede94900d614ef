"""The settings: read once, from the environment and a `.env` file beside it, checked, frozen.

`load_settings` collects every mistake before it gives up, so that a person mends them all
in one go. What has a secret in it is never shown by `repr`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from environs import Env, EnvValidationError, ValidationError
from marshmallow.validate import Range, Regexp

from jwt_server.errors import ConfigurationError

INSTANCE = Path("instance")
"""Where the database and the generated secrets are, below the working directory."""

DEFAULT_DATABASE = INSTANCE / "jwt-server.db"

SECRETS = ("SECRET_KEY", "JWT_SECRET")
SECRET_BYTES = 32
"""The least a secret must have: RFC 7518 section 3.2 wants the hash's own size for HS256."""

UP_TO_A_YEAR = Range(1, 365 * 24 * 60 * 60)

NAME = Regexp(r"[!-~]{1,255}\Z", error="Use 1 to 255 letters, digits and signs of ASCII.")
"""What a token calls its issuer and its audience: short, so that every token is."""

HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\Z")

SALT_ROUNDS_WISE = range(10, 16)
"""Below, a stolen hash falls quickly; above, a sign-in takes seconds of a core."""

SALT_ROUNDS_WHY = "bcrypt's cost (log2) is from {min} to {max}, 12 is the default."


@dataclass(frozen=True)
class Settings:
    """What a running service was told. Times are in seconds."""

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


def load_settings() -> Settings:
    """Read and check every setting.

    Raises ConfigurationError with one line for each mistake.
    """
    env = environment(eager=False)
    mistakes: list[str] = []
    secrets = {name: _secret(env, name, mistakes) for name in SECRETS}
    issuer = env.str("JWT_ISSUER", "jwt-server", validate=NAME)
    values: dict[str, Any] = {
        "database": _database(env.str("DATABASE_URL", f"sqlite:///{DEFAULT_DATABASE}"), mistakes),
        "host": env.str("HOST", "127.0.0.1", validate=_host),
        "port": env.int("PORT", 3000, validate=Range(1, 65535)),
        "workers": env.int("WORKERS", len(usable_cores()), validate=Range(1, 512)),
        "salt_rounds": env.int("SALT_ROUNDS", 12, validate=Range(4, 31, error=SALT_ROUNDS_WHY)),
        "jwt_issuer": issuer,
        "jwt_audience": env.str("JWT_AUDIENCE", issuer, validate=NAME),
        "access_token_ttl": env.int("ACCESS_TOKEN_TTL", 15 * 60, validate=UP_TO_A_YEAR),
        "text_token_ttl": env.int("TEXT_TOKEN_TTL", 12 * 60 * 60, validate=UP_TO_A_YEAR),
        "cors_origins": _origins(env.str("CORS_ORIGINS", "*"), mistakes),
        "jwt_secrets": secrets["JWT_SECRET"] + _previous(env, "JWT_SECRET", mistakes),
    }
    mistakes = _sealed(env) + mistakes
    if mistakes:
        raise ConfigurationError(mistakes)
    return Settings(secret_key=secrets["SECRET_KEY"][0], **values)


def environment(*, eager: bool) -> Env:
    """The environment, and what the file `.env` in the working directory adds to it.

    Raises ConfigurationError where the file can't be read.
    """
    env = Env(eager=eager)
    try:
        env.read_env(Path(".env"), recurse=False)
    except (OSError, ValueError) as error:
        raise ConfigurationError([f".env can't be read: {error}"]) from error
    return env


def usable_cores() -> list[int]:
    """The numbers of the cores that this process may run on, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _sealed(env: Env) -> list[str]:
    try:
        env.seal()
    except EnvValidationError as error:
        found = cast("dict[str, list[str]]", error.error_messages)
        return [f"{name}: {' '.join(texts)}" for name, texts in found.items()]
    return []


def _secret(env: Env, name: str, mistakes: list[str]) -> tuple[bytes, ...]:
    """The secret's bytes, from NAME, from the file in NAME_FILE, or from what `make run` made."""
    made = INSTANCE / name.lower()
    text = _value_or_file(env, name, mistakes, default=made if made.exists() else None)
    if text is None:
        mistakes.append(
            f"{name} is missing: set {name} or {name}_FILE to a secret of at least"
            f" {SECRET_BYTES} bytes (`make run` makes one), there is no default."
        )
        return ()
    return _long_enough(name, [text], mistakes)


def _previous(env: Env, name: str, mistakes: list[str]) -> tuple[bytes, ...]:
    """The secrets that only verify, separated by commas or line ends."""
    text = _value_or_file(env, f"{name}_PREVIOUS", mistakes) or ""
    return _long_enough(f"{name}_PREVIOUS", _listed(text), mistakes)


def _listed(text: str) -> list[str]:
    parts = (part.strip() for line in text.splitlines() for part in line.split(","))
    return [part for part in parts if part]


def _long_enough(name: str, texts: list[str], mistakes: list[str]) -> tuple[bytes, ...]:
    secrets = tuple(text.encode("utf-8", "surrogateescape") for text in texts)
    shortest = min((len(secret) for secret in secrets), default=SECRET_BYTES)
    if shortest < SECRET_BYTES:
        mistakes.append(
            f"{name} has {shortest} bytes: at least {SECRET_BYTES} are needed,"
            " try `openssl rand -base64 48`."
        )
    return secrets


def _value_or_file(
    env: Env, name: str, mistakes: list[str], default: Path | None = None
) -> str | None:
    value: str | None = env.str(name, None)
    path: str | None = env.str(f"{name}_FILE", None)
    if value is not None and path is not None:
        mistakes.append(f"{name} and {name}_FILE are both set: keep one of them.")
        return value
    if value is not None:
        return value
    file = default if path is None else Path(path)
    if file is None:
        return None
    try:
        return file.read_text("utf-8", "surrogateescape").rstrip("\r\n")
    except (OSError, ValueError) as error:
        mistakes.append(f"{name}_FILE can't be read: {error}.")
        return "?" * SECRET_BYTES  # one mistake is enough: no second line about its length


def _database(url: str, mistakes: list[str]) -> Path:
    scheme, separator, path = url.partition(":///")
    if scheme != "sqlite" or not separator or not path:
        mistakes.append(
            "DATABASE_URL must be sqlite:///PATH (four slashes for a path from the root)."
        )
    return Path(path).absolute()


def _host(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not HOSTNAME.match(host):
            raise ValidationError("Not an IP address, nor the name of a host.") from None


def _origins(text: str, mistakes: list[str]) -> tuple[str, ...]:
    origins = tuple(_listed(text))
    if origins != ("*",):
        mistakes.extend(
            f"CORS_ORIGINS: {origin!r} is no origin. Write * alone, or a comma-separated list"
            " of origins like https://app.example.com (lower case, no slash at the end)."
            for origin in origins or ("",)
            if not _is_origin(origin)
        )
    return origins


def _is_origin(text: str) -> bool:
    """Whether this is how a browser writes an origin (RFC 6454 section 6.2)."""
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return False
    return bool(host) and "@" not in text and text == f"{parts.scheme}://{parts.netloc}".lower()
