"""What the routes' schemas are made of, beside marshmallow's own fields."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, cast

from marshmallow import ValidationError, fields
from marshmallow.validate import Length

from jwt_server.security import passwords
from jwt_server.users import names

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Text(fields.String):
    """A string that the database can hold: no NUL, no lone surrogate."""

    default_error_messages = {  # noqa: RUF012 - marshmallow's
        "characters": "NUL and lone surrogates are not allowed."
    }

    def __init__(self, *, metadata: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(metadata={"pattern": "^[^\\u0000]*$"} | (metadata or {}), **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if "\0" in text or _SURROGATE.search(text):
            raise self.make_error("characters")
        return text


class Username(Text):
    """A username to sign in with. Its length is counted in NFKC."""

    def __init__(self, **options: Any) -> None:
        metadata = {
            "format": "username",
            "maxLength": names.MAX_CHARACTERS,
            "description": "Case-insensitive, without space at either end; length in NFKC.",
        }
        check = _require(names.fits, names.TOO_LONG)  # one that is too long is costly to compare
        super().__init__(validate=[Length(1), check], metadata=metadata, **options)


class Password(Text):
    """A password to check. Its length is counted in NFC."""

    def __init__(self, **options: Any) -> None:
        metadata = {"maxLength": passwords.MAX_CHARACTERS, "description": "Length in NFC."}
        check = _require(passwords.fits, f"Longer than {passwords.MAX_CHARACTERS} characters.")
        super().__init__(validate=[Length(1), check], metadata=metadata, **options)


def _require(is_valid: Callable[[str], bool], message: str) -> Callable[[str], None]:
    def check(text: str) -> None:
        if not is_valid(text):
            raise ValidationError(message)

    return check


class Flag(fields.Boolean):
    """A boolean that the database holds as 0 or 1."""

    def _serialize(self, value: int | None, attr: str | None, obj: Any, **kwargs: Any) -> bool:
        return bool(value)


class Timestamp(fields.Field[int]):
    """A Unix time in the database, ISO 8601 in JSON."""

    def __init__(self, **options: Any) -> None:
        super().__init__(metadata={"type": "string", "format": "date-time"}, **options)

    def _serialize(self, value: int | None, attr: str | None, obj: Any, **kwargs: Any) -> str:
        return iso(cast("int", value))


def iso(seconds: int) -> str:
    """Format a Unix time as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
