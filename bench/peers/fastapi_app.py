"""FastAPI as its tutorial teaches it, with `def` routes and with `async def` ones.

`asynchronous` awaits SQLite (aiosqlite) and hashes in a thread, so that nothing blocks the loop.
`blocking` asks SQLite in the loop all the same: the fastest to read, until a write waits.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import aiosqlite
import bcrypt
import jwt
from fastapi import Depends, FastAPI, Form, HTTPException
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from bench.peers import common

Credentials = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]
FormText = Annotated[str, Form()]

sync, asynchronous, blocking = FastAPI(), FastAPI(), FastAPI()
_connections: list[aiosqlite.Connection] = []


def _user_id(token: str) -> int:
    try:
        claims = jwt.decode(
            token,
            common.SECRET,
            ["HS256"],
            audience=common.AUDIENCE,
            options={"require": ["exp", "sub", "aud"]},
        )
    except jwt.InvalidTokenError:
        raise HTTPException(401, "Invalid token.") from None
    return int(claims["sub"])


def _allowed(user: Any) -> Any:
    if user is None or user["disabled"]:
        raise HTTPException(401, "No such user.")
    return user


def _token(user: Any) -> str:
    now = int(time.time())
    claims = {"sub": str(user["id"]), "aud": common.AUDIENCE, "iat": now}
    return jwt.encode(claims | {"exp": now + common.TOKEN_SECONDS}, common.SECRET, "HS256")


def _check(password: str, user: Any) -> None:
    if user is None or not bcrypt.checkpw(password.encode(), user["password_hash"].encode()):
        raise HTTPException(401, "Incorrect username or password.")


def caller(credentials: Credentials) -> Any:
    """The row of the token's user."""
    return _allowed(common.user_of_id(_user_id(credentials.credentials)))


@sync.post("/auth", response_class=PlainTextResponse)
def sign_in(username: FormText, password: FormText) -> str:
    """A token for a name and a password."""
    user = common.user_of_name(username)
    _check(password, user)
    return _token(user)


@sync.get("/my-pets")
def my_pets(user: Annotated[Any, Depends(caller)]) -> list[dict[str, Any]]:
    """The caller's pets."""
    return common.pets_of(user["id"])


async def rows(sql: str, parameter: str | int) -> list[Any]:
    """What a query gives, awaited; one connection for a process, as aiosqlite's own thread has."""
    if not _connections:
        made = await aiosqlite.connect(common.DATABASE, isolation_level=None)
        made.row_factory = aiosqlite.Row
        _connections.append(made)
    async with _connections[0].execute(sql, (parameter,)) as cursor:
        return list(await cursor.fetchall())


async def caller_awaited(credentials: Credentials) -> Any:
    """The row of the token's user."""
    found = await rows(common.USER_OF_ID, _user_id(credentials.credentials))
    return _allowed(found[0] if found else None)


@asynchronous.post("/auth", response_class=PlainTextResponse)
async def sign_in_awaited(username: FormText, password: FormText) -> str:
    """A token for a name and a password."""
    found = await rows(common.USER_OF_NAME, username.casefold())
    user = found[0] if found else None
    await run_in_threadpool(_check, password, user)
    return _token(user)


@asynchronous.get("/my-pets")
async def my_pets_awaited(user: Annotated[Any, Depends(caller_awaited)]) -> list[dict[str, Any]]:
    """The caller's pets."""
    return [dict(row) for row in await rows(common.PETS, user["id"])]


async def caller_blocking(credentials: Credentials) -> Any:
    """The row of the token's user."""
    return _allowed(common.user_of_id(_user_id(credentials.credentials)))


@blocking.post("/auth", response_class=PlainTextResponse)
async def sign_in_blocking(username: FormText, password: FormText) -> str:
    """A token for a name and a password."""
    user = common.user_of_name(username)
    await run_in_threadpool(_check, password, user)
    return _token(user)


@blocking.get("/my-pets")
async def my_pets_blocking(user: Annotated[Any, Depends(caller_blocking)]) -> list[dict[str, Any]]:
    """The caller's pets."""
    return common.pets_of(user["id"])
