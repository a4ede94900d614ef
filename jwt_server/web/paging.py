"""Lists in pages: `?limit=` and `?after=`, the next page in the Link header (RFC 8288)."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any, Final

from flask import request, url_for
from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load

from jwt_server import ids
from jwt_server.database import Row
from jwt_server.web.bodies import REPEATED

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 100


@dataclass(frozen=True)
class Page:
    """Which part of a list is asked for: at most `limit` rows with an id above `after`."""

    limit: int
    after: int

    @property
    def rows(self) -> int:
        """How many rows to read: one more than asked for tells whether there is a next page."""
        return self.limit + 1


class Limit(fields.Integer):
    """1 to 100, in plain digits."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        limit = None if value is REPEATED else ids.parse(value)
        if limit is None or limit > MAX_LIMIT:
            raise ValidationError(f"Send one number from 1 to {MAX_LIMIT}.")
        return limit


class Cursor(fields.String):
    """Where the page before ended; opaque, so that we may change what is in it."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:  # type: ignore[override]  # a string outside, a number inside
        try:
            row_id = ids.parse(urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode("ascii"))
        except (TypeError, ValueError):  # sent twice, or not what we made
            row_id = None
        if row_id is None or cursor(row_id) != value:
            raise ValidationError("Send a cursor as the Link header gave it.")
        return row_id


class PageSchema(Schema):
    """The query string of every list."""

    class Meta:
        unknown = EXCLUDE

    limit = Limit(load_default=DEFAULT_LIMIT)
    after = Cursor(load_default=0)

    @post_load
    def page(self, data: dict[str, int], **_kwargs: Any) -> Page:
        """What a route gets."""
        return Page(**data)


def cursor(row_id: int) -> str:
    """The opaque form of the last id on a page."""
    return urlsafe_b64encode(str(row_id).encode()).decode().rstrip("=")


def page_of(rows: list[Row], page: Page) -> tuple[list[Row], dict[str, str]]:
    """The rows to answer with and the headers beside them, from `page.rows` rows read."""
    if len(rows) <= page.limit:
        return rows, {}
    shown = rows[: page.limit]
    following = url_for(str(request.endpoint), limit=page.limit, after=cursor(shown[-1]["id"]))
    return shown, {"Link": f'<{following}>; rel="next"'}
