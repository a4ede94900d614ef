"""What schemathesis can't know: how a cursor looks, what may be a name, and what a password; and
how to go on after what would bar it.
"""

from __future__ import annotations

import json
import os
from itertools import cycle
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st

from jwt_server.database import Database
from jwt_server.security.primitives import MAX_ID, base64url_encode

URL = os.environ["DATABASE_URL"]
DATABASE = Database(Path(path) if (path := URL.removeprefix("sqlite:///")) != URL else URL)

ids = st.integers(1, MAX_ID)
names = st.text(st.characters(categories=["Ll"]), max_size=8)
for columns, rows in {
    "id": st.tuples(ids), "username_key": st.tuples(names), "at-id": st.tuples(ids, ids)
}.items():  # fmt: skip
    cursors = rows.map(lambda row: base64url_encode(json.dumps(row).encode()))
    schemathesis.openapi.format(f"cursor-{columns}", cursors)

letters = st.characters(categories=["Ll", "Nd"], max_codepoint=0x2AF)
schemathesis.openapi.format("username", st.text(letters, min_size=1, max_size=16))
schemathesis.openapi.format(
    "new-password",
    st.binary(min_size=4, max_size=64).map(lambda random: f"Correct horse {random.hex()}"),
)


accepted = cycle(["application/json", "text/plain"])


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]
) -> None:
    """Ask for errors as JSON and as text, in turn."""
    case.headers["Accept"] = next(accepted)


# What would bar all requests to come, and what undoes it. A session that was ended may be their
# own, which leaves them nothing but 401. Nobody may sign up more than ten times a day from one
# address, or call the administration more than thirty times an hour without being an admin. And
# travis must stay the only admin; keep_users is for the accounts themselves.
SESSIONS = "UPDATE sessions SET ended_at = NULL, expires_at = ends_at"
LIMITS = "DELETE FROM throttle"
ROLES = """\
UPDATE users
SET admin = CASE id WHEN 1 THEN 1 ELSE 0 END, disabled = 0, password_expires_at = NULL
"""


def undo(path: str, status: int) -> list[str]:
    """Return the statements to run after a response."""
    if path.startswith("/admin"):
        return [SESSIONS, LIMITS, ROLES]
    if path == "/users" and status in {201, 409}:
        return [LIMITS]
    return [SESSIONS] if path.startswith(("/auth/logout", "/auth/sessions/")) else []


@schemathesis.hook
def after_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], response: schemathesis.Response
) -> None:
    """Let what a request did not bar those that follow."""
    if statements := undo(case.path, response.status_code):
        with DATABASE.connection() as db, db.transaction():
            for statement in statements:
                db.driver.execute(statement)
