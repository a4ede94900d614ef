"""Accounts over HTTP: sign-up at `/users`, and the caller's own at `/me`."""

from __future__ import annotations

from functools import wraps
from typing import Any

from flask import Response, current_app, jsonify
from marshmallow import Schema, fields, validate

from jwt_server import audit
from jwt_server.audit import Action
from jwt_server.auth import sessions
from jwt_server.auth.attempts import counted, fail
from jwt_server.auth.guard import (
    CurrentUser,
    View,
    login_required,
    recent_password_required,
    require_password,
    require_still_signed_in,
)
from jwt_server.auth.sign_in import TRIES
from jwt_server.auth.token_responses import (
    TokenSchema,
    lasting_terms,
    require_key,
    this_device,
    token_object,
)
from jwt_server.database import Connection, Row
from jwt_server.errors import (
    DatabaseUnavailable,
    HashingBusy,
    InvalidFields,
    LastAdmin,
    SignupClosed,
    TokenOfNobody,
    TooManyAttempts,
    UsernameTaken,
    WrongPassword,
)
from jwt_server.security import passwords, policy
from jwt_server.users import names, users
from jwt_server.users.export import everything_about
from jwt_server.web.fields import Flag, Text, Timestamp
from jwt_server.web.openapi import refuses
from jwt_server.web.parsing import BodySchema
from jwt_server.web.routing import Blueprint
from jwt_server.web.service import current_actor, current_service, get_db, release_connection

bp = Blueprint("me", __name__, description="Sign-up, and the caller's own account.")

LONGEST = validate.Length(1, passwords.MAX_CHARACTERS)

# What the descriptions of these two say is checked in accounts/usernames.py and security/policy.py.
NAME = {
    "format": "username",
    "minLength": 1,
    "maxLength": names.MAX_CHARACTERS,
    "description": "As NFKC; nothing that can't be seen, no space at either end.",
}
NEW_PASSWORD = {
    "format": "new-password",
    "minLength": 1,
    "maxLength": passwords.MAX_CHARACTERS,
    "description": "At least `PASSWORD_MIN_LENGTH` characters; none of the common passwords, and"
    " more than the username.",
}


class NameSchema(BodySchema):
    """What of an account a user may change."""

    username = Text(required=True, metadata=NAME)


class SignupSchema(NameSchema):
    """What it takes to make an account."""

    password = Text(required=True, metadata=NEW_PASSWORD)


class DeletionSchema(BodySchema):
    """The caller's own password."""

    password = Text(required=True, validate=LONGEST)


class PasswordChangeSchema(BodySchema):
    """The password as it is, and as it is to be."""

    current_password = Text(required=True, validate=LONGEST)
    new_password = Text(required=True, metadata=NEW_PASSWORD)


class AccountSchema(Schema):
    """An account, as its user sees it."""

    class Meta:
        fields = ("id", "username", "admin", "created_at")

    id = fields.Integer(required=True)
    username = fields.String(required=True)
    admin = Flag(required=True)
    created_at = Timestamp(required=True)


class ChangedPasswordSchema(TokenSchema):
    """Fresh tokens, and how many sessions have ended."""

    sessions_ended = fields.Integer(required=True)


def signup_open(view: View) -> View:
    """Call the view only where anybody may make an account."""

    @refuses(SignupClosed)
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if current_service().settings.signup != "open":
            raise SignupClosed
        return view(*args, **kwargs)

    return guarded


@bp.route("/users", methods=["POST"])
@signup_open
@refuses(UsernameTaken, TooManyAttempts, DatabaseUnavailable, HashingBusy)
@bp.arguments(SignupSchema)
@bp.response(201, AccountSchema, headers=["Location"])
def sign_up(body: dict[str, str]) -> tuple[Row, dict[str, str]]:
    """Make an account, where sign-up is open; 10 tries a day from one address."""
    service = current_service()
    username = names.checked(body["username"])
    check_new_password("password", body["password"], username)
    attempt = service.rate_limits.sign_up(this_device().address)
    actor = current_actor()
    with counted(service.database, service.hasher.queue, attempt, actor.now) as charge:
        fail(get_db(), charge, actor)  # it counts also where it succeeds
        if users.find_by_name(get_db(), username):  # before a hash is spent on it
            raise UsernameTaken
        release_connection()  # others need it while we hash
        hashed = service.hasher.hash(body["password"])
    db = get_db()
    with db.transaction():
        user_id = users.add(db, username, hashed, admin=False, actor=actor)
        return _account(db, user_id), {"Location": "/me"}


@bp.route("/me")
@login_required
@bp.response(200, AccountSchema)
def show_account(caller: CurrentUser) -> Row:
    """The caller's account."""
    return _account(get_db(), caller.id)


@bp.route("/me", methods=["PATCH"])
@login_required
@recent_password_required
@refuses(UsernameTaken)
@bp.arguments(NameSchema)
@bp.response(200, AccountSchema)
def rename_account(caller: CurrentUser, body: dict[str, str]) -> Row:
    """Take another name."""
    db = get_db()
    with db.transaction():
        require_still_signed_in(db, caller)
        users.rename(db, caller.id, body["username"], actor=current_actor(caller.id))
        return _account(db, caller.id)


@bp.route("/me", methods=["DELETE"])
@login_required
@refuses(WrongPassword, LastAdmin, HashingBusy, TooManyAttempts)
@bp.arguments(DeletionSchema)
@bp.response(204)
def delete_account(caller: CurrentUser, body: dict[str, str]) -> Response:
    """Delete the account for ever, with its pets and sessions; refused to the last admin."""
    require_password(caller, body["password"])
    db = get_db()
    with db.transaction():
        require_still_signed_in(db, caller)  # whoever changed the password has ended the session
        users.remove(db, caller.id, actor=current_actor(caller.id))  # with all that is the user's
    return current_app.response_class(status=204)


@bp.route("/me/export")
@login_required
@bp.response(200, {"type": "object", "additionalProperties": {"type": "array"}})
def export_account(caller: CurrentUser) -> Response:
    """Everything that is held about the caller, table by table."""
    return jsonify(everything_about(get_db(), caller.id))


@bp.route("/me/password", methods=["PUT"])
@login_required
@refuses(WrongPassword, HashingBusy, TooManyAttempts)
@bp.arguments(PasswordChangeSchema)
@bp.response(200, ChangedPasswordSchema)
def change_password(caller: CurrentUser, body: dict[str, str]) -> dict[str, Any]:
    """Take another password. Every session ends, and a fresh one replaces this."""
    require_key()
    service = current_service()
    actor = current_actor(caller.id)
    for _ in range(TRIES):  # a sign-in elsewhere may renew an old hash meanwhile
        user = require_password(caller, body["current_password"])
        check_new_password("new_password", body["new_password"], user["username"])
        new_hash = service.hasher.hash(body["new_password"])
        db = get_db()
        with db.transaction():
            require_still_signed_in(db, caller)
            if current := users.change_hash(db, user, new_hash):
                ended = sessions.end_all(db, caller.id, actor.now)
                audit.record(db, actor, Action.PASSWORD_CHANGED, caller.id, sessions_ended=ended)
                device = this_device()
                session = sessions.open_session(db, current, lasting_terms(), device, actor.now)
                return token_object(session) | {"sessions_ended": ended}
    raise WrongPassword


def _account(db: Connection, user_id: int) -> Row:
    account = users.find_by_id(db, user_id)
    if account is None:  # deleted since the guard looked
        raise TokenOfNobody
    return account


def check_new_password(field: str, password: str, username: str) -> None:
    """Raise InvalidFields where the password is not good enough for this user."""
    wrong = policy.find_problem(password, username, current_service().settings.password_min_length)
    if wrong is not None:
        raise InvalidFields({field: [wrong]})
