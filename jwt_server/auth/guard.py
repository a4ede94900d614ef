"""The guard of the routes for signed-in users: `@login_required`, which uses `authenticate`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from flask import request
from marshmallow import Schema

from jwt_server import audit, errors
from jwt_server.audit import Action
from jwt_server.auth import attempts, sessions
from jwt_server.auth.sign_in import hash_to_verify
from jwt_server.database import Connection, Row
from jwt_server.security.rate_limits import admin_refusal_limit
from jwt_server.security.tokens import TokenSubject
from jwt_server.users import users
from jwt_server.web.middleware import USER, openapi_path
from jwt_server.web.operations import operation_of, raises
from jwt_server.web.schemas import Password
from jwt_server.web.service import current_actor, current_service, get_db, release_connection

View = Callable[..., Any]


class PasswordSchema(Schema):
    """The current user's password, for `require_password`."""

    password = Password(required=True)


@dataclass(frozen=True)
class CurrentUser:
    """The signed-in user and the session, as of this request."""

    id: int
    username: str
    admin: bool
    session_id: str
    signed_in_at: int
    """When the session was opened; Unix time."""
    authenticated_at: int
    """When the password was last checked in this session; Unix time."""
    password_is_temporary: bool
    """Whether the user may only change the password and sign out."""


def login_required(
    view: View | None = None, *, optional: bool = False, admin: bool = False,
    recent_password: bool = False, temporary_password: bool = False, refuse_with: int = 401,
) -> View:  # fmt: skip
    """Call the view with the CurrentUser as its first argument, or refuse the request.

    `optional` passes None for a request without a Bearer token. `admin` requires an admin, and
    `recent_password` that the password was checked in the last 15 minutes. `temporary_password`
    also lets users in who have to change theirs. `refuse_with` is the status of a refusal: the
    original's clients of `/my-pets` expect 403.
    """
    checks: list[Callable[[CurrentUser], None]] = []
    if not temporary_password:
        checks.append(require_admin if admin else require_own_password)
    if recent_password:
        checks.append(require_recent_password)

    def decorate(view: View) -> View:
        @raises(*(error for check in checks for _, error in operation_of(check).raised))
        @raises(errors.DatabaseUnavailable, errors.KeysUnavailable)
        @raises(errors.TokenMissing, *errors.InvalidToken.__subclasses__(), status=refuse_with)
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                user = authenticate(request.environ.get("HTTP_AUTHORIZATION"))
            except errors.NotSignedIn as refusal:
                if optional and isinstance(refusal, errors.TokenMissing):
                    return view(None, *args, **kwargs)
                refusal.status = refuse_with
                raise
            for check in checks:
                check(user)
            return view(user, *args, **kwargs)

        operation = operation_of(guarded)
        operation.security = [{"bearer": []}, {"password": []}, *([{}] if optional else [])]
        return guarded

    return decorate if view is None else decorate(view)


def authenticate(authorization: str | None) -> CurrentUser:
    """Return the user and session of an Authorization header (RFC 6750 section 2.1).

    Raises a NotSignedIn that says what is wrong with it.
    """
    service = current_service()
    now = service.clock()
    user = find_current_user(get_db(), service.tokens.verify(bearer_token(authorization), now), now)
    request.environ[USER] = user.id  # for the access log
    return user


def bearer_token(authorization: str | None) -> str:
    """Return the token in an Authorization header; the scheme's name is case-insensitive.

    Raises TokenMissing for an absent header and for another scheme.
    """
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise errors.TokenMissing
    return token


def find_current_user(db: Connection, subject: TokenSubject, now: float) -> CurrentUser:
    """Return the user and session of a verified token, if the session is active.

    Raises TokenUserDeleted, TokenUserDisabled or TokenRevoked.
    """
    row: Row | None = db.queries.auth.session_with_user(id=subject.session_id)
    if row is None or row["user_id"] != subject.user_id:
        is_deleted = users.find_by_id(db, subject.user_id) is None
        raise errors.TokenUserDeleted if is_deleted else errors.TokenRevoked
    if row["disabled"]:
        raise errors.TokenUserDisabled
    if row["ended_at"] is not None or row["expires_at"] <= now:
        raise errors.TokenRevoked
    return CurrentUser(
        id=subject.user_id,
        username=row["username"],
        admin=bool(row["admin"]),
        session_id=subject.session_id,
        signed_in_at=row["created_at"],
        authenticated_at=row["authenticated_at"],
        password_is_temporary=row["password_expires_at"] is not None,
    )


def require_still_signed_in(db: Connection, user: CurrentUser) -> CurrentUser:
    """Return the user as `find_current_user`, unchanged until the end of the transaction."""
    db.queries.users.lock_by_id(id=user.id)
    subject = TokenSubject(user.id, user.session_id)
    return find_current_user(db, subject, current_service().clock())


@raises(errors.PasswordChangeRequired)
def require_own_password(user: CurrentUser) -> None:
    """Raise PasswordChangeRequired if the password is temporary."""
    if user.password_is_temporary:
        raise errors.PasswordChangeRequired


@raises(errors.PasswordChangeRequired, errors.AdminRequired, errors.TooManyAttempts)
def require_admin(user: CurrentUser) -> None:
    """Refuse, and record it, unless the user is an admin whose password is not temporary.

    Raises PasswordChangeRequired or AdminRequired; beyond 30 refusals an hour TooManyAttempts,
    which is not recorded.
    """
    if user.admin and not user.password_is_temporary:
        return
    db, actor = get_db(), current_actor(user.id)
    attempts.count_action(db, admin_refusal_limit(user.id), actor)
    path = openapi_path(str(request.url_rule))
    with db.transaction():
        require_still_signed_in(db, user)  # no new row names a deleted user
        audit.record(db, actor, Action.ADMIN_REFUSED, user.id, method=request.method, path=path)
    require_own_password(user)
    raise errors.AdminRequired


@raises(errors.PasswordTooOld)
def require_recent_password(user: CurrentUser, since: int = 0) -> None:
    """Raise PasswordTooOld (RFC 9470) unless the password was checked recently, and after `since`.

    `since` is Unix time.
    """
    oldest = current_service().clock() - errors.PasswordTooOld.max_age
    if user.authenticated_at <= max(oldest, since):
        raise errors.PasswordTooOld


def require_password(user: CurrentUser, password: str) -> Row:
    """Check the current user's password; return the row as it was checked.

    Releases the request's connection first, as hashing takes long. Raises WrongPassword,
    HashingBusy and TooManyAttempts.
    """
    service, actor = current_service(), current_actor(user.id)
    database, queue = service.database, service.hasher.queue
    release_connection()
    attempt = service.rate_limits.reauthentication(user.id, user.session_id)
    with attempts.count_attempt(database, queue, attempt, actor.now) as counted:
        with database.connection() as db:  # released before hashing
            row = users.find_by_id(db, user.id)
        is_right = service.hasher.verify(password, hash_to_verify(row, actor.now))
        with database.connection() as db, db.transaction():
            if row is not None and is_right:
                attempts.record_success(db, counted)
                return row
            # Else the user was just deleted, and no new row names them.
            if db.queries.users.lock_by_id(id=user.id):
                audit.record(db, actor, Action.PASSWORD_REFUSED, user.id)
                attempts.record_failure(db, counted, actor, user.id)
    raise errors.WrongPassword


def list_sessions(user: CurrentUser, owner_id: int) -> list[Row]:
    """Return the owner's active sessions, for SessionSchema; `current` is that of this request."""
    rows = sessions.list_active(get_db(), owner_id, current_service().now())
    return [row | {"current": row["id"] == user.session_id} for row in rows]
