"""Everything that is held about a user, as one document.

Each table that names a user has its part here; a test compares them with the schema.
"""

from __future__ import annotations

import json
from operator import itemgetter
from typing import Any, Final

from jwt_server.database import Connection, Row
from jwt_server.errors import TokenOfNobody
from jwt_server.web.fields import iso

FLAGS: Final = frozenset({"admin", "disabled", "refreshable"})


def everything_about(db: Connection, user_id: int) -> dict[str, Any]:
    """The user's rows, table by table, without password hash and nonces.

    Raises TokenOfNobody where the user is gone.
    """
    with db.snapshot():  # one moment for all of them
        account: Row | None = db.queries.users.export_account(user_id=user_id)
        if account is None:
            raise TokenOfNobody
        return {
            "users": [_readable(account)],
            "sessions": _rows(_sessions(db, user_id)),
            "known_addresses": _rows(db.queries.users.export_known_addresses(user_id=user_id)),
            "audit": _rows(_audit(db, user_id)),
            "pets": _rows(db.queries.users.export_pets(user_id=user_id)),
        }


def _sessions(db: Connection, user_id: int) -> list[Row]:
    return sorted(
        db.queries.users.export_sessions(user_id=user_id), key=itemgetter("created_at", "id")
    )


def _audit(db: Connection, user_id: int) -> list[Row]:
    rows = sorted(db.queries.users.export_audit(user_id=user_id), key=itemgetter("id"))
    return [row | {"details": json.loads(row["details"] or "null")} for row in rows]


def _rows(rows: list[Row]) -> list[dict[str, Any]]:
    return [_readable(row) for row in rows]


def _readable(row: Row) -> dict[str, Any]:
    return {name: _value(name, value) for name, value in row.items()}


def _value(name: str, value: Any) -> Any:
    if (name == "at" or name.endswith("_at")) and value is not None:
        return iso(value)
    return bool(value) if name in FLAGS else value
