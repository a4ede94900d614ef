"""Pages of lists: `?limit=` and `?after=`, the next page in the Link header (RFC 8288)."""

import json
from typing import Any, Final, cast
from urllib.parse import urlencode

from flask import request, url_for
from marshmallow import Schema, ValidationError, fields
from marshmallow.validate import Range

from jwt_server.database import Row
from jwt_server.security.primitives import (
    MAX_ID,
    UNSTORABLE,
    base64url_decode,
    base64url_encode,
    load_json,
    parse_id,
)

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 100

CURSOR_SOURCE: Final = "From the `Link` header."
CURSOR_ERROR: Final = "Send a cursor from a Link header."


class Number(fields.Integer):
    """A number from 1 to `maximum` in a query; Python's `int` accepts signs and underscores."""

    def __init__(self, maximum: int, **options: Any) -> None:
        self.error = f"Send one number from 1 to {maximum}."
        super().__init__(validate=Range(1, maximum, error=self.error), **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        number = parse_id(value) if isinstance(value, str) else None
        if number is None:
            raise ValidationError(self.error)
        return number


class Cursor(fields.String):
    """The last row's values of the columns that sort a list, opaque so that they may change."""

    def __init__(self, **columns: type[int] | type[str]) -> None:
        self.columns = columns
        described: dict[str, Any] = {"format": "-".join(["cursor", *columns])}
        described["description"] = CURSOR_SOURCE
        described["examples"] = [self.encode({name: kind(50) for name, kind in columns.items()})]
        super().__init__(metadata=described)

    def encode(self, row: Row) -> str:
        """Return the cursor of the rows after this one."""
        values = [row[column] for column in self.columns]
        return base64url_encode(json.dumps(values, separators=(",", ":")).encode())

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        try:
            values = load_json(base64url_decode(value))
        except (TypeError, ValueError):  # sent twice, or not one of `encode`
            values = None
        kinds = list(self.columns.values())
        if not isinstance(values, list) or list(map(type, values)) != kinds:
            raise ValidationError(CURSOR_ERROR)
        if not all(map(_fits_database, values)):
            raise ValidationError(CURSOR_ERROR)
        return tuple(values)


def _fits_database(value: int | str) -> bool:
    if isinstance(value, int):
        return 0 <= value <= MAX_ID
    return not UNSTORABLE.search(value)


class PageSchema(Schema):
    """The query string of a list: up to `limit` rows after the cursor `after`, if given."""

    limit = Number(MAX_LIMIT, load_default=DEFAULT_LIMIT)
    after = Cursor(id=int)


PAGE_QUERY: Final = PageSchema()


def page_of(
    rows: list[Row], limit: int, query: Schema = PAGE_QUERY
) -> tuple[list[Row], dict[str, str]]:
    """Return the rows of the page and the headers, from up to `limit + 1` rows.

    The row beyond the limit tells that there is a next page. Its link repeats the fields of `query`
    that were sent.
    """
    if len(rows) <= limit:
        return rows, {}
    shown = rows[:limit]
    path = url_for(str(request.endpoint), **(request.view_args or {}))
    sent = {name: value for name, value in request.args.items() if name in query.fields}
    after = cast("Cursor", query.fields["after"]).encode(shown[-1])
    link = urlencode(sent | {"limit": limit, "after": after})
    return shown, {"Link": f'<{path}?{link}>; rel="next"'}
