"""Request bodies: each invalid one gets its 4xx, at `POST /auth` and elsewhere."""

from __future__ import annotations

import json

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from jwt_server.database import Database
from tests.helpers.app import MakeApp
from tests.helpers.cpu import cpu_milliseconds
from tests.helpers.factories import bearer, token
from tests.helpers.fuzzing import examples
from tests.helpers.http import Send

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
LIMIT = 64 * 1024


def credentials(**changes: object) -> bytes:
    return json.dumps({"username": "travis", "password": "mypassword"} | changes).encode()


UNREADABLE = {
    "broken": b'{"username":',
    "an array": b'["username"]',
    "a number": b"5",
    "null": b"null",
    "nested too deeply": b"[" * 60_000,
    "a form sent as JSON": b"username=travis&password=mypassword",
    "NaN": b'{"username":NaN}',
    "UTF-16": credentials().decode().encode("utf-16"),
    "not UTF-8": b'{"username":"\xff"}',
    "a member twice": b'{"username":"a","username":"travis","password":"mypassword"}',
    "5,000 digits": b'{"username":' + b"9" * 5000 + b"}",
    "two values": credentials() * 2,
}


@pytest.mark.parametrize("path", ["/auth", "/pets"])
@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_invalid_json_returns_400(send: Send, path: str, body: bytes) -> None:
    response = send("POST", path, data=body, content_type=JSON, headers=bearer(token()))

    assert response.status == 400
    assert "python" not in response.text.lower()
    assert "travis" not in response.text


@pytest.mark.parametrize("path", ["/auth", "/pets"])
@pytest.mark.parametrize("body", [b"username=%ff&password=x&name=x", b"username=\xff&password=x"])
def test_form_not_in_utf8_returns_400(send: Send, path: str, body: bytes) -> None:
    response = send("POST", path, data=body, content_type=FORM, headers=bearer(token()))

    assert (response.status, response.text) == (400, "The form is not UTF-8.")


TOO_MANY = {
    "1,001 fields": (FORM, b"&".join(b"x%d=" % number for number in range(1001))),
    "1,001 empty fields": (FORM, b"&" * 1000),
    "22,000 percent signs": (FORM, b"%" * 22_000),
    "1,001 members": (JSON, json.dumps({str(number): 1 for number in range(1001)}).encode()),
}


@pytest.mark.parametrize("path", ["/auth", "/pets"])
@pytest.mark.parametrize(("content_type", "body"), TOO_MANY.values(), ids=TOO_MANY)
def test_too_many_fields_return_400(send: Send, path: str, content_type: str, body: bytes) -> None:
    response = send("POST", path, data=body, content_type=content_type, headers=bearer(token()))

    assert response.status == 400
    assert " over 1000 " in response.text


def test_form_of_1000_fields_is_parsed(send: Send) -> None:
    body = b"username=%61&password=" + b"%61" * 17_000
    body += b"".join(b"&x%d=" % number for number in range(998))

    response = send("POST", "/auth", data=body, content_type=FORM)

    assert (response.status, response.text[:10]) == (422, "password: ")


BAD_USERNAMES = {
    "a list": ["travis"],
    "a dict": {"$ne": ""},
    "true": True,
    "a number": 5,
    "a number beyond 64 bits": 2**70,
    "a number with a fraction": 1.5,
    "a huge number": 1e300,
    "a lone surrogate": "\ud800",
    "NUL": "tra\0vis",
    "too long": "x" * 65,
    "too long once normalized": "\ufdfa" * 4,
}


@pytest.mark.parametrize("username", BAD_USERNAMES.values(), ids=BAD_USERNAMES)
def test_invalid_username_returns_422(send: Send, username: object) -> None:
    response = send("POST", "/auth", data=credentials(username=username), content_type=JSON)

    assert response.status == 422
    assert response.text.startswith("username: ")
    assert "password" not in response.text


def test_infinite_number_returns_422(send: Send) -> None:
    response = send("POST", "/auth", data=b'{"username":1e400,"password":"x"}', content_type=JSON)

    assert (response.status, response.text) == (422, "username: Not a valid string.")


@pytest.mark.parametrize("password", [["x"], {"x": 1}, 1, True, "\ud800", "\0", "x" * 257])
def test_invalid_password_returns_422_without_echo(send: Send, password: object) -> None:
    response = send("POST", "/auth", data=credentials(password=password), content_type=JSON)

    assert response.status == 422
    assert response.text.startswith("password: ")
    assert "xx" not in response.text


def test_long_username_is_refused_before_normalization(client: FlaskClient) -> None:
    """Normalization takes quadratic time in combining marks: seconds of CPU for these."""
    marks = "a" + "\u0301" * 16_000 + "\u0316" * 16_000
    body = json.dumps({"username": marks, "password": "x"}, ensure_ascii=False).encode()

    def post() -> None:
        response = client.post("/auth", data=body, content_type=JSON)
        assert response.status_code == 422
        assert response.text == "username: Longer than 64 characters."

    assert cpu_milliseconds(post) < 200


def test_longest_credentials_are_accepted(send: Send) -> None:
    longest = credentials(username="\u0065\u0301" * 64, password="x" * 256)

    assert send("POST", "/auth", data=longest, content_type=JSON).status == 401


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"username=a&username=b&password=x", "username"),
        (b"username=a&password=x&password=x", "password"),
        (b"username=%00&password=x", "username"),
        (b"username=a&password=x&other=1&other=2", "other"),
    ],
)
def test_invalid_form_field_returns_422(send: Send, body: bytes, named: str) -> None:
    response = send("POST", "/auth", data=body, content_type=FORM)

    assert response.status == 422
    assert response.text.startswith(f"{named}: ")


def test_auth_ignores_unknown_fields(send: Send) -> None:
    response = send("POST", "/auth", data=credentials(remember=True, x=["y"]), content_type=JSON)

    assert response.status == 200


@pytest.mark.parametrize("path", ["/auth", "/pets"])
@pytest.mark.parametrize("content_type", [FORM, JSON, "text/plain", "multipart/form-data", None])
def test_body_over_64_kib_returns_413(send: Send, path: str, content_type: str | None) -> None:
    for body in (b"x" * (LIMIT + 1), b"[" * 100_000, b'{"username":"' + b"x" * 10**6 + b'"}'):
        response = send("POST", path, data=body, content_type=content_type, headers=bearer(token()))
        assert (response.status, response.text) == (
            413,
            "The body is too large: 64 KiB is the limit.",
        )


def test_body_of_64_kib_is_parsed(send: Send) -> None:
    body = b"username=" + b"x" * (LIMIT - len(b"username="))

    assert send("POST", "/auth", data=body, content_type=FORM).text == "Password required."


def test_token_is_checked_before_the_body(send: Send) -> None:
    response = send("POST", "/pets", data=b"x" * (LIMIT + 1), content_type="text/plain")

    assert (response.status, response.text) == (401, "No token.")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"name=x", "multipart/form-data; boundary=x"),
        (b'{"name":"x"}', "text/json"),
        (b'{"name":"x"}', "application/problem+json"),
        (b'{"name":"x"}', None),
        (b'{"name":"x"}', f"{JSON};x={'y' * 1024}"),
        (b"", "text/plain"),
    ],
)
def test_other_content_type_returns_415(send: Send, body: bytes, content_type: str | None) -> None:
    response = send("POST", "/pets", data=body, content_type=content_type, headers=bearer(token()))

    assert response.status == 415
    assert "application/json" in response.text


GOOD_JSON = b'{"name":"x","username":"travis","password":"mypassword"}'
GOOD_FORM = b"name=x&username=travis&password=mypassword"
UTF_8 = [JSON, f"{JSON}; charset=utf-8", f'{JSON};CHARSET="UTF-8"', f"{JSON};charset=utf8;x=y"]


@pytest.mark.parametrize("content_type", [*UTF_8, f"{FORM}; charset=UTF-8"])
def test_charset_utf_8_is_accepted(send: Send, content_type: str) -> None:
    body = GOOD_FORM if content_type.startswith(FORM) else GOOD_JSON

    assert send("POST", "/auth", data=body, content_type=content_type).status == 200


@pytest.mark.parametrize("path", ["/auth", "/auth/logout"])
@pytest.mark.parametrize("charset", ["iso-8859-1", "utf-16", "us-ascii", '"latin1"', "x"])
@pytest.mark.parametrize(
    ("media_type", "body"), [(JSON, GOOD_JSON), (FORM, GOOD_FORM)], ids=["JSON", "form"]
)
def test_other_charset_returns_415(
    send: Send, path: str, media_type: str, body: bytes, charset: str
) -> None:
    content_type = f"{media_type}; charset={charset}"

    response = send("POST", path, data=body, content_type=content_type, headers=bearer(token()))

    assert response.status == 415
    assert "UTF-8" in response.text
    assert "Accept-Encoding" not in response.headers


@pytest.mark.parametrize("path", ["/auth", "/pets"])
@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "zstd", "identity, gzip", "x"])
@pytest.mark.parametrize(
    ("content_type", "body"), [(JSON, GOOD_JSON), (FORM, b"\x1f\x8b\x08")], ids=["JSON", "form"]
)
def test_content_encoding_returns_415(
    send: Send, path: str, coding: str, content_type: str, body: bytes
) -> None:
    headers = bearer(token()) | {"Content-Encoding": coding, "Accept": JSON}

    response = send("POST", path, data=body, content_type=content_type, headers=headers)

    assert response.status == 415
    assert json.loads(response.body)["code"] == "unsupported_media_type"
    assert response.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_content_encoding_identity_is_accepted(send: Send, coding: str) -> None:
    headers = {"Content-Encoding": coding}

    response = send("POST", "/auth", data=GOOD_JSON, content_type=JSON, headers=headers)

    assert response.status == 200


def test_byte_order_mark_before_json_is_ignored(send: Send) -> None:
    body = b"\xef\xbb\xbf" + GOOD_JSON

    assert send("POST", "/auth", data=body, content_type=JSON).status == 200


@pytest.mark.parametrize("body", [b"\xef\xbb\xbf" * 2 + GOOD_JSON, b"\xff\xfe" + GOOD_JSON])
def test_other_marks_before_json_return_400(send: Send, body: bytes) -> None:
    assert send("POST", "/auth", data=body, content_type=JSON).status == 400


LARGE = b"\xff" * (LIMIT + 1)
LATIN_1 = f"{JSON}; charset=latin1"

# A request with as many mistakes as there can be at once, in the order of the checks, and how it
# continues once the first of them is corrected.
IN_ORDER: dict[str, tuple[int, str, str, bool, bytes, str]] = {
    "unknown path": (404, "POST", "/nowhere", False, LARGE, LATIN_1),
    "method": (405, "PATCH", "/me/password", False, LARGE, LATIN_1),
    "token": (401, "PUT", "/me/password", False, LARGE, LATIN_1),
    "size": (413, "PUT", "/me/password", True, LARGE, LATIN_1),
    "charset": (415, "PUT", "/me/password", True, b"\xff", LATIN_1),
    "media type": (415, "PUT", "/me/password", True, b"\xff", "text/plain"),
    "JSON": (400, "PUT", "/me/password", True, b'{"current_password":\xff}', JSON),
    "fields": (422, "PUT", "/me/password", True, b'{"current_password":"x"}', JSON),
    "rate limit": (
        429, "PUT", "/me/password", True,
        b'{"current_password":"x","new_password":"correct horse battery"}', JSON,
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", IN_ORDER)
def test_checks_run_in_the_documented_order(
    make_app: MakeApp, database: Database, travis: dict[str, str], mistake: str
) -> None:
    client = make_app(throttle_pair=1).test_client()
    wrong = {"password": "x"}  # uses up the free attempts of the session
    assert client.post("/auth/reauth", json=wrong, headers=travis).status_code == 403
    assert client.post("/auth/reauth", json=wrong, headers=travis).status_code == 429
    status, method, path, has_token, body, content_type = IN_ORDER[mistake]

    response = client.open(
        path,
        method=method,
        data=body,
        content_type=content_type,
        headers=travis if has_token else {},
    )

    assert response.status_code == status


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        (b"", JSON, "name: Missing data for required field."),
        (b"", None, "name: Missing data for required field."),
        (b"{}", JSON, "name: Missing data for required field."),
        (b'{"name":null}', JSON, "name: Field may not be null."),
        (b'{"name":5}', JSON, "name: Not a valid string."),
        (b'{"name":""}', JSON, "name: Send 1 to 100 characters."),
        (b'{"name":"x","species":["cat"]}', JSON, "species: Not a valid string."),
        (b'{"name":"x","user_id":2}', JSON, "user_id: Unknown field."),
        (b'{"name":"x","id":2}', JSON, "id: Unknown field."),
        (b'{"name":"x","\\ud800":2}', JSON, "\\ud800: Unknown field."),
        (b'{"name":"x","<b>\\u00e9":2}', JSON, "<b>\\xe9: Unknown field."),
        (b"name=x&name=y", FORM, "name: Send this field once."),
        (b"name=x&admin=1&admin=1", FORM, "admin: Unknown field."),
        (b"name=" + b"x" * 101, FORM, "name: Send 1 to 100 characters."),
        (b"name=x&species=" + b"x" * 101, FORM, "species: Send at most 100 characters."),
    ],
)
def test_invalid_fields_return_422_with_names(
    send: Send, body: bytes, content_type: str | None, text: str
) -> None:
    response = send("POST", "/pets", data=body, content_type=content_type, headers=bearer(token()))

    assert (response.status, response.text) == (422, text)


def test_long_field_name_is_shortened_in_error(send: Send) -> None:
    body = json.dumps({"name": "x", "y" * 1000: 1}).encode()

    response = send("POST", "/pets", data=body, content_type=JSON, headers=bearer(token()))

    assert response.status == 422
    assert len(response.body) < 120


@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=examples(30),
    deadline=None,
)
@given(
    body=st.binary(max_size=200)
    | st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.dictionaries(
            st.sampled_from(["username", "name", "x"]) | st.text(), inner
        ),
    ).map(lambda value: json.dumps(value).encode()),
    content_type=st.sampled_from([JSON, FORM, "text/plain", ""]),
    path=st.sampled_from(["/auth", "/pets"]),
)
def test_no_body_causes_5xx(
    client: FlaskClient, travis: dict[str, str], path: str, body: bytes, content_type: str
) -> None:
    response = client.post(path, data=body, content_type=content_type, headers=travis)

    assert response.status_code in {201, 400, 401, 415, 422}
    assert response.status_code == 201 or response.text.isprintable()
