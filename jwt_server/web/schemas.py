"""What the routes' schemas are made of, beside marshmallow's own fields; accounts and sessions."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from math import ceil
from typing import Any, Final

from marshmallow import Schema, ValidationError, fields
from marshmallow.validate import Length

from jwt_server.errors import InvalidFields
from jwt_server.security import passwords
from jwt_server.security.primitives import UNSTORABLE, SentText, load_json
from jwt_server.users import claims, names


class Text(fields.String):
    """A string that the database can hold: no NUL, no lone surrogate."""

    default_error_messages = {  # noqa: RUF012 - marshmallow's
        "characters": "NUL and lone surrogates are not allowed."
    }

    def __init__(self, *, metadata: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(metadata={"pattern": "^[^\\u0000]*$"} | (metadata or {}), **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if UNSTORABLE.search(text):
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


NEW_PASSWORD: Final = {  # validated by security/policy.py
    "format": "new-password",
    "minLength": 1,
    "maxLength": passwords.MAX_CHARACTERS,
    "description": "At least `PASSWORD_MIN_LENGTH` characters; not a common password, not the"
    " username.",
}

NEW_USERNAME: Final = {  # validated by users/names.py
    "format": "username",
    "minLength": 1,
    "maxLength": names.MAX_CHARACTERS,
    "description": "Stored as NFKC, without space at either end; no invisible characters.",
}


class Flag(fields.Boolean):
    """A boolean that the database holds as 0 or 1."""

    def _serialize(self, value: int | None, attr: str | None, obj: Any, **kwargs: Any) -> bool:
        return bool(value)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if isinstance(value, SentText):
            value = {"true": True, "false": False}.get(value)
        if not isinstance(value, bool):
            raise ValidationError("Send true or false.")
        return value


class Claims(fields.Field[str]):
    """Custom claims: JSON in the database, an object outside."""

    def __init__(self, **options: Any) -> None:
        metadata = {
            "type": "object",
            "description": f"At most {claims.MAX_BYTES} bytes of compact JSON, {claims.MAX_DEPTH}"
            f" deep. Reserved: {', '.join(sorted(claims.RESERVED))}.",
        }
        super().__init__(metadata=metadata, **options)

    def _serialize(self, value: str | None, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return json.loads(value or "{}")

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        try:
            return claims.encode(
                load_json(value.encode()) if isinstance(value, SentText) else value
            )
        except InvalidFields as error:
            raise ValidationError(list(error.errors["claims"])) from error
        except ValueError as error:  # a form's text that is not JSON
            raise ValidationError(str(error)) from error


class Timestamp(fields.Field[int]):
    """A Unix time in the database, ISO 8601 in JSON."""

    def __init__(self, *, metadata: dict[str, Any] | None = None, **options: Any) -> None:
        described = {"type": "string", "format": "date-time"} | (metadata or {})
        super().__init__(metadata=described, **options)

    def _serialize(self, value: int | None, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return None if value is None else iso(value)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        try:
            moment = datetime.fromisoformat(value)
        except (TypeError, ValueError):
            raise ValidationError("Send a time such as 2026-01-31T12:00:00Z.") from None
        return ceil((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


class AccountSchema(Schema):
    """An account, as its user sees it."""

    id = fields.Integer(required=True)
    username = fields.String(required=True)
    admin = Flag(required=True)
    claims = Claims(required=True)
    created_at = Timestamp(required=True)


class SessionSchema(Schema):
    """A session, as its user sees it."""

    id = fields.String(required=True, metadata={"examples": ["Fq3nUWlMzT8dPoVhGyWb2g"]})
    created_at = Timestamp(required=True)
    last_used_at = Timestamp(required=True)
    address = fields.String(required=True)
    user_agent = fields.String(required=True)
    current = fields.Boolean(required=True)


def iso(seconds: int) -> str:
    """Format a Unix time as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
