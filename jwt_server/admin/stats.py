"""Statistics from the audit log, and totals."""

from typing import Any, Final

from jwt_server import audit
from jwt_server.audit import Action
from jwt_server.database import Connection
from jwt_server.security.rate_limits import DAY, HOUR

COUNTED: Final = (
    Action.SIGNED_IN,
    Action.SIGN_IN_FAILED,
    Action.LOCKED_OUT,
    Action.SIGNED_UP,
    Action.REFRESH_TOKEN_REUSED,
)

MAX_HOURLY_DAYS: Final = 7
"""The longest range that is counted by the hour."""


def collect(db: Connection, days: int, now: int) -> dict[str, Any]:
    """Return the numbers of the last days, for StatsSchema; hours and days are those of UTC."""
    seconds = HOUR if days <= MAX_HOURLY_DAYS else DAY
    until = (now // seconds + 1) * seconds
    since = until - days * DAY
    return {
        "since": since,
        "until": until,
        "bucket_seconds": seconds,
        "series": {each.value: audit.count(db, each, since, until, seconds) for each in COUNTED},
        "totals": db.queries.admin.totals(now=now),
    }
