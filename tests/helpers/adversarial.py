"""Requests that are costly to parse, by a size, for each parser of what clients send."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flask import Flask
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, run_wsgi_app

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

ORIGIN = "https://app.example.com"
"""The one that CORS_ORIGINS lists."""

FACTORS = (1, 2, 4, 8)

# Eighths of the largest part that the server lets through, in bytes.
CAPPED = 128
"""Of a header that the service ignores if it is longer than 1 KiB."""
LINE = 512
"""Of the request line."""
FIELD = 2048
"""Of one header field: 16 KiB."""
FIELDS = 8192
"""Of a header that is sent in several fields, which the server joins: 64 KiB, as of all headers."""
BODY = 8192
"""Of a body of 64 KiB."""


@dataclass(frozen=True)
class Case:
    """A request that is costly for a parser; its text has up to 8 times `eighth` characters."""

    parser: str
    shape: str
    eighth: int
    make: Callable[[int], str]
    """Makes a text of about this many characters."""
    method: str = "GET"
    path: str = "/my-pets"
    """With `{}` for the text, if it is part of the path."""
    header: str = ""
    """The name of the header that is the text, if it is one."""
    content_type: str = ""
    """Of the body that is the text, if it is one."""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.parser}: {self.shape}, {self.eighth * FACTORS[-1]} bytes"

    def seconds(self, app: Flask, factor: int, signed_in: dict[str, str], runs: int = 3) -> float:
        """Return the median CPU time that the app takes for the request."""
        text = self.make(self.eighth * factor)
        assert self.eighth * factor >= len(text) > self.eighth * factor * 0.8
        builder = EnvironBuilder(
            self.path.replace("{}", text),
            method=self.method,
            headers=Headers(
                signed_in | self.headers | ({self.header: text} if self.header else {})
            ),
            data=text.encode() if self.content_type else None,
            content_type=self.content_type or None,
        )
        return statistics.median(_run(app, builder) for _ in range(runs))


def _run(app: Flask, builder: EnvironBuilder) -> float:
    environ = builder.get_environ()
    environ["wsgi.input"].seek(0)
    before = time.thread_time()
    _, status, _ = run_wsgi_app(app.wsgi_app, environ, buffered=True)
    taken = time.thread_time() - before
    assert status < "500"
    return taken


def repeated(unit: str, start: str = "", end: str = "") -> Callable[[int], str]:
    """Return a function that fills a size with a unit between a start and an end."""
    return lambda size: start + unit * ((size - len(start) - len(end)) // len(unit)) + end


Shapes = dict[str, Callable[[int], str]]

# Headers that the server takes once, and those that it joins, by name and shape.
SINGLE: dict[str, Shapes] = {
    "Content-Type": {
        "unclosed quote": repeated('\\"', 'a/b;c="'),
        "parameters": repeated(";charset=a", "a/b"),
        "continuations": repeated(";a*1=b", "a/b"),
        "stars": repeated("*1", "a/b;a", "=b"),
    },
    "Host": {
        "dots": repeated("a."),
        "one label": repeated("a"),
        "not ASCII": repeated("\xe9"),
        "colons": repeated(":1"),
    },
}
JOINED: dict[str, Shapes] = {
    "Accept": {
        "unclosed quote": repeated('\\"', 'a/b;c="'),
        "list": repeated("a/b,"),
        "parameters": repeated(";charset=a", "a/b"),
        "quoted strings": repeated(';a="\\""', "a/b"),
        "long quality": repeated("1", "a/b;q=0."),
    },
    "Accept-Encoding": {"list": repeated("a;q=1,")},
    "Access-Control-Request-Headers": {"list": repeated("a,")},
    "Authorization": {
        "long token": repeated("a", "Bearer "),
        "spaces": repeated(" ", "Bearer ", "a"),
        "dots": repeated("a.", "Bearer "),
        "long scheme": repeated("a"),
    },
    "Content-Encoding": {"list": repeated("gzip,")},
    "Cookie": {"cookies": repeated("a=b;"), "unclosed quote": repeated('\\"', 'a="')},
    "If-None-Match": {
        "unclosed quotes": repeated('"a,'),
        "spaces": repeated(" ", "a", "b"),
        "list": repeated('"a",'),
    },
    "Origin": {"long host": repeated("a", "https://"), "list": repeated("https://a, ")},
    "X-Forwarded-For": {
        "list": repeated("1,"),
        "digits": repeated("1"),
        "colons": repeated(":"),
    },
    "X-Request-ID": {"long": repeated("a")},
}

# How a header gets to its parser, other than by GET /my-pets.
REQUESTS: dict[str, dict[str, Any]] = {
    "Accept": {"path": "/nowhere"},
    "Access-Control-Request-Headers": {
        "method": "OPTIONS",
        "headers": {"Origin": ORIGIN, "Access-Control-Request-Method": "PUT"},
    },
    "Content-Encoding": {"path": "/pets", "method": "POST"},
    "Content-Type": {"path": "/pets", "method": "POST"},
    "If-None-Match": {"path": "/docs/docs.js"},
}

IGNORED_IF_LONG = ("Accept", "Content-Type", "Access-Control-Request-Headers", "If-None-Match")

HEADERS = [
    Case(name, shape, size, make, header=name, **REQUESTS.get(name, {}))
    for size, named in ((FIELD, SINGLE), (FIELDS, JOINED), (CAPPED, SINGLE | JOINED))
    for name, shapes in named.items()
    if size != CAPPED or name in IGNORED_IF_LONG
    for shape, make in shapes.items()
]


def _json(shape: str, make: Callable[[int], str], path: str = "/pets") -> Case:
    return Case("JSON", shape, BODY, make, "POST", path, content_type=JSON)


def _sign_in(parser: str, shape: str, make: Callable[[int], str]) -> Case:
    return Case(parser, shape, BODY, make, "POST", "/auth", content_type=JSON)


def _form(shape: str, make: Callable[[int], str], path: str = "/auth") -> Case:
    return Case("form", shape, BODY, make, "POST", path, content_type=FORM)


def _members(size: int) -> str:
    return json.dumps({format(n, "x"): 1 for n in range(size // 9)}, separators=(",", ":"))


MARKS = "\\u0301\\u0316"
"""Two characters in JSON that normalization sorts, in quadratic time."""

BODIES = [
    _json("brackets", repeated("[")),
    _json("objects", repeated('{"a":')),
    _json("long integer", repeated("1", '{"name":', "}")),
    _json("many integers", repeated("1" * 999 + ",", '{"name":[', "1]}")),
    _json("long fraction", repeated("1", '{"name":0.', "}")),
    _json("long exponent", repeated("1", '{"name":1e', "}")),
    _json("many fractions", repeated("1" * 500 + ".5e-300,", '{"name":[', "1]}")),
    _json("members", _members),
    _json("members to ignore", _members, "/auth"),
    _json("escapes", repeated("\\ud800", '{"name":"', '"}')),
    _json("quotes", repeated('\\"', '{"name":"', '"}')),
    _json("spaces", repeated(" ", "{", "}")),
    _json("lines", repeated("\n", "", "x")),
    _sign_in("username", "combining marks", repeated(MARKS, '{"username":"a', '","password":1}')),
    _sign_in("username", "characters that grow", repeated("\\ufdfa", '{"username":"', '"}')),
    _sign_in("password", "combining marks", repeated(MARKS, '{"username":"a","password":"a', '"}')),
    _form("separators", repeated("&")),
    _form("fields to ignore", repeated("a&")),
    _form("fields", repeated("a&"), "/pets"),
    _form("percent signs", repeated("%")),
    _form("escapes", repeated("%61", "username=")),
    _form("plus signs", repeated("+", "username=")),
    _form("long field", repeated("a", "password=a&username=")),
]

QUERIES = [
    Case("query", "separators", LINE, repeated("&"), path="/pets?{}"),
    Case("query", "fields", LINE, repeated("a&"), path="/pets?{}"),
    Case("query", "percent signs", LINE, repeated("%"), path="/pets?{}"),
    Case("query", "long limit", LINE, repeated("9"), path="/pets?limit={}"),
    Case("cursor", "long cursor", LINE, repeated("MQ"), path="/pets?after={}"),
    Case("path", "slashes", LINE, repeated("/a"), path="/pets{}"),
    Case("path", "empty parts", LINE, repeated("/"), path="/pets{}"),
    Case("path", "digits", LINE, repeated("9"), path="/pets/{}"),
    Case("path", "escapes", LINE, repeated("%2F"), path="/pets/{}"),
]

CASES = [*HEADERS, *BODIES, *QUERIES]
