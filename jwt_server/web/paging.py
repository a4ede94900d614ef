"""Pages of lists: `?limit=` and `?after=`, the next page in the Link header (RFC 8288)."""

import re
from typing import Any, Final
from urllib.parse import urlencode

from flask import request, url_for
from marshmallow import Schema, ValidationError, fields
from marshmallow.validate import Range

from jwt_server.database import Row
from jwt_server.security.primitives import base64url_decode, base64url_encode, parse_id

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 100

LIMIT_ERROR: Final = f"Send one number from 1 to {MAX_LIMIT}."


class Limit(fields.Integer):
    """A number in plain digits; Python's `int` accepts signs, spaces and underscores."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not (isinstance(value, str) and re.fullmatch("[1-9][0-9]{0,2}", value, re.ASCII)):
            raise ValidationError(LIMIT_ERROR)
        return int(value)


class Cursor(fields.String):
    """The last id of the page before, opaque so that its contents may change."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:  # type: ignore[override]  # a string outside, a number inside
        try:
            row_id = parse_id(base64url_decode(value).decode("ascii"))
        except (TypeError, ValueError):  # sent twice, or not one of `cursor`
            row_id = None
        if row_id is None:
            raise ValidationError("Send a cursor from a Link header.")
        return row_id


class PageSchema(Schema):
    """The query string of a list: up to `limit` rows with an id above `after`, if given."""

    limit = Limit(load_default=DEFAULT_LIMIT, validate=Range(1, MAX_LIMIT, error=LIMIT_ERROR))
    after = Cursor(metadata={"format": "cursor", "description": "From the `Link` header."})


def page_of(rows: list[Row], limit: int) -> tuple[list[Row], dict[str, str]]:
    """Return the rows of the page and the headers, from up to `limit + 1` rows.

    The row beyond the limit tells that there is a next page.
    """
    if len(rows) <= limit:
        return rows, {}
    shown = rows[:limit]
    path = url_for(str(request.endpoint), **(request.view_args or {}))
    query = urlencode({"limit": limit, "after": base64url_encode(str(shown[-1]["id"]).encode())})
    return shown, {"Link": f'<{path}?{query}>; rel="next"'}
