"""Requests of HTTP/2, which nginx writes anew as HTTP/1.1: what is a line there must not become two
here. Frames and headers are written by hand (RFC 9113, RFC 7541), as no client would send these.
"""

from __future__ import annotations

import re
import ssl
from contextlib import closing

import pytest

from tests.attacks.wire import SECOND, SMUGGLED_ID, RawSite
from tests.helpers.nginx import needs_nginx
from tests.helpers.site import NAME

pytestmark = [needs_nginx, pytest.mark.slow]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS = 1, 4
STATUS_200 = 0x88  # as the static table has it; others of it are not needed here

Header = tuple[bytes, bytes]

METHOD: Header = (b":method", b"POST")
SCHEME: Header = (b":scheme", b"https")
PATH: Header = (b":path", b"/pets")
AUTHORITY: Header = (b":authority", NAME.encode())
USUAL = (METHOD, SCHEME, PATH, AUTHORITY)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def text(value: bytes) -> bytes:
    """A string of HPACK, without Huffman's code."""
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest = len(value) - 127
    assert rest < 128 * 128
    low, high = rest % 128, rest // 128
    return bytes([127, low | 128, high] if high else [127, low]) + value


def asked(headers: list[Header], body: bytes) -> bytes:
    block = b"".join(b"\0" + text(name) + text(value) for name, value in headers)
    return (
        PREFACE
        + frame(SETTINGS, 0, 0, b"")
        + frame(HEADERS, END_HEADERS, 1, block)
        + frame(DATA, END_STREAM, 1, body)
    )


def exactly(connection: ssl.SSLSocket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        chunk = connection.recv(count - len(received))
        if not chunk:
            raise ConnectionError
        received += chunk
    return received


def answer(site: RawSite, headers: list[Header], body: bytes) -> list[int]:
    """The statuses of the answers on the one stream; none where it, or all, was ended."""
    found: list[int] = []
    with closing(site.connect("h2")) as connection:
        assert connection.selected_alpn_protocol() == "h2"
        try:
            connection.sendall(asked(headers, body))
            while True:
                head = exactly(connection, 9)
                payload = exactly(connection, int.from_bytes(head[:3], "big"))
                kind, flags = head[3], head[4]
                if kind == HEADERS:
                    found.append(status_of(payload))
                if kind in {RST_STREAM, GOAWAY} or (kind in {DATA, HEADERS} and flags & END_STREAM):
                    return found
        except (TimeoutError, ConnectionError, ssl.SSLError):
            return found


# The codes that HPACK has in its static table, from 0x88 on.
STATIC = (200, 204, 206, 304, 400, 404, 500)


def status_of(block: bytes) -> int:
    """The status is the first header of an answer."""
    first = block.lstrip(b"\x20")  # a change of the table's size
    if first[0] & 0x80:
        return STATIC[first[0] - STATUS_200]
    literal = re.match(rb"[\x08\x48]\x03(\d{3})", first)
    assert literal, block
    return int(literal[1])


INJECTED = b"x\r\nX-Request-ID: " + SMUGGLED_ID.encode()
CUT = b" HTTP/1.1\r\nHost: x\r\n\r\n" + SECOND

CASES: dict[str, tuple[list[Header], bytes]] = {
    "H2.CL, too short": ([*USUAL, (b"content-length", b"0")], SECOND),
    "H2.CL, one short": ([*USUAL, (b"content-length", b"%d" % (len(SECOND) - 1))], SECOND),
    "H2.CL, too long": ([*USUAL, (b"content-length", b"%d" % (len(SECOND) + 9))], SECOND),
    "H2.CL, twice": ([*USUAL, (b"content-length", b"%d" % len(SECOND)), (b"content-length", b"0")],
                     SECOND),
    "H2.CL, no number": ([*USUAL, (b"content-length", b"+0")], SECOND),
    "H2.TE": ([*USUAL, (b"transfer-encoding", b"chunked")], b"0\r\n\r\n" + SECOND),
    "H2.TE with a length": ([*USUAL, (b"transfer-encoding", b"chunked"),
                             (b"content-length", b"%d" % (5 + len(SECOND)))],
                             b"0\r\n\r\n" + SECOND),
    "H2.TE unknown": ([*USUAL, (b"transfer-encoding", b"x")], SECOND),
    "a line end in a value": ([*USUAL, (b"x-a", INJECTED)], b""),
    "a bare LF in a value": ([*USUAL, (b"x-a", INJECTED.replace(b"\r", b""))], b""),
    "NUL in a value": ([*USUAL, (b"x-a", b"x\0")], b""),
    "a line end in a name": ([*USUAL, (b"x-a: b\r\nx-request-id", SMUGGLED_ID.encode())], b""),
    "a colon in a name": ([*USUAL, (b"x-request-id: " + SMUGGLED_ID.encode() + b"\r\nx", b"y")],
                          b""),
    "a blank in a name": ([*USUAL, (b"transfer-encoding ", b"chunked")], b"0\r\n\r\n" + SECOND),
    "upper case in a name": ([*USUAL, (b"Transfer-Encoding", b"chunked")], b"0\r\n\r\n" + SECOND),
    "underscores in a name": ([*USUAL, (b"x_request_id", SMUGGLED_ID.encode())], b""),
    "a request in the path": ([METHOD, SCHEME, (b":path", b"/pets" + CUT), AUTHORITY], b""),
    "a line end in the path": ([METHOD, SCHEME, (b":path", b"/pets HTTP/1.1\r\n" + INJECTED),
                               AUTHORITY],
                               b""),
    "a blank in the path": ([METHOD, SCHEME, (b":path", b"/pets HTTP/1.1"), AUTHORITY], b""),
    "a request in the method": ([(b":method", b"POST /pets" + CUT), SCHEME, PATH, AUTHORITY], b""),
    "a request in the authority": ([METHOD, SCHEME, PATH, (b":authority", b"x\r\n\r\n" + SECOND)],
                                   b""),
    "a request in the scheme": ([METHOD, (b":scheme", b"https" + CUT), PATH, AUTHORITY], b""),
    "two paths": ([*USUAL, (b":path", b"/docs")], b""),
    "no path": ([METHOD, SCHEME, AUTHORITY], b""),
    "an empty path": ([METHOD, SCHEME, (b":path", b""), AUTHORITY], b""),
    "another host": ([*USUAL, (b"host", b"evil")], b""),
    "a pseudo-header behind the others": ([METHOD, SCHEME, AUTHORITY, (b"x-a", b"b"), PATH], b""),
    "an unknown pseudo-header": ([*USUAL, (b":x", b"y")], b""),
    "of the connection": ([*USUAL, (b"connection", b"transfer-encoding"), (b"upgrade", b"h2c")],
                          b""),
    "a body that nobody reads": ([*USUAL, (b"content-length", b"%d" % len(SECOND))], SECOND),
    "CONNECT": ([(b":method", b"CONNECT"), AUTHORITY], SECOND),
}  # fmt: skip


@pytest.mark.parametrize(("headers", "body"), CASES.values(), ids=CASES)
def test_one_request_of_http_2_is_one_of_http_1(
    raw_site: RawSite, headers: list[Header], body: bytes
) -> None:
    before = raw_site.service.size()

    found = answer(raw_site, headers, body)

    raw_site.service.ran_no_second(before, found)
    raw_site.next_client_gets_its_own()


def test_a_body_that_is_too_large_is_413(raw_site: RawSite) -> None:
    assert answer(raw_site, [*USUAL, (b"content-length", b"70000")], b"x") == [413]


def test_a_plain_request_of_http_2_is_answered(raw_site: RawSite) -> None:
    """The control: what the frames are made with makes good ones."""
    before = raw_site.service.size()
    told = (b"x-request-id", SMUGGLED_ID.encode())

    assert answer(
        raw_site, [(b":method", b"GET"), SCHEME, (b":path", b"/docs"), AUTHORITY, told], b""
    ) == [200]

    assert sum(SMUGGLED_ID in line for line in raw_site.service.answered_since(before)) == 1
