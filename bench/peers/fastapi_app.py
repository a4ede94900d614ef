"""FastAPI as its tutorial teaches it, once with `def` routes and once with `async def` ones.

The asynchronous routes read SQLite in the event loop, which is the fastest there, and hash in a
thread, as they must not block the loop.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import bcrypt
import jwt
from fastapi import Depends, FastAPI, Form, HTTPException
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from bench.peers.common import SECRET, TOKEN_SECONDS, pets_of, user_of_id, user_of_name

bearer = HTTPBearer()


def user_of_token(token: str) -> Any:
    """The row of the token's user; refuses."""
    try:
        claims = jwt.decode(
            token, SECRET, ["HS256"], audience="bench", options={"require": ["exp", "sub", "aud"]}
        )
    except jwt.InvalidTokenError:
        raise HTTPException(401, "Invalid token.") from None
    user = user_of_id(int(claims["sub"]))
    if user is None or user["disabled"]:
        raise HTTPException(401, "No such user.")
    return user


def token_for(user_id: int) -> str:
    """A fresh token."""
    now = int(time.time())
    claims = {"sub": str(user_id), "aud": "bench", "iat": now, "exp": now + TOKEN_SECONDS}
    return jwt.encode(claims, SECRET, "HS256")


def matches(password: str, user: Any) -> bool:
    """Whether the password is the user's."""
    return bcrypt.checkpw(password.encode(), user["password_hash"].encode())


def _caller(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> Any:
    return user_of_token(credentials.credentials)


async def _caller_async(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)],
) -> Any:
    return user_of_token(credentials.credentials)


sync = FastAPI()


@sync.post("/auth", response_class=PlainTextResponse)
def sign_in(username: Annotated[str, Form()], password: Annotated[str, Form()]) -> str:
    """A token for a name and a password."""
    user = user_of_name(username)
    if user is None or not matches(password, user):
        raise HTTPException(401, "Incorrect username or password.")
    return token_for(user["id"])


@sync.get("/my-pets")
def my_pets(user: Annotated[Any, Depends(_caller)]) -> list[dict[str, Any]]:
    """The caller's pets."""
    return pets_of(user["id"])


asynchronous = FastAPI()


@asynchronous.post("/auth", response_class=PlainTextResponse)
async def sign_in_async(username: Annotated[str, Form()], password: Annotated[str, Form()]) -> str:
    """A token for a name and a password."""
    user = user_of_name(username)
    if user is None or not await run_in_threadpool(matches, password, user):
        raise HTTPException(401, "Incorrect username or password.")
    return token_for(user["id"])


@asynchronous.get("/my-pets")
async def my_pets_async(user: Annotated[Any, Depends(_caller_async)]) -> list[dict[str, Any]]:
    """The caller's pets."""
    return pets_of(user["id"])
