"""Reading the environment: one setting after another, with all mistakes at once.

Knows how a secret, an origin, a host or a database is written; which settings there are, and
what they mean, stands in config.py.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from environs import Env, EnvError, EnvValidationError, ValidationError
from marshmallow.validate import Range

from jwt_server.errors import ConfigurationError

T = TypeVar("T")

INSTANCE: Final = Path("instance")
"""Where the database and the generated secrets are, below the working directory."""

SECRET_BYTES: Final = 32
"""The least a secret must have: RFC 7518 section 3.2 wants the hash's own size for HS256."""

HOSTNAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\Z")


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


@dataclass(frozen=True)
class Reader:
    """Reads settings one by one, and goes on after a mistake with a stand-in for the value."""

    env: Env
    mistakes: list[str] = field(default_factory=list)

    def text(self, name: str, default: str, check: Callable[[str], object]) -> str:
        """A text that passes the check."""
        return self._read(name, lambda: self.env.str(name, default, validate=check), default)

    def number(self, name: str, default: int, check: Range) -> int:
        """A whole number within the range."""
        return self._read(name, lambda: self.env.int(name, default, validate=check), default)

    def database(self, default: Path) -> Path:
        """The path of DATABASE_URL, from the root."""
        text = self.env.str("DATABASE_URL", f"sqlite:///{default}")
        return self._read("DATABASE_URL", lambda: _sqlite_path(text), default)

    def origins(self) -> tuple[str, ...]:
        """The origins of CORS_ORIGINS."""
        text = self.env.str("CORS_ORIGINS", "*")
        return self._read("CORS_ORIGINS", lambda: _origins(text), ())

    def secret(self, name: str) -> bytes:
        """A secret from NAME, from the file that NAME_FILE names, or from what `make run` made."""
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


def check_host(host: str) -> None:
    """Raise ValidationError for what is neither an IP address nor the name of a host."""
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
