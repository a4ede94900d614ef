"""Settings: read once from the environment and a `.env` file, validated, frozen.

Each field of Settings states its default and how its text is parsed; its variable has the same
name in upper case. `load_settings` reports every mistake at once and never shows a secret.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, Final

from dotenv import load_dotenv
from dotenv.parser import parse_stream
from jwt import InvalidKeyError
from jwt.algorithms import HMACAlgorithm
from marshmallow import ValidationError
from marshmallow.validate import OneOf, Regexp

from jwt_server.cpus import usable_cpus
from jwt_server.errors import ConfigurationError

INSTANCE: Final = Path("instance")
"""Folder of the database and of generated secrets, below the working directory."""

DEFAULT_DATABASE: Final = INSTANCE / "jwt-server.db"
SECRETS: Final = {"SECRET_KEY": INSTANCE / "secret_key", "JWT_SECRET": INSTANCE / "jwt_secret"}
"""Each secret's variable, and the file that `make run` generates."""

SECRET_BYTES: Final = 32
"""The hash's own size, the minimum for HS256 (RFC 7518 section 3.2)."""

HOST: Final = Regexp(
    r"([A-Za-z0-9.-]+|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)\Z",
    error="{input!r} is not an IP address or host name.",
)
"""Roughly; whether the service can listen there is tried at its start."""

ORIGIN: Final = Regexp(
    r"(?!http:.*:80\Z|https:.*:443\Z)"  # browsers leave out the default port
    r"(https?://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])"
    r"|(?!https?:)[a-z][a-z0-9+.-]*://[A-Za-z0-9._-]+)(:[1-9][0-9]{0,4})?\Z",
    error="{input!r} is not an origin. Write * alone, or a comma-separated list of origins like"
    " https://app.example.com (lower case, no slash at the end).",
)
"""An origin as browsers and app shells write it (RFC 6454 section 6.2)."""

PREFIX: Final = Regexp(
    r"(/(?!\.\.?(/|\Z))[\w.~-]+)*\Z", re.ASCII, error="{input!r} is not a path like /login."
)

ISSUER: Final = Regexp(
    r"[!-~]{1,255}\Z", error="{input!r} is not 1 to 255 visible ASCII characters."
)
"""An issuer or audience: short, because every token holds it."""

Parser = Callable[[str], object]
Derive = Callable[[dict[str, Any]], object]


def _setting(
    default: Any, parse: Parser, *, derive: Derive | None = None, show: bool = True
) -> Any:
    """Declare a setting, which is read from the variable of its name in upper case.

    `derive` computes the default from the settings above; `default` then is that of the class only.
    What may hold a password is not shown in the settings' `repr`.
    """
    return field(default=default, repr=show, metadata={"parse": parse, "derive": derive})


def _integer(low: int, high: int) -> Parser:
    def parse(text: str) -> int:
        if re.fullmatch("[0-9]{1,12}", text) and low <= int(text) <= high:
            return int(text)
        raise ValidationError(f"{text!r} is not a whole number from {low} to {high}.")

    return parse


SECONDS: Final = _integer(1, 365 * 24 * 60 * 60)


def _one_of(*values: str) -> OneOf:
    return OneOf(values, error="{input!r} is not one of {choices}.")


def _host_or_socket(text: str) -> str:
    return text if text.startswith("unix:/") and text.isprintable() else HOST(text)


def _folder(text: str) -> Path:
    if not text:
        raise ValidationError("It is empty.")
    return Path(text)


def _database(url: str) -> Path | str:
    """Return the path of an SQLite file, or the URL of a PostgreSQL database."""
    if url.startswith(("postgresql://", "postgres://")):
        return url
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite" or not path or path == ":memory:" or "?" in path:
        # Not shown: the URL of another database may hold a password.
        raise ValidationError(
            "Write sqlite:///PATH, with four slashes for an absolute path, or"
            " postgresql://USER:PASSWORD@HOST/DATABASE."
        )
    return Path(path)


def _origins(text: str) -> tuple[str, ...]:
    origins = _split(text) or ("",)
    return origins if origins == ("*",) else tuple(map(ORIGIN, origins))


def _split(text: str) -> tuple[str, ...]:
    """Split a list at commas and line ends."""
    return tuple(part for each in re.split("[,\r\n]", text) if (part := each.strip()))


@dataclass(frozen=True)
class Settings:
    """How the service runs; docs/configuration.md explains each. Times are in seconds.

    The first of the secrets signs, all verify; there are `jwt_secrets` under HS256 only.
    """

    secret_keys: tuple[bytes, ...] = field(repr=False)
    jwt_secrets: tuple[bytes, ...] = field(repr=False)
    database: Path | str = _setting(DEFAULT_DATABASE, _database, show=False)  # DATABASE_URL
    jwt_algorithm: str = _setting("HS256", _one_of("HS256", "EdDSA", "ES256", "RS256"))
    jwt_typ: str = _setting("JWT", _one_of("JWT", "at+jwt"))
    jwt_keys_dir: Path = _setting(INSTANCE / "jwt_keys", _folder)
    jwks_max_age: int = _setting(10 * 60, SECONDS)
    jwt_issuer: str = _setting("jwt-server", ISSUER)
    jwt_audience: str = _setting("jwt-server", ISSUER, derive=lambda above: above["jwt_issuer"])
    access_token_ttl: int = _setting(15 * 60, SECONDS)
    text_token_ttl: int = _setting(12 * 60 * 60, SECONDS)
    refresh_token_idle_ttl: int = _setting(7 * 24 * 60 * 60, SECONDS)
    refresh_token_ttl: int = _setting(30 * 24 * 60 * 60, SECONDS)
    refresh_grace: int = _setting(10, _integer(0, 5 * 60))  # a replaced token still works
    host: str = _setting("localhost", _host_or_socket)
    port: int = _setting(3000, _integer(1, 65535))
    keep_alive: int = _setting(75, _integer(1, 7200))  # nginx closes after 60 s
    trusted_proxies: int = _setting(0, _integer(0, 10))
    web_concurrency: int = _setting(1, _integer(1, 512), derive=lambda _: usable_cpus())
    workers: int = _setting(1, _integer(1, 512), derive=lambda above: above["web_concurrency"])
    script_name: str = _setting("", PREFIX)
    """The path that the service is published below."""
    salt_rounds: int = _setting(12, _integer(4, 31))
    hash_concurrency: int = _setting(
        1, _integer(1, 1024), derive=lambda above: max(1, usable_cpus() // above["workers"])
    )
    hash_queue: int = _setting(32, _integer(0, 1024))
    hash_wait: int = _setting(10, _integer(0, 300))
    throttle_pair: int = _setting(5, _integer(1, 1_000_000))  # per user and address
    throttle_account: int = _setting(100, _integer(1, 1_000_000))  # per user and day
    throttle_address: int = _setting(100, _integer(1, 1_000_000))  # per address in 15 minutes
    password_min_length: int = _setting(8, _integer(1, 64))  # NIST SP 800-63B: allow 64
    audit_retention: int = _setting(365, _integer(1, 10 * 365))  # days
    signup: str = _setting("closed", _one_of("closed", "open"))
    cors_origins: tuple[str, ...] = _setting(("*",), _origins)
    log_format: str = _setting(
        "json",
        _one_of("json", "text"),
        derive=lambda _: "text" if sys.stderr and sys.stderr.isatty() else "json",
    )
    metrics_host: str = _setting("127.0.0.1", HOST)
    metrics_port: int = _setting(9464, _integer(0, 65535))  # 0: no metrics

    @property
    def is_socket(self) -> bool:
        """Whether to listen on a Unix socket."""
        return self.host.startswith("unix:")

    @property
    def warnings(self) -> list[str]:
        """Settings that are allowed but unwise, one line each."""
        if self.salt_rounds in range(10, 16):
            return []
        return [f"SALT_ROUNDS is {self.salt_rounds}: under 10 is weak, over 15 is slow."]


def load_settings() -> Settings:
    """Read and validate every setting. Raises ConfigurationError with one line per mistake."""
    read_env_file()
    mistakes: list[str] = []
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        if parse := setting.metadata.get("parse"):
            name = "DATABASE_URL" if setting.name == "database" else setting.name.upper()
            derive = setting.metadata["derive"]
            value = derive(values) if derive else setting.default
            with _collect(mistakes, name):
                if (text := os.environ.get(name)) is not None:
                    value = parse(_bare(name, text))
            values[setting.name] = value.absolute() if isinstance(value, Path) else value
    secret_keys = _secrets("SECRET_KEY", mistakes)
    jwt_secrets = _secrets("JWT_SECRET", mistakes) if values["jwt_algorithm"] == "HS256" else ()
    settings = Settings(secret_keys, jwt_secrets, **values)
    if settings.is_socket and not settings.trusted_proxies:
        mistakes.append("TRUSTED_PROXIES: It must be 1 or more behind a Unix socket.")
    if settings.jwt_typ != "JWT" and settings.jwt_algorithm == "HS256":
        mistakes.append("JWT_TYP: at+jwt needs a JWT_ALGORITHM with public keys.")
    if settings.metrics_port == settings.port and not settings.is_socket:
        mistakes.append(f"METRICS_PORT: PORT is {settings.port}, too.")
    if mistakes:
        raise ConfigurationError(mistakes)
    return settings


process_settings = cache(load_settings)
"""The settings of this process, read on first use; forked workers inherit their parent's."""


def _bare(name: str, text: str) -> str:
    """Return the text of a setting, or refuse what other programs put into it or around it."""
    shown = "It" if name == "DATABASE_URL" else repr(text)  # a URL may hold a password
    if re.search(r"\r|\A['\"]|['\"]\Z", text):
        raise ValidationError(f"{shown} has quotes around it or a carriage return: remove them.")
    return text


@contextmanager
def _collect(mistakes: list[str], name: str) -> Iterator[None]:
    """Add a mistake in a setting or in its file to the others."""
    try:
        yield
    except ValidationError as error:
        mistakes.append(f"{name}: {error.args[0]}")
    except (OSError, ValueError) as error:
        advice = " Make the service's user its owner: chown USER FILE, chmod 600 FILE."
        next_step = advice if isinstance(error, PermissionError) else ""
        mistakes.append(f"{name}: The file can't be read: {error}.{next_step}")


def read_env_file() -> None:
    """Add the variables of `.env` to the environment, which wins. Raises ConfigurationError."""
    mistakes: list[str] = []
    with _collect(mistakes, ".env"), suppress(FileNotFoundError):
        text = Path(".env").read_text("utf-8")
        for name, value, original, is_broken in parse_stream(StringIO(text)):
            if is_broken or (name and value is None):  # not shown, as it may hold a secret
                number = original.line + original.string.rstrip().count("\n")
                problem = "is not NAME=value, or has an unmatched quote."
                mistakes.append(f".env: Line {number} {problem}")
        if not mistakes:
            load_dotenv(stream=StringIO(text))
    if mistakes:
        raise ConfigurationError(mistakes)


def _secrets(name: str, mistakes: list[str]) -> tuple[bytes, ...]:
    """Read a secret and those of NAME_PREVIOUS, which only verify."""
    found: list[bytes] = []
    with _collect(mistakes, name):
        found.append(_secret(_secret_text(name)))
    with _collect(mistakes, f"{name}_PREVIOUS"):
        found += map(_secret, _split(_secret_text(f"{name}_PREVIOUS")))
    return tuple(found)


def _secret_text(name: str) -> str:
    """Return the text of NAME, or of the file that NAME_FILE names, or of the default file."""
    text, path = os.environ.get(name), os.environ.get(f"{name}_FILE")
    if text is not None and path is not None:
        raise ValidationError(f"{name}_FILE is set, too: keep one of them.")
    if text is None:
        file = path if path is not None else SECRETS.get(name, os.devnull)
        try:
            text = Path(file).read_text("utf-8", "surrogateescape")
        except FileNotFoundError:
            if path is not None:
                raise
            raise ValidationError(
                f"Missing, and there is no default. Set {name} or {name}_FILE to a secret of at"
                f" least {SECRET_BYTES} bytes; `make run` generates one."
            ) from None
    text = text.rstrip("\r\n")
    if re.search(r"(^|,)\s*(['\"]).*\2\s*(,|$)", text, re.DOTALL | re.MULTILINE):
        raise ValidationError("There are quotes around it: remove them.")
    return text


def _secret(text: str) -> bytes:
    secret = text.encode("utf-8", "surrogateescape")
    if len(secret) < SECRET_BYTES:
        raise ValidationError(
            f"{len(secret)} bytes are too few, at least {SECRET_BYTES} are needed:"
            " try `openssl rand -base64 48`."
        )
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except InvalidKeyError:
        raise ValidationError("This is a key file, not a secret: use random bytes.") from None
    return secret
