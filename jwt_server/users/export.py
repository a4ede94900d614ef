"""The export of everything stored about a user, as one document.

Each table that refers to users has its part; a test compares them with the schema.
"""

import json
from operator import itemgetter
from typing import Any, Final

from jwt_server.auth import sessions
from jwt_server.database import Connection, Row
from jwt_server.errors import TokenUserDeleted
from jwt_server.web.schemas import iso

FLAGS: Final = frozenset({"admin", "disabled", "refreshable"})


def export_user(db: Connection, user_id: int) -> dict[str, list[dict[str, Any]]]:
    """Return the user's rows by table, without password hash and nonces.

    Raises TokenUserDeleted if the user has been deleted.
    """
    queries = db.queries.users
    with db.snapshot():
        tables: dict[str, list[Row]] = {
            "users": queries.export_account(user_id=user_id),
            "sessions": queries.export_sessions(user_id=user_id),
            "known_addresses": queries.export_known_addresses(user_id=user_id),
            "audit": queries.export_audit(user_id=user_id),
            "pets": queries.export_pets(user_id=user_id),
        }
    if not tables["users"]:
        raise TokenUserDeleted
    tables["sessions"] = [sessions.hide_refreshes(row) for row in tables["sessions"]]
    tables["sessions"].sort(key=itemgetter("created_at", "id"))
    tables["audit"].sort(key=itemgetter("id"))
    return {
        table: [{name: _readable(name, value) for name, value in row.items()} for row in rows]
        for table, rows in tables.items()
    }


def _readable(name: str, value: Any) -> Any:
    if name == "details":
        return json.loads(value or "null")
    if (name == "at" or name.endswith("_at")) and value is not None:
        return iso(value)
    return bool(value) if name in FLAGS else value
