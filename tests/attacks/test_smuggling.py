"""Requests that two readers may cut at different places: through the real nginx of deploy/ to a
real gunicorn, and to gunicorn alone. Wherever the cut is in doubt, the second request is not run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.attacks.wire import (
    SECOND,
    SMUGGLED_ID,
    RawSite,
    Service,
    length,
    raw,
    request,
    statuses,
)
from tests.helpers.factories import CREDENTIALS, bearer, token
from tests.helpers.nginx import needs_nginx
from tests.helpers.site import NAME

pytestmark = pytest.mark.slow

ZERO = b"0\r\n\r\n"
CHUNKED_SECOND = f"{len(SECOND):x}\r\n".encode() + SECOND + b"\r\n" + ZERO
CHUNKED = b"Transfer-Encoding: chunked"

# Told in this spelling, and with a length that has the second request in the body: who reads
# chunks after all finds it behind them.
TRANSFER_ENCODINGS = (
    b"Transfer-Encoding: xchunked", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:\x0bchunked", b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: gzip, chunked",
    b'Transfer-Encoding: "chunked"', b"Transfer-Encoding: CHUNKED",
    b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding: chunked\0",
    b"Transfer-Encoding: ch\xc3\xbcnked", b"Transfer-Encoding:", b"Transfer-Encoding: chunked\x85",
    b"Transfer-Encoding: \xa0chunked", b"Transfer_Encoding: chunked",
    b" Transfer-Encoding: chunked", b"X: x\nTransfer-Encoding: chunked",
    b"X: x\rTransfer-Encoding: chunked", b"X: x\r\n Transfer-Encoding: chunked",
    b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding\r\n: chunked", b"TE: chunked",
    b"\0Transfer-Encoding: chunked", b"Transfer-Encoding\0: chunked", b"Content-Encoding: chunked",
)  # fmt: skip

# Beside a length that has the second request in the body, or alone: who reads none takes the body
# for the next request.
LENGTHS = (
    b"Content-Length: 0", b"Content-Length: 5", b"Content-Length : 0", b"Content-Length:\t0",
    b"Content-Length: +0", b"Content-Length: -1", b"Content-Length: 0x0", b"Content-Length: 0, 0",
    b"Content-Length: 0,", b"Content-Length: 0 0", b"Content-Length: 0_0", b"Content-Length: 0.0",
    b"Content-Length:", b"Content-Length: \xd9\xa0", b"Content-Length: 0\0",
    b"Content-Length: 0\x0b", b"Content-Length: 18446744073709551616",
    b"Content-Length: 4294967296", b"Content-Length: 1e0", b"Content-Length:\r\n 0",
    b"X: x\nContent-Length: 0", b"X: x\rContent-Length: 0", b"\0Content-Length: 0",
    b"Content-Length\0: 0", b" Content-Length: 0", b"Content-Length: x",
)  # fmt: skip

# The length of the first chunk, in which the second request is hidden, or behind which it stands.
CHUNK_SIZES = (
    b"-1", b"+5", b"0x5", b" 5", b"5 ", b"5\t", b"5\x0b", b"5;", b"5;\n", b"5;x\n", b"5\n", b"5\r",
    b"g", b"", b"5_0", b"fffffffffffffffff", b"10000000000000005", b"5;a=\n", b'5;a="\r\n"', b"5,",
    b"\xd9\xa5", b"5\0", b"5 6",
)  # fmt: skip

TRAILERS = (
    b"Content-Length: 100", b"Transfer-Encoding: chunked", b"Host: evil",
    b"Authorization: Bearer x", b"X-Forwarded-For: 6.6.6.6", b"X : y", b" X: y", b"X\0: y",
    b"no colon", b"X-Request-ID: " + SMUGGLED_ID.encode(),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    id: str
    sent: bytes


def bodies() -> Iterator[Case]:
    """Bodies of which two readers may see another length."""
    hidden = ZERO + SECOND
    yield Case("CL.TE", request(length(hidden), CHUNKED, body=hidden))
    yield Case("TE.CL", request(b"Content-Length: 4", CHUNKED, body=CHUNKED_SECOND))
    yield Case("CL.TE in HTTP/1.0", request(
        length(hidden), CHUNKED, body=hidden, line=b"POST /pets HTTP/1.0"))  # fmt: skip
    yield Case("chunks in HTTP/1.0", request(
        CHUNKED, body=ZERO + SECOND, line=b"POST /pets HTTP/1.0"))  # fmt: skip
    yield Case("a body of GET", request(length(SECOND), body=SECOND, line=b"GET /docs HTTP/1.1"))
    yield Case("chunks of GET", request(CHUNKED, body=CHUNKED_SECOND, line=b"GET /docs HTTP/1.1"))
    yield Case("a body that nobody reads", request(length(SECOND), body=SECOND))
    yield Case("a body of HEAD", request(length(SECOND), body=SECOND, line=b"HEAD /docs HTTP/1.1"))
    yield Case("the same length twice", request(length(SECOND), length(SECOND), body=SECOND))
    yield Case("Content_Length", request(length(SECOND), b"Content_Length: 0", body=SECOND))


def transfer_encodings() -> Iterator[Case]:
    """Codings that one reader knows and the other does not."""
    hidden = ZERO + SECOND
    for told in TRANSFER_ENCODINGS:
        yield Case(f"TE.TE {told!r}", request(length(hidden), told, body=hidden))


def lengths() -> Iterator[Case]:
    """Two lengths, of which one reader takes the first and the other the second."""
    for told in LENGTHS:
        yield Case(f"CL.CL {told!r}", request(length(SECOND), told, body=SECOND))
        yield Case(f"CL.CL first {told!r}", request(told, length(SECOND), body=SECOND))


def chunks() -> Iterator[Case]:
    """Chunks that end at different places for two readers."""
    for size in CHUNK_SIZES:
        body = size + b"\r\n" + b"hello" + b"\r\n" + ZERO + SECOND
        yield Case(f"a chunk of {size!r}", request(CHUNKED, body=body))
    yield Case("a chunk longer than said", request(CHUNKED, body=b"2\r\nhello\r\n" + ZERO + SECOND))
    yield Case("a chunk without its end", request(CHUNKED, body=b"5\r\nhello" + ZERO + SECOND))
    yield Case("chunks ended by bare LF", request(CHUNKED, body=b"5\nhello\n0\n\n" + SECOND))
    yield Case(
        "the last chunk ended by LF", request(CHUNKED, body=b"5\r\nhello\r\n0\r\n\n" + SECOND)
    )


def trailers() -> Iterator[Case]:
    """Trailers that a reader may take for headers."""
    for trailer in TRAILERS:
        body = b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n\r\n"
        yield Case(f"a trailer {trailer!r}", request(CHUNKED, body=body))


def targets() -> Iterator[Case]:
    """Request lines that are read in more than one way; the body hides the second request."""
    for line in (
        b"POST http://127.0.0.1/pets HTTP/1.1", b"POST http://evil/pets HTTP/1.1",
        b"POST https://" + NAME.encode() + b"/pets HTTP/1.1", b"POST //evil/pets HTTP/1.1",
        b"POST http:///pets HTTP/1.1", b"POST evil:80 HTTP/1.1", b"CONNECT evil:80 HTTP/1.1",
        b"POST * HTTP/1.1", b"POST pets HTTP/1.1", b"POST /pets HTTP/1.1 HTTP/1.1", b"POST /pets",
        b"POST /a b HTTP/1.1", b"POST  /pets HTTP/1.1", b"POST\t/pets HTTP/1.1",
        b"POST /pets\tHTTP/1.1", b"POST /pets HTTP/1.2", b"POST /pets HTTP/2.0",
        b"POST /pets HTTP/01.1", b"POST /pets http/1.1", b"POST /pets HTTP/1.1\0",
        b"post /pets HTTP/1.1", b"P\xc3\x96ST /pets HTTP/1.1",
        b"POST /pets%0d%0aX-Request-ID:%20" + SMUGGLED_ID.encode() + b" HTTP/1.1",
        b"POST /pets%20HTTP/1.1%0d%0aX-Request-ID:%20" + SMUGGLED_ID.encode() + b" HTTP/1.1",
        b"POST /pets#x HTTP/1.1", b"POST /pets\\..\\x HTTP/1.1", b"POST /\xff HTTP/1.1",
        b"POST /../../pets HTTP/1.1", b"POST /%2e%2e/pets HTTP/1.1", b"\r\nPOST /pets HTTP/1.1",
        b"\nPOST /pets HTTP/1.1", b" POST /pets HTTP/1.1", b"PRI * HTTP/2.0",
    ):  # fmt: skip
        yield Case(f"target {line!r}", request(length(SECOND), body=SECOND, line=line))


def hosts() -> Iterator[Case]:
    """Hosts that are none, or more than one."""
    start = b"POST /pets HTTP/1.1"
    for told in (
        b"Host: a\r\nHost: b", b"Host: a\r\nHost: a", b"Host: a, b", b"Host : a", b"Host:", b"X: y",
        b"Host: a b", b"Host: a/b", b"Host: a@b", b"Host: a\0", b"Host: a\r\n b",
        b" Host: a\r\nHost: b", b"Host: a\nHost: b", b"Host: [::1", b"Host: a:x", b"Host: \xff",
        b"Host: ../x",
    ):  # fmt: skip
        head = b"\r\n".join([start, told, b"Connection: close", length(SECOND), b"", b""])
        yield Case(f"host {told!r}", head + SECOND)
    doubled = request(b"Host: evil", length(SECOND), body=SECOND)
    yield Case("a second host", doubled)


def upgrades() -> Iterator[Case]:
    """Ways to have a proxy look away: another protocol, or a body that is announced first."""
    for told in (
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 777",
        b"Connection: Content-Length", b"Connection: Transfer-Encoding",
        b"Connection: Host, X-Request-ID", b"Expect: y 100-continue", b"Expect: 100-continue, x",
        b"Expect: x", b"Trailer: Content-Length", b"Keep-Alive: timeout=5",
        b"Proxy-Connection: keep-alive", b"Max-Forwards: 0", b"TE: trailers",
    ):  # fmt: skip
        yield Case(f"asking for {told!r}", request(told, length(SECOND), body=SECOND))
    lines = request(length(SECOND), body=b"", end=b"\n") + SECOND
    yield Case("lines ended by bare LF", lines)
    yield Case("lines ended by bare CR", request(length(SECOND), body=SECOND, end=b"\r"))
    yield Case("a name that is folded", request(b"X-A\r\n : b", length(SECOND), body=SECOND))
    yield Case("a value that is folded", request(b"X-A: b\r\n\tc: d", length(SECOND), body=SECOND))
    yield Case("a line without a colon", request(b"X-A", length(SECOND), body=SECOND))


KINDS = (bodies, transfer_encodings, lengths, chunks, trailers, targets, hosts, upgrades)
"""In each case the body of the first request, as it should be read, holds the second."""

Kind = Callable[[], Iterator[Case]]

# One test for all cases of a kind, as pytest takes longer for a test than a case does.
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@contextmanager
def named(case: Case) -> Iterator[None]:
    """Add the case to a failure."""
    try:
        yield
    except BaseException as error:
        error.add_note(case.id)
        raise


KEPT = b"Content-Type: application/x-www-form-urlencoded\r\n"
"""In the place of what would have the connection closed."""


@each_kind
@pytest.mark.parametrize("path", [b" /pets ", b" /auth "], ids=["unread", "read"])
def test_gunicorn_runs_no_second_request(service: Service, kind: Kind, path: bytes) -> None:
    """On a connection that is kept, behind a body that the service has read or not."""
    for case in kind():
        before = service.size()
        kept = case.sent.replace(b"Connection: close\r\n", KEPT, 1).replace(b" /pets ", path, 1)

        received = raw(service.socket, kept)

        with named(case):
            service.ran_no_second(before, statuses(received))


def test_gunicorn_does_run_what_is_plainly_a_second_request(service: Service) -> None:
    """The control: what the cases look for is seen where it is to be seen."""
    before = service.size()

    received = raw(service.socket, b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n" + SECOND)

    assert statuses(received) == [200, 200]
    assert [SMUGGLED_ID in line for line in service.answered_since(before)] == [False, True]


@pytest.mark.parametrize(
    "name", ["Authorization", "Content-Type", "X-Forwarded-For", "X-Request-Id", "Accept"]
)
def test_a_name_with_underscores_is_no_header(service: Service, name: str) -> None:
    """WSGI writes both alike, so one would overwrite the other."""
    spoofed = name.replace("-", "_") if "-" in name else f"{name}_"
    value = bearer(token()).get(name, SMUGGLED_ID)
    header, line = f"{spoofed}: {value}".encode(), b"GET /pets HTTP/1.1"
    bearing = b"Authorization: " + bearer(token())["Authorization"].encode()

    plain = raw(service.socket, request(header, line=line))
    signed_in = raw(service.socket, request(header, bearing, line=line))

    assert statuses(plain) == [401]
    assert plain.endswith(b"\r\n\r\nNo token.")
    assert statuses(signed_in) == [200]
    assert SMUGGLED_ID.encode() not in plain + signed_in


@needs_nginx
@each_kind
def test_nginx_hands_on_no_second_request(raw_site: RawSite, kind: Kind) -> None:
    for case in kind():
        before = raw_site.service.size()

        received = raw_site.raw(case.sent)

        with named(case):
            raw_site.service.ran_no_second(before, statuses(received))
            raw_site.next_client_gets_its_own()


@needs_nginx
def test_nginx_does_hand_on_what_is_plainly_a_second_request(raw_site: RawSite) -> None:
    """The control of the test above."""
    before = raw_site.service.size()
    first = f"GET /docs HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode()
    last = SECOND.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    received = raw_site.raw(first + last)

    assert statuses(received) == [200, 200]
    assert sum(SMUGGLED_ID in line for line in raw_site.service.answered_since(before)) == 1


@needs_nginx
@pytest.mark.parametrize(
    "name", [b"X_Forwarded_For", b"X-Forwarded_For", b"Forwarded", b"X-Real-IP"]
)
def test_nginx_hands_on_no_other_word_for_the_clients_address(
    raw_site: RawSite, name: bytes
) -> None:
    body = json.dumps(CREDENTIALS).encode()
    told = request(
        name + b": 203.0.113.9", b"Content-Type: application/json", b"Accept: application/json",
        length(body), line=b"POST /auth HTTP/1.1", body=body,
    )  # fmt: skip

    signed_in = json.loads(raw_site.raw(told).split(b"\r\n\r\n")[1])
    bearing = b"Authorization: Bearer " + signed_in["access_token"].encode()
    listed = raw_site.raw(request(bearing, line=b"GET /auth/sessions HTTP/1.1"))

    [current] = [row for row in json.loads(listed.split(b"\r\n\r\n")[1]) if row["current"]]
    assert current["address"] == "127.0.0.1"
    assert b"203.0.113.9" not in listed
