"""The export of everything stored about a user.

Each table that refers to users has its part; a test compares them with the schema.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from jwt_server.auth import sessions
from jwt_server.database import Database, Row
from jwt_server.web.schemas import iso

# The tables, and where each begins.
TABLES: Final[Mapping[str, Row]] = {
    "users": {"id": 0},
    "sessions": {"expires_at": 0, "number": 0},
    "known_addresses": {"network": None},
    "audit": {"at": 0, "id": 0},
    "pets": {"id": 0},
}

FLAGS: Final = frozenset({"admin", "disabled", "refreshable"})


def export_user(database: Database, user_id: int) -> dict[str, Iterator[list[dict[str, Any]]]]:
    """Return the user's rows by table, in pages, without password hash and nonces."""
    return {table: map(_readable, _pages(database, table, user_id)) for table in TABLES}


def _pages(database: Database, table: str, user_id: int) -> Iterator[list[Row]]:
    pages = database.pages(f"users.export_{table}", TABLES[table], user_id=user_id)
    return map(sessions.hide_refreshes, pages) if table == "sessions" else pages


def _readable(rows: list[Row]) -> list[dict[str, Any]]:
    return [
        {name: _value(name, value) for name, value in row.items() if name != "number"}
        for row in rows
    ]


def _value(name: str, value: Any) -> Any:
    if name in ("details", "claims"):
        return json.loads(value or "null")
    if (name == "at" or name.endswith("_at")) and value is not None:
        return iso(value)
    return bool(value) if name in FLAGS else value
