"""The kinds of fields that schemas are made of, beside marshmallow's own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, cast

from marshmallow import fields

REPEATED: Final = object()
"""Stands in for the value of a form or query field that came more than once."""

SEND_ONCE: Final = "Send this field once."

STORABLE: Final = "^[^\\u0000]*$"
"""What a Text takes, as a pattern of JSON Schema, where a lone surrogate is no character anyway."""


class AnyText(fields.String):
    """Any string, for what is compared and never stored."""

    default_error_messages = {  # noqa: RUF012 - marshmallow declares it so
        "required": "This field is required.",
        "null": "This field can't be null.",
        "invalid": "Send a string.",
        "repeated": SEND_ONCE,
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if value is REPEATED:
            raise self.make_error("repeated")
        text: str = super()._deserialize(value, attr, data, **kwargs)
        return text


class Text(AnyText):
    """A string that the database can hold: no NUL, no half of a surrogate pair."""

    default_error_messages = {  # noqa: RUF012 - marshmallow declares it so
        "characters": "NUL and lone surrogates can't be stored.",
    }

    def __init__(self, *, metadata: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(metadata={"pattern": STORABLE} | (metadata or {}), **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise self.make_error("characters")
        return text


class Flag(fields.Boolean):
    """A number in the database, true or false outside."""

    def _serialize(self, value: int | None, attr: str | None, obj: Any, **kwargs: Any) -> bool:
        return bool(value)


class Timestamp(fields.Field[int]):
    """A Unix time in the database, ISO 8601 in UTC outside."""

    def __init__(self, **options: Any) -> None:
        super().__init__(metadata={"type": "string", "format": "date-time"}, **options)

    def _serialize(self, value: int | None, attr: str | None, obj: Any, **kwargs: Any) -> str:
        return iso(cast("int", value))


def iso(seconds: int) -> str:
    """A Unix time as people and programs read it: ISO 8601 in UTC, whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
