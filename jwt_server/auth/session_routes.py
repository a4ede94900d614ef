"""Routes for the current user's sessions: list, end, re-enter the password."""

from flask import Blueprint
from marshmallow import Schema, fields

from jwt_server import audit, errors
from jwt_server.audit import Action
from jwt_server.auth import guard, sessions
from jwt_server.auth.guard import CurrentUser, login_required
from jwt_server.database import Row
from jwt_server.web.operations import accepts, raises, returns
from jwt_server.web.schemas import Timestamp
from jwt_server.web.service import current_actor, current_service, get_db

bp = Blueprint("sessions", __name__)


class SessionSchema(Schema):
    """A session, as its user sees it."""

    id = fields.String(required=True, metadata={"examples": ["Fq3nUWlMzT8dPoVhGyWb2g"]})
    created_at = Timestamp(required=True)
    last_used_at = Timestamp(required=True)
    address = fields.String(required=True)
    user_agent = fields.String(required=True)
    current = fields.Boolean(required=True)


@bp.post("/auth/reauth")
@login_required
@raises(errors.WrongPassword, errors.HashingBusy, errors.TooManyAttempts)
@accepts(guard.PasswordSchema)
@returns(204)
def reauthenticate(caller: CurrentUser, body: dict[str, str]) -> None:
    """Enter the password again, for routes that require a recent one."""
    guard.require_password(caller, body["password"])
    db = get_db()
    with db.transaction():
        guard.require_still_signed_in(db, caller)
        actor = current_actor(caller.id)
        db.queries.auth.authenticate(id=caller.session_id, now=actor.now)
        audit.record(db, actor, Action.REAUTHENTICATED, caller.id, session=caller.session_id)


@bp.get("/auth/sessions")
@login_required
@returns(200, SessionSchema(many=True))
def list_sessions(caller: CurrentUser) -> list[Row]:
    """List the user's active sessions, at most 50, oldest first, with the hour of the last use."""
    rows = sessions.list_active(get_db(), caller.id, current_service().now())
    return [row | {"current": row["id"] == caller.session_id} for row in rows]


@bp.delete("/auth/sessions/<session:session_id>")
@login_required
@raises(errors.NotFound, errors.PasswordTooOld)
@returns(204)
def end_session(caller: CurrentUser, session_id: str) -> None:
    """End one of the current user's sessions; any but this one needs a recent password."""
    if session_id != caller.session_id:
        guard.require_recent_password(caller)
    actor, action = current_actor(caller.id), Action.SESSION_ENDED
    if not sessions.end(get_db(), caller.id, session_id, actor=actor, action=action):
        raise errors.NotFound
