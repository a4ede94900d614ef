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
from typing import IO, Final, TypeVar
from urllib.parse import urlsplit

from dotenv.parser import parse_stream
from environs import Env, EnvError, EnvValidationError, ValidationError
from jwt import InvalidKeyError
from jwt.algorithms import HMACAlgorithm
from marshmallow.validate import Range

from jwt_server.errors import ConfigurationError

T = TypeVar("T")

INSTANCE: Final = Path("instance")
"""Where the database and the generated secrets are, below the working directory."""

SECRET_BYTES: Final = 32
"""The least a secret must have: RFC 7518 section 3.2 wants the hash's own size for HS256."""

LABEL: Final = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
HOSTNAME: Final = re.compile(rf"(?!(unix|fd)\Z)({LABEL}\.)*(?=[A-Za-z]){LABEL}\Z")
"""Names, but for the two that gunicorn takes for something else; no number at the end."""

SOCKET: Final = "unix:"
"""Before the path of a Unix socket to listen on."""

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
"""What a browser leaves out of an origin."""


def made_secret(name: str) -> Path:
    """Where `make run` keeps a secret that it has made up."""
    return INSTANCE / name.lower()


def environment() -> Env:
    """The environment, and what the file `.env` in the working directory adds to it.

    Raises ConfigurationError where the file can't be read.
    """
    path = Path(".env")
    env = Env()
    try:
        if not path.exists():
            return env
        with path.open(encoding="utf-8") as file:
            wrong = [f".env: Line {line} is not NAME=value." for line in _wrong_lines(file)]
        env.read_env(path, recurse=False)
    except (OSError, ValueError) as error:
        raise ConfigurationError([f".env can't be read: {error}."]) from error
    if wrong:
        raise ConfigurationError(wrong)
    return env


def _wrong_lines(file: IO[str]) -> list[int]:
    """The numbers of the lines that python-dotenv would pass over with a warning at the most."""
    return [
        binding.original.line
        for binding in parse_stream(file)
        if binding.error or (binding.key is not None and binding.value is None)
    ]


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
        text = self.env.str(name, str(default))
        return self._read(name, lambda: _whole_number(text, check), default)

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

        def read() -> bytes:
            text = self._told(name, made_secret(name))
            if text is None:
                raise ValidationError(
                    f"Missing, and there is no default. Set {name} or {name}_FILE to a secret of"
                    f" at least {SECRET_BYTES} bytes; `make run` makes one."
                )
            return _secret_bytes(text)

        return self._read(name, read, b"")

    def secrets(self, name: str) -> tuple[bytes, ...]:
        """The secret of that name, and those of NAME_PREVIOUS, which only verify."""
        return (self.secret(name), *self.previous(name))

    def folder(self, name: str, default: Path) -> Path:
        """The path of a folder, from the root."""
        return Path(self.text(name, str(default), _not_empty)).absolute()

    def previous(self, name: str) -> tuple[bytes, ...]:
        """The secrets that only verify, separated by commas or line ends."""
        name = f"{name}_PREVIOUS"

        def read() -> tuple[bytes, ...]:
            return tuple(_secret_bytes(text) for text in _listed(self._told(name, None) or ""))

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
            if path is None and isinstance(error, FileNotFoundError):
                return None
            raise ValidationError(f"Its file can't be read: {error}.") from error

    def _read(self, name: str, read: Callable[[], T], stand_in: T) -> T:
        try:
            return read()
        except EnvValidationError as error:
            self.mistakes.append(f"{name}: {' '.join(error.error_messages)}")
        except (EnvError, ValidationError) as error:
            self.mistakes.append(f"{name}: {error.args[0]}")
        return stand_in


def _not_empty(text: str) -> None:
    if not text:
        raise ValidationError("Empty.")


def _listed(text: str) -> list[str]:
    parts = (part.strip() for line in text.splitlines() for part in line.split(","))
    return [part for part in parts if part]


def can_be_listed(secret: bytes) -> bool:
    """Whether a secret is itself again where it stands in a list of previous ones."""
    text = secret.decode("utf-8", "surrogateescape")
    return _listed(text) == [text]


def _secret_bytes(text: str) -> bytes:
    secret = text.encode("utf-8", "surrogateescape")
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except InvalidKeyError:
        raise ValidationError("A key pair's file is no secret: use random bytes.") from None
    if len(secret) < SECRET_BYTES:
        raise ValidationError(
            f"{len(secret)} bytes are too few, at least {SECRET_BYTES} are needed:"
            " try `openssl rand -base64 48`."
        )
    return secret


def _sqlite_path(url: str) -> Path:
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite" or not path or path == ":memory:" or "?" in path:
        raise ValidationError("Write sqlite:///PATH, with four slashes for a path from the root.")
    return Path(path).absolute()


def check_host(host: str) -> None:
    """Raise ValidationError for what is no IP address, no name of a host, and no Unix socket."""
    if host.startswith(f"{SOCKET}/") and host.isprintable():
        return
    if not _is_host(host):
        raise ValidationError("Not an IP address, nor the name of a host, nor unix:/path.")


def check_address(host: str) -> None:
    """Raise ValidationError for what is no IP address and no name of a host."""
    if not _is_host(host):
        raise ValidationError("Not an IP address, nor the name of a host.")


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return HOSTNAME.match(text) is not None
    return True


def _whole_number(text: str, check: Range) -> int:
    if not re.fullmatch("[0-9]{1,12}", text, re.ASCII):
        raise ValidationError("Not a whole number.")
    return int(check(int(text)))


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
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    written = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}"
    if port is not None:
        written += f":{port}"
    return text == written and _is_host(host) and port not in (0, DEFAULT_PORTS.get(parts.scheme))
