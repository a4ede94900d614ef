"""Who is asking? `@login_required` hands the answer to the route as its first argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, Final

from flask import request

from jwt_server.auth.sign_in import confirm_password
from jwt_server.database import Connection, Row
from jwt_server.errors import (
    DatabaseUnavailable,
    KeysUnavailable,
    NotSignedIn,
    PasswordTooOld,
    TokenExpired,
    TokenForged,
    TokenMalformed,
    TokenMissing,
    TokenOfDisabled,
    TokenOfNobody,
    TokenRevoked,
)
from jwt_server.security.tokens import TokenSubject
from jwt_server.users import users
from jwt_server.web.middleware import USER
from jwt_server.web.openapi import perhaps_signed_in, refuses, signed_in
from jwt_server.web.service import current_actor, current_service, get_db, release_connection

View = Callable[..., Any]

REFUSALS: Final = (
    TokenMissing,
    TokenMalformed,
    TokenForged,
    TokenExpired,
    TokenOfNobody,
    TokenOfDisabled,
    TokenRevoked,
)


@dataclass(frozen=True)
class CurrentUser:
    """The signed-in user, as of this request, and the session."""

    id: int
    username: str
    admin: bool
    session_id: str
    authenticated_at: int
    """When the password was last given in this session; Unix time."""


def login_required(view: View | None = None, *, refuse_with: int = 401) -> View:
    """Call the view with the Caller as first argument, or refuse.

    `refuse_with` is the status of a refusal, for `/my-pets`, whose clients expect 403.
    """
    if view is None:
        return partial(login_required, refuse_with=refuse_with)

    @signed_in
    @refuses(DatabaseUnavailable, KeysUnavailable)
    @refuses(*REFUSALS, status=refuse_with)
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            caller = authenticate(request.environ.get("HTTP_AUTHORIZATION"))
        except NotSignedIn as refusal:
            refusal.status = refuse_with
            raise
        return view(caller, *args, **kwargs)

    return guarded


def may_be_signed_in(view: View) -> View:
    """Call the view with the Caller, or None where no Bearer token came; or refuse."""

    @perhaps_signed_in
    @refuses(DatabaseUnavailable, KeysUnavailable)
    @refuses(*REFUSALS)
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            caller = authenticate(request.environ.get("HTTP_AUTHORIZATION"))
        except TokenMissing:
            return view(None, *args, **kwargs)
        return view(caller, *args, **kwargs)

    return guarded


def authenticate(authorization: str | None) -> CurrentUser:
    """The caller that an Authorization header stands for (RFC 6750 section 2.1).

    Raises a NotSignedIn that says what is wrong with it.
    """
    service = current_service()
    now = service.clock()
    caller = caller_of(get_db(), service.tokens.verify(bearer_token(authorization), now), now)
    request.environ[USER] = caller.id  # for the log
    return caller


def caller_of(db: Connection, bearer: TokenSubject, now: float) -> CurrentUser:
    """Whom a verified token stands for, as of now. Raises a NotSignedIn where that is nobody.

    To be asked again inside of a transaction that must not come after a sign-out.
    """
    row: Row | None = db.queries.auth.guarded(id=bearer.session_id)
    if row is None or row["user_id"] != bearer.user_id:
        raise TokenRevoked if users.find_by_id(db, bearer.user_id) else TokenOfNobody
    if row["disabled"]:
        raise TokenOfDisabled
    if row["ended_at"] is not None or row["expires_at"] <= now:
        raise TokenRevoked
    return CurrentUser(
        id=bearer.user_id,
        username=row["username"],
        admin=bool(row["admin"]),
        session_id=bearer.session_id,
        authenticated_at=row["authenticated_at"],
    )


def require_still_signed_in(db: Connection, caller: CurrentUser) -> None:
    """Refuse where the caller has been signed out since the request began."""
    caller_of(db, TokenSubject(caller.id, caller.session_id), current_service().clock())


def recent_password_required(view: View) -> View:
    """Call the view, whose first argument is the Caller, only after a recent password."""

    @refuses(PasswordTooOld)
    @wraps(view)
    def guarded(caller: CurrentUser, *args: Any, **kwargs: Any) -> Any:
        require_recent_password(caller)
        return view(caller, *args, **kwargs)

    return guarded


def require_recent_password(caller: CurrentUser) -> None:
    """Refuse with PasswordTooOld (RFC 9470) unless a password was given a short while ago."""
    if caller.authenticated_at + PasswordTooOld.max_age <= current_service().clock():
        raise PasswordTooOld


def require_password(caller: CurrentUser, password: str) -> Row:
    """The caller's row, where this is the caller's password.

    Raises WrongPassword, HashingBusy, and TooManyTries: all routes that ask for it count as one.
    """
    service = current_service()
    attempt = service.rate_limits.password_of(caller.id, caller.session_id)
    release_connection()  # others need it while we hash
    return confirm_password(
        service.database,
        service.hasher,
        attempt,
        caller.id,
        password,
        actor=current_actor(caller.id),
    )


def bearer_token(authorization: str | None) -> str:
    """The token in an Authorization header; the scheme's name is case-insensitive.

    Raises TokenMissing where there is none, or where the header is of another scheme.
    """
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise TokenMissing
    return token
