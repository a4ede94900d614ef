"""The kinds of fields that schemas are made of, beside marshmallow's own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, cast

from marshmallow import fields

REPEATED: Final = object()
"""Stands in for the value of a form or query field that came more than once."""

SEND_ONCE: Final = "Send this field once."


class Text(fields.String):
    """A string that the database can hold: no NUL, no half of a surrogate pair."""

    default_error_messages = {  # noqa: RUF012 - marshmallow declares it so
        "required": "This field is required.",
        "null": "This field can't be null.",
        "invalid": "Send a string.",
        "repeated": SEND_ONCE,
        "characters": "NUL and lone surrogates can't be stored.",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if value is REPEATED:
            raise self.make_error("repeated")
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise self.make_error("characters")
        return text


class Timestamp(fields.Field[int]):
    """A Unix time in the database, ISO 8601 in UTC outside."""

    def _serialize(self, value: int | None, attr: str | None, obj: Any, **kwargs: Any) -> str:
        return datetime.fromtimestamp(cast("int", value), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
