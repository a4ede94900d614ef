"""Administration: users, their sessions and passwords, the audit log, statistics and keys."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Blueprint, url_for

from jwt_server import audit, errors
from jwt_server.admin import schemas, stats
from jwt_server.audit import Action, Actor
from jwt_server.auth import attempts, guard, sessions
from jwt_server.auth.guard import CurrentUser, login_required
from jwt_server.database import Connection, Row
from jwt_server.security import policy
from jwt_server.security.key_files import KeyFolder, signing_file, state_of
from jwt_server.users import names, users
from jwt_server.users.names import username_key
from jwt_server.web.operations import accepts, accepts_query, raises, returns
from jwt_server.web.paging import page_of
from jwt_server.web.schemas import SessionSchema
from jwt_server.web.service import current_actor, current_service, get_db, release_connection

bp = Blueprint("admin", __name__)

reads = login_required(admin=True)
changes = login_required(admin=True, recent_password=True)


@contextmanager
def changing(current_user: CurrentUser) -> Iterator[tuple[Connection, Actor]]:
    """Provide a transaction, and its actor. Raises AdminRequired if the user was just demoted."""
    db = get_db()
    with db.transaction():
        db.queries.users.lock_admins()  # another one may be demoting this one
        user = guard.require_still_signed_in(db, current_user)
        if user.admin:
            yield db, current_actor(user.id)
            return
    guard.require_admin(user)  # after the transaction, so that the refusal is recorded


@bp.get("/admin/users")
@reads
@accepts_query(schemas.UsersQuerySchema)
@returns(200, schemas.UserSchema(many=True), headers=["Link"])
def list_users(_caller: CurrentUser, query: dict[str, Any]) -> tuple[list[Row], dict[str, str]]:
    """List a page of users, in the order of their names."""
    limit, [after] = query.pop("limit"), query.pop("after", [""])
    rows = users.page_by_name(get_db(), limit=limit + 1, after=after, **query)
    shown, headers = page_of(rows, limit, schemas.USERS_QUERY)
    return _described(get_db(), shown), headers


@bp.post("/admin/users")
@changes
@raises(errors.UsernameTaken, errors.HashingBusy)
@accepts(schemas.NewUserSchema)
@returns(201, schemas.UserWithPasswordSchema, headers=["Location"])
def add_user(caller: CurrentUser, body: dict[str, Any]) -> tuple[Row, dict[str, str]]:
    """Create a user with a temporary password, which is generated unless one is sent."""
    username = names.validate(body["username"])
    if users.find_by_name(get_db(), username):  # before hashing
        raise errors.UsernameTaken
    password, shown = _temporary_password(body, username)
    hashed = _hash(password)
    with changing(caller) as (db, actor):
        user_id = users.add(
            db,
            username,
            hashed,
            actor=actor,
            admin=body["admin"],
            claims=body["claims"],
            password_expires_at=actor.now + users.TEMPORARY_PASSWORD_SECONDS,
        )
        location = {"Location": url_for("admin.show_user", user_id=user_id)}
        return _described_by_id(db, user_id) | shown, location


@bp.get("/admin/users/<id:user_id>")
@reads
@raises(errors.NotFound)
@returns(200, schemas.UserSchema)
def show_user(_caller: CurrentUser, user_id: int) -> Row:
    """Return a user."""
    return _described_by_id(get_db(), user_id)


@bp.patch("/admin/users/<id:user_id>")
@changes
@raises(errors.NotFound, errors.UsernameTaken, errors.LastAdmin)
@accepts(schemas.UserChangesSchema)
@returns(200, schemas.UserSchema)
def change_user(caller: CurrentUser, body: dict[str, Any], user_id: int) -> Row:
    """Change the fields that are sent: all or none. Disabling ends all sessions of the user."""
    with changing(caller) as (db, actor):
        users.change(db, user_id, body, actor=actor)
        return _described_by_id(db, user_id)


@bp.delete("/admin/users/<id:user_id>")
@changes
@raises(errors.NotFound, errors.LastAdmin)
@returns(204)
def delete_user(caller: CurrentUser, user_id: int) -> None:
    """Delete a user for ever, with pets and sessions."""
    with changing(caller) as (db, actor):
        users.remove(db, user_id, actor=actor)


@bp.put("/admin/users/<id:user_id>/password")
@changes
@raises(errors.NotFound, errors.HashingBusy)
@accepts(schemas.NewPasswordSchema)
@returns(200, schemas.UserWithPasswordSchema)
def reset_password(caller: CurrentUser, body: dict[str, Any], user_id: int) -> Row:
    """Set a temporary password, generated unless one is sent; all sessions of the user end.

    It is valid for 7 days, and lets the user only change it and sign out.
    """
    password, shown = _temporary_password(body, users.get_by_id(get_db(), user_id)["username"])
    hashed = _hash(password)
    with changing(caller) as (db, actor):
        expires_at = actor.now + users.TEMPORARY_PASSWORD_SECONDS
        users.set_password(db, user_id, hashed, actor=actor, expires_at=expires_at)
        return _described_by_id(db, user_id) | shown


@bp.delete("/admin/users/<id:user_id>/lockout")
@changes
@raises(errors.NotFound)
@returns(204)
def unlock_user(caller: CurrentUser, user_id: int) -> None:
    """Forget the failed attempts at a user's password."""
    with changing(caller) as (db, actor):
        limits = current_service().rate_limits
        attempts.unlock(db, limits, users.get_by_id(db, user_id), actor=actor)


@bp.get("/admin/users/<id:user_id>/sessions")
@reads
@raises(errors.NotFound)
@returns(200, SessionSchema(many=True))
def list_user_sessions(caller: CurrentUser, user_id: int) -> list[Row]:
    """List a user's active sessions, oldest first."""
    return guard.list_sessions(caller, users.get_by_id(get_db(), user_id)["id"])


@bp.delete("/admin/users/<id:user_id>/sessions")
@changes
@raises(errors.NotFound)
@returns(204)
def end_user_sessions(caller: CurrentUser, user_id: int) -> None:
    """End all sessions of a user."""
    with changing(caller) as (db, actor):
        sessions.sign_out_all(db, users.get_by_id(db, user_id)["id"], actor=actor)


@bp.delete("/admin/users/<id:user_id>/sessions/<session:session_id>")
@changes
@raises(errors.NotFound)
@returns(204)
def end_user_session(caller: CurrentUser, user_id: int, session_id: str) -> None:
    """End a session of a user."""
    with changing(caller) as (db, actor):
        if not sessions.end(db, user_id, session_id, actor=actor, action=Action.SESSION_ENDED):
            raise errors.NotFound


@bp.delete("/admin/sessions")
@changes
@returns(204)
def end_every_session(caller: CurrentUser) -> None:
    """Sign everyone out, the caller too."""
    with changing(caller) as (db, actor):
        pass  # the sessions end in transactions of their own
    sessions.sign_out_everyone(db, actor=actor)


@bp.get("/admin/audit")
@reads
@accepts_query(schemas.AuditQuerySchema)
@returns(200, schemas.AuditRowSchema(many=True), headers=["Link"])
def list_audit(_caller: CurrentUser, query: dict[str, Any]) -> tuple[list[Row], dict[str, str]]:
    """List a page of the audit log, newest first."""
    limit, before = query.pop("limit"), query.pop("after", None)
    rows = audit.page(get_db(), audit.Selection(**query), limit + 1, before)
    return page_of(rows, limit, schemas.AUDIT_QUERY)


@bp.get("/admin/stats")
@reads
@accepts_query(schemas.DaysSchema)
@returns(200, schemas.StatsSchema)
def show_stats(_caller: CurrentUser, query: dict[str, int]) -> dict[str, Any]:
    """Count sign-ins and other events, per hour for up to 7 days, else per day (UTC)."""
    return stats.collect(get_db(), query["days"], current_service().now())


@bp.get("/admin/keys")
@reads
@raises(errors.KeysUnavailable)
@returns(200, schemas.KeysSchema)
def list_keys(_caller: CurrentUser) -> dict[str, Any]:
    """List the keys of access tokens with their states."""
    service = current_service()
    key_set, now = service.tokens.keys, service.now()
    files = key_set.files() if isinstance(key_set, KeyFolder) else []
    keys = [
        {
            "kid": file.key.kid,
            "created_at": file.created_at,
            "signs_from": file.activation,
            "state": state_of(file, signing_file(files, now)),
        }
        for file in files
    ]
    return {"algorithm": key_set.algorithm, "now": now, "keys": keys}


def _temporary_password(body: dict[str, Any], username: str) -> tuple[str, dict[str, str]]:
    """Return the password that was sent, or a generated one and what to show of it."""
    min_length = current_service().settings.password_min_length
    if "password" in body:
        policy.validate(body["password"], username, min_length)
        return body["password"], {}
    password = policy.generate_password(min_length)
    return password, {"temporary_password": password}


def _hash(password: str) -> str:
    release_connection()  # hashing takes long
    return current_service().hasher.hash(password)


def _described_by_id(db: Connection, user_id: int) -> Row:
    return _described(db, [users.get_by_id(db, user_id)])[0]


def _described(db: Connection, rows: list[Row]) -> list[Row]:
    """Add the number of active sessions and the end of a lockout to users."""
    service = current_service()
    limits, now = service.rate_limits, service.now()
    roots = {row["id"]: limits.account_root(username_key(row["username"])) for row in rows}
    found = db.queries.admin.activity(roots=json.dumps(roots), now=now)
    activity = {each["id"]: each for each in found}
    return [row | activity[row["id"]] for row in rows]
