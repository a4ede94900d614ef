"""The settings: read once, from the environment and a `.env` file beside it, checked, frozen.

`load_settings` collects every mistake before it gives up, so that a person mends them all
in one go. What has a secret in it is never shown by `repr`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from environs import Env, EnvError, EnvValidationError, ValidationError
from marshmallow.validate import Range, Regexp

from jwt_server.errors import ConfigurationError

T = TypeVar("T")

INSTANCE: Final = Path("instance")
"""Where the database and the generated secrets are, below the working directory."""

DEFAULT_DATABASE: Final = INSTANCE / "jwt-server.db"

SECRETS: Final = ("SECRET_KEY", "JWT_SECRET")
SECRET_BYTES: Final = 32
"""The least a secret must have: RFC 7518 section 3.2 wants the hash's own size for HS256."""

SALT_ROUNDS: Final = Range(4, 31, error="bcrypt's cost (log2) is from {min} to {max}.")
SALT_ROUNDS_WISE: Final = range(10, 16)
"""Below, a stolen hash falls quickly; above, a sign-in takes seconds of a core."""

PORT: Final = Range(1, 65535)
WORKERS: Final = Range(1, 512)
TTL: Final = Range(1, 365 * 24 * 60 * 60)

NAME: Final = Regexp(r"[!-~]{1,255}\Z", error="Use 1 to 255 letters, digits and signs of ASCII.")
"""What a token calls its issuer and its audience: short, so that every token is."""

HOSTNAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\Z")


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
    reader = _Reader(environment())
    secret_key = reader.secret("SECRET_KEY")
    jwt_secret = reader.secret("JWT_SECRET")
    issuer = reader.text("JWT_ISSUER", Settings.jwt_issuer, NAME)
    settings = Settings(
        secret_key=secret_key,
        jwt_secrets=(jwt_secret, *reader.previous("JWT_SECRET")),
        database=reader.database(),
        host=reader.text("HOST", Settings.host, _check_host),
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


def environment() -> Env:
    """The environment, and what the file `.env` in the working directory adds to it.

    Raises ConfigurationError where the file can't be read.
    """
    env = Env()
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


@dataclass(frozen=True)
class _Reader:
    """Reads settings one by one, and goes on after a mistake with a stand-in for the value."""

    env: Env
    mistakes: list[str] = field(default_factory=list)

    def text(self, name: str, default: str, check: Callable[[str], object]) -> str:
        return self._read(name, lambda: self.env.str(name, default, validate=check), default)

    def number(self, name: str, default: int, check: Range) -> int:
        return self._read(name, lambda: self.env.int(name, default, validate=check), default)

    def database(self) -> Path:
        text = self.env.str("DATABASE_URL", f"sqlite:///{DEFAULT_DATABASE}")
        return self._read("DATABASE_URL", lambda: _sqlite_path(text), DEFAULT_DATABASE)

    def origins(self) -> tuple[str, ...]:
        text = self.env.str("CORS_ORIGINS", "*")
        return self._read("CORS_ORIGINS", lambda: _origins(text), ())

    def secret(self, name: str) -> bytes:
        """From NAME, from the file that NAME_FILE names, or from the file of `make run`."""
        made = INSTANCE / name.lower()

        def read() -> bytes:
            text = self._told(name, made if made.exists() else None)
            if text is None:
                raise ValidationError(
                    f"Missing, and there is no default. Set {name} or {name}_FILE to a secret of"
                    f" at least {SECRET_BYTES} bytes; `make run` makes one."
                )
            return _long_enough(text)

        return self._read(name, read, b"")

    def previous(self, name: str) -> tuple[bytes, ...]:
        """The secrets that only verify, separated by commas or line ends."""
        name = f"{name}_PREVIOUS"

        def read() -> tuple[bytes, ...]:
            return tuple(_long_enough(text) for text in _listed(self._told(name, None) or ""))

        return self._read(name, read, ())

    def _told(self, name: str, default_file: Path | None) -> str | None:
        value: str | None = self.env.str(name, None)
        path: str | None = self.env.str(f"{name}_FILE", None)
        if value is not None and path is not None:
            raise ValidationError(f"{name}_FILE is set, too: keep one of them.")
        file = default_file if path is None else Path(path)
        if value is not None or file is None:
            return value
        try:
            return file.read_text("utf-8", "surrogateescape").rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise ValidationError(f"Its file can't be read: {error}.") from error

    def _read(self, name: str, read: Callable[[], T], stand_in: T) -> T:
        try:
            return read()
        except EnvValidationError as error:
            self.mistakes.append(f"{name}: {' '.join(error.error_messages)}")
        except (EnvError, ValidationError) as error:
            self.mistakes.append(f"{name}: {error.args[0]}")
        return stand_in


def _listed(text: str) -> list[str]:
    parts = (part.strip() for line in text.splitlines() for part in line.split(","))
    return [part for part in parts if part]


def _long_enough(text: str) -> bytes:
    secret = text.encode("utf-8", "surrogateescape")
    if len(secret) < SECRET_BYTES:
        raise ValidationError(
            f"{len(secret)} bytes are too few, at least {SECRET_BYTES} are needed:"
            " try `openssl rand -base64 48`."
        )
    return secret


def _sqlite_path(url: str) -> Path:
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite" or not path:
        raise ValidationError("Write sqlite:///PATH, with four slashes for a path from the root.")
    return Path(path).absolute()


def _check_host(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not HOSTNAME.match(host):
            raise ValidationError("Not an IP address, nor the name of a host.") from None


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(_listed(text))
    wrong = [origin for origin in origins or ("",) if not _is_origin(origin)]
    if origins != ("*",) and wrong:
        raise ValidationError(
            f"{wrong[0]!r} is no origin. Write * alone, or a comma-separated list of origins"
            " like https://app.example.com (lower case, no slash at the end)."
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
