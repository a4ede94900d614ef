"""Who is asking? `@login_required` hands the answer to the route as its first argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

from flask import request

from jwt_server.accounts import store
from jwt_server.errors import NotSignedIn, TokenMissing, TokenOfNobody
from jwt_server.web.service import current_service, get_db

View = Callable[..., Any]


@dataclass(frozen=True)
class Caller:
    """The signed-in user, as of this request."""

    id: int
    username: str
    admin: bool


def login_required(view: View | None = None, *, refuse_with: int = 401) -> View:
    """Call the view with the Caller as first argument, or refuse.

    `refuse_with` is the status of a refusal, for `/my-pets`, whose clients expect 403.
    """
    if view is None:
        return partial(login_required, refuse_with=refuse_with)

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            caller = authenticate(request.headers.get("Authorization"))
        except NotSignedIn as refusal:
            refusal.status = refuse_with
            raise
        return view(caller, *args, **kwargs)

    return guarded


def authenticate(authorization: str | None) -> Caller:
    """The caller that an Authorization header stands for (RFC 6750 section 2.1).

    Raises a NotSignedIn that says what is wrong with it.
    """
    service = current_service()
    user_id = service.tokens.verify(bearer_token(authorization), service.clock())
    user = store.find_by_id(get_db(), user_id)
    if user is None:
        raise TokenOfNobody
    return Caller(user["id"], user["username"], bool(user["admin"]))


def bearer_token(authorization: str | None) -> str:
    """The token in an Authorization header; the scheme's name is case-insensitive.

    Raises TokenMissing where there is none, or where the header is of another scheme.
    """
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise TokenMissing
    return token
