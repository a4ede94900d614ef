"""Lists in pages: `?limit=` and `?after=`, the next page in the Link header (RFC 8288)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from flask import request, url_for
from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load
from marshmallow.validate import Range

from jwt_server.database import Row
from jwt_server.security.primitives import base64url_decode, base64url_encode, parse_id
from jwt_server.web.fields import REPEATED

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 100

LIMIT_WANTED: Final = f"Send one number from 1 to {MAX_LIMIT}."


@dataclass(frozen=True)
class Page:
    """Which part of a list is asked for: at most `limit` rows with an id above `after`.

    A route reads one row more than that, which tells `page_of` whether there is a next page.
    """

    limit: int
    after: int


class Limit(fields.Integer):
    """A number in plain digits, where Python's own `int` takes signs, spaces and underscores."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if value is REPEATED or not re.fullmatch("[1-9][0-9]{0,2}", value, re.ASCII):
            raise ValidationError(LIMIT_WANTED)
        return int(value)


class Cursor(fields.String):
    """Where the page before ended; opaque, so that we may change what is in it."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:  # type: ignore[override]  # a string outside, a number inside
        try:
            row_id = parse_id(base64url_decode(value).decode("ascii"))
        except (TypeError, ValueError):  # sent twice, or not what we made
            row_id = None
        if row_id is None:
            raise ValidationError("Send a cursor as the Link header gave it.")
        return row_id


class PageSchema(Schema):
    """The query string of every list."""

    class Meta:
        unknown = EXCLUDE

    limit = Limit(load_default=DEFAULT_LIMIT, validate=Range(1, MAX_LIMIT, error=LIMIT_WANTED))
    after = Cursor(metadata={"format": "cursor", "description": "As the `Link` header gave it."})

    @post_load
    def page(self, data: dict[str, int], **_kwargs: Any) -> Page:
        """Give a route the two as one."""
        return Page(limit=data["limit"], after=data.get("after", 0))


def cursor(row_id: int) -> str:
    """The opaque form of the last id on a page."""
    return base64url_encode(str(row_id).encode())


def page_of(rows: list[Row], page: Page) -> tuple[list[Row], dict[str, str]]:
    """The rows to answer with and the headers beside them, from up to `page.limit + 1` rows.

    The link holds nothing that the client made up.
    """
    if len(rows) <= page.limit:
        return rows, {}
    shown = rows[: page.limit]
    path = url_for(str(request.endpoint), **(request.view_args or {}))
    query = urlencode({"limit": page.limit, "after": cursor(shown[-1]["id"])})
    return shown, {"Link": f'<{path}?{query}>; rel="next"'}
