"""Routes for accounts: sign-up at `/users`, the current user's account at `/me`."""

from functools import wraps
from typing import Any

from flask import Blueprint, Response, url_for
from marshmallow import Schema, fields

from jwt_server import audit, errors
from jwt_server.audit import Action
from jwt_server.auth import guard, sessions, token_responses
from jwt_server.auth.attempts import count_action, count_attempt, record_failure
from jwt_server.auth.guard import CurrentUser, login_required
from jwt_server.auth.sign_in import MAX_VERIFICATIONS
from jwt_server.database import Connection, Row
from jwt_server.security import passwords, policy
from jwt_server.security.rate_limits import rename_limit
from jwt_server.users import names, users
from jwt_server.users.export import export_user
from jwt_server.web.operations import accepts, raises, returns
from jwt_server.web.request import client_address
from jwt_server.web.responses import json_array, json_object, stream_json
from jwt_server.web.schemas import NEW_PASSWORD, NEW_USERNAME, AccountSchema, Password, Text
from jwt_server.web.service import current_actor, current_service, get_db, release_connection

bp = Blueprint("me", __name__)


class NameSchema(Schema):
    """The fields of an account that its user may change."""

    username = Text(required=True, metadata=NEW_USERNAME)


class SignupSchema(NameSchema):
    """The fields of a new account."""

    password = Text(required=True, metadata=NEW_PASSWORD)


class DeletionSchema(Schema):
    """The current password, unless it was given at `POST /auth/reauth`."""

    password = Password()


class PasswordChangeSchema(Schema):
    """The current and the new password."""

    current_password = Password(required=True)
    new_password = Text(required=True, metadata=NEW_PASSWORD)


class ChangedPasswordSchema(token_responses.TokenSchema):
    """New tokens, and the number of ended sessions."""

    sessions_ended = fields.Integer(required=True)


ROWS = {"type": "array", "items": {"type": "object"}}
EXPORT = {"type": "object", "additionalProperties": ROWS, "examples": [{"pets": [{"name": "Ru"}]}]}


def signup_open(view: guard.View) -> guard.View:
    """Refuse with SignupClosed, before the body is read, unless sign-up is open."""

    @raises(errors.SignupClosed)
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if current_service().settings.signup != "open":
            raise errors.SignupClosed
        return view(*args, **kwargs)

    return guarded


@bp.post("/users")
@signup_open
@raises(errors.UsernameTaken, errors.TooManyAttempts)
@raises(errors.DatabaseUnavailable, errors.HashingBusy)
@accepts(SignupSchema)
@returns(201, AccountSchema, headers=["Location"])
def sign_up(body: dict[str, str]) -> tuple[Row, dict[str, str]]:
    """Create an account, if sign-up is open; at most 10 attempts a day from one address."""
    service = current_service()
    username = names.validate(body["username"])
    policy.validate(body["password"], username, service.settings.password_min_length)
    attempt = service.rate_limits.sign_up(client_address())
    actor = current_actor()
    release_connection()  # it has one if it is handled again, and the pool may have no other
    with count_attempt(service.database, service.hasher.queue, attempt, actor.now) as counted:
        record_failure(get_db(), counted, actor, None)  # successful sign-ups count, too
        if users.find_by_name(get_db(), username):
            raise errors.UsernameTaken
        release_connection()  # before hashing
        hashed = service.hasher.hash(body["password"])
    db = get_db()
    with db.transaction():
        user_id = users.add(db, username, hashed, actor=actor)
        return _account(db, user_id), {"Location": url_for("me.show_account")}


@bp.get("/me")
@login_required
@returns(200, AccountSchema)
def show_account(caller: CurrentUser) -> Row:
    """Show the current user's account."""
    return _account(get_db(), caller.id)


@bp.patch("/me")
@login_required(recent_password=True)
@raises(errors.UsernameTaken, errors.TooManyAttempts)
@accepts(NameSchema)
@returns(200, AccountSchema)
def rename_account(caller: CurrentUser, body: dict[str, str]) -> Row:
    """Change the username, at most 10 times a day; names that are taken count, too."""
    username = names.validate(body["username"])
    db, actor = get_db(), current_actor(caller.id)
    count_action(db, rename_limit(caller.id), actor)
    with db.transaction():
        guard.require_still_signed_in(db, caller)
        users.rename(db, caller.id, username, actor=actor)
        return _account(db, caller.id)


@bp.delete("/me")
@login_required
@raises(errors.WrongPassword, errors.PasswordTooOld, errors.LastAdmin)
@raises(errors.HashingBusy, errors.TooManyAttempts)
@accepts(DeletionSchema)
@returns(204)
def delete_account(caller: CurrentUser, body: dict[str, str]) -> None:
    """Delete the account for ever, with its pets and sessions; the last admin can't.

    Within 15 minutes of `POST /auth/reauth` in this session no password is needed, because some
    proxies drop the body of a DELETE request. The sign-in itself does not count.
    """
    if "password" in body:
        guard.require_password(caller, body["password"])
    else:
        guard.require_recent_password(caller, since=caller.signed_in_at)
    db = get_db()
    with db.transaction():
        db.queries.users.lock_admins()  # before the user, as `remove` does
        guard.require_still_signed_in(db, caller)
        users.remove(db, caller.id, actor=current_actor(caller.id))


@bp.get("/me/export")
@login_required
@returns(200, EXPORT)
def export_account(caller: CurrentUser) -> Response:
    """Export everything stored about the current user, by table."""
    release_connection()  # each page takes one
    tables = export_user(current_service().database, caller.id)
    members = {name: json_array(pages) for name, pages in tables.items()}
    return stream_json(json_object(members), current_service().streams.hold(caller.id))


@bp.put("/me/password")
@login_required(temporary_password=True)
@raises(errors.WrongPassword, errors.HashingBusy, errors.TooManyAttempts)
@accepts(PasswordChangeSchema)
@returns(200, ChangedPasswordSchema)
def change_password(caller: CurrentUser, body: dict[str, str]) -> dict[str, Any]:
    """Change the password. Every session ends, and a new one replaces this one."""
    token_responses.require_signing_key()
    service = current_service()
    actor, min_length = current_actor(caller.id), service.settings.password_min_length
    for _ in range(MAX_VERIFICATIONS):  # another sign-in may replace an old hash meanwhile
        user = guard.require_password(caller, body["current_password"])
        policy.validate(body["new_password"], user["username"], min_length, "new_password")
        if caller.password_is_temporary and len({*map(passwords.normalize, body.values())}) == 1:
            raise errors.InvalidFields({"new_password": ["Choose another than the temporary one."]})
        new_hash = service.hasher.hash(body["new_password"])
        db = get_db()
        with db.transaction():
            guard.require_still_signed_in(db, caller)
            if current := users.replace_hash(db, user, new_hash):
                ended = sessions.end_all(db, caller.id, actor.now)
                audit.record(db, actor, Action.PASSWORD_CHANGED, caller.id, sessions_ended=ended)
                replaced = db.queries.auth.find_for_refresh(id=caller.session_id)
                client_id = replaced["client_id"]
                new = token_responses.new_session(refreshable=True, client_id=client_id)
                session = sessions.open_session(db, current, new)
                return token_responses.token_object(session) | {"sessions_ended": ended}
    raise errors.WrongPassword


def _account(db: Connection, user_id: int) -> Row:
    if account := users.find_by_id(db, user_id):
        return account
    raise errors.TokenUserDeleted  # since the guard ran
