"""Whatever is sent, in the place of a token or as a body: no 5xx, and nobody let in who does not
belong. hypothesis makes it up, the same in each run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.attacks.forging import decoded
from tests.attacks.target import FORM, JSON, Target, send_json, tokens_of
from tests.helpers.factories import CREDENTIALS, base64url, bearer
from tests.helpers.fuzzing import examples

bounded = hypothesis_settings(
    max_examples=examples(40), derandomize=True, deadline=None, database=None,
    # It is one server all along, and the machine may be busy.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip

# What gets as far as the service in a header: no control characters but a tab, no line ends.
CHARACTERS = st.characters(
    min_codepoint=32, max_codepoint=255, exclude_characters="".join(map(chr, range(127, 160)))
)
TOKEN_CHARACTERS = st.sampled_from(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \t"
)

Mutation = Callable[[str], str]


def flipped(part: str, where: float, bits: int) -> str:
    """A part with bits changed in one of its bytes, in its canonical spelling; or as it was, where
    it is none any more.
    """
    try:
        changed = bytearray(decoded(part))
    except ValueError:
        return part
    if changed:
        changed[int(where * (len(changed) - 1))] ^= bits
    return base64url(bytes(changed))


@st.composite
def mutations(draw: st.DrawFn) -> Mutation:
    """One change to a token's text, at places that are given as shares of its length."""
    kind = draw(st.sampled_from(["replace", "insert", "cut", "repeat", "swap", "bits", "parts"]))
    first, second = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    text = draw(st.text(TOKEN_CHARACTERS | CHARACTERS, min_size=1, max_size=8))
    number = draw(st.integers(0, 255))
    order = draw(st.permutations(range(3)) | st.lists(st.integers(0, 2), max_size=5))

    def mutated(token: str) -> str:
        start, end = sorted((int(first * len(token)), int(second * len(token))))
        before, between, behind = token[:start], token[start:end], token[end:]
        parts = token.split(".")
        changed: dict[str, Callable[[], str]] = {
            "replace": lambda: before + text + token[start + len(text) :],
            "insert": lambda: before + text + between + behind,
            "cut": lambda: before + behind,
            "repeat": lambda: before + between + between + behind,
            "swap": lambda: before + between.swapcase() + behind,
            "parts": lambda: ".".join(parts[each % len(parts)] for each in order),
            "bits": lambda: ".".join(
                flipped(part, first, number or 1) if each == number % len(parts) else part
                for each, part in enumerate(parts)
            ),
        }
        return changed[kind]()

    return mutated


@bounded
@given(st.lists(mutations(), min_size=1, max_size=3))
def test_a_token_is_accepted_as_it_is_and_in_no_other_way(
    target: Target, changes: list[Mutation]
) -> None:
    token = target.good
    for change in changes:
        token = change(token) or token

    status = target.show(token).status

    # Blanks around a token, and tabs behind it, are no part of it (RFC 9110 section 5.5).
    is_good = token.lstrip(" ").rstrip(" \t") == target.good
    assert status == (200 if is_good else 401)


@bounded
@given(st.text(CHARACTERS, max_size=200))
def test_any_authorization_at_all_is_a_401(target: Target, authorization: str) -> None:
    answer = target.send("GET", "/pets", {"Authorization": authorization})

    assert answer.status == 401
    assert answer.text.isprintable()


MEMBERS = st.sampled_from(["alg", "typ", "kid", "crit", "sub", "exp", "sid", "aud", "admin"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@bounded
@given(
    header=st.dictionaries(MEMBERS | st.text(max_size=8), VALUES, min_size=1, max_size=3),
    payload=st.dictionaries(MEMBERS | st.text(max_size=8), VALUES, max_size=3),
)
def test_a_well_signed_token_of_another_header_is_a_401(
    target: Target, header: dict[str, Any], payload: dict[str, Any]
) -> None:
    """Also where nothing but one member more is in it."""
    told = target.header | header
    if told == target.header:
        return

    for claimed in (payload, None):
        assert (
            target.show(target.sign(told, claimed and json.dumps(claimed).encode())).status == 401
        )


@bounded
@given(st.dictionaries(MEMBERS | st.text(max_size=8), VALUES, max_size=8) | VALUES)
def test_a_well_signed_token_of_other_claims_is_a_401(target: Target, payload: object) -> None:
    assert target.show(target.sign(payload=json.dumps(payload).encode())).status == 401


def test_a_refresh_token_is_accepted_as_it_is_and_in_no_other_way(target: Target) -> None:
    """429 is what a session gets that is asked for too often."""
    tokens = tokens_of(target)
    original = tokens["refresh_token"]

    @bounded
    @given(mutations())
    def shown(change: Mutation) -> None:
        token = change(original)
        if token != original:
            answer = send_json(target, "POST", "/auth/refresh", {"refresh_token": token})
            assert answer.status in {401, 422, 429}
            assert "access_token" not in answer.text

    shown()

    assert target.show(tokens["access_token"]).status == 200  # no guess has ended the session


FIELDS = st.sampled_from(["username", "password", "name", "species", "id", "user_id", "admin"])
BODIES = (
    st.binary(max_size=300)
    | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(FIELDS | st.text(max_size=8), VALUES, max_size=5).map(
        lambda value: json.dumps(value).encode()
    )
    | st.lists(st.tuples(FIELDS | st.text(max_size=8), st.text(max_size=30)), max_size=6).map(
        lambda pairs: urlencode(pairs, errors="surrogatepass").encode()
    )
    | st.tuples(st.binary(max_size=20), st.integers(0, 60)).map(
        lambda pair: json.dumps(CREDENTIALS).encode()[: pair[1]] + pair[0]
    )
)
TYPES = st.sampled_from(
    [JSON, FORM, "text/plain", "", f"{JSON}; charset=utf-16", f"{FORM}; charset=latin-1",
    "multipart/"
     "form-data; boundary=x", "application/json;", "application/*", "*/*", "json"]
)  # fmt: skip


@hypothesis_settings(bounded, max_examples=examples(80))
@given(body=BODIES, content_type=TYPES, path=st.sampled_from(["/auth", "/pets"]))
def test_any_body_at_all_is_a_4xx_or_taken(
    target: Target, path: str, body: bytes, content_type: str
) -> None:
    answer = target.send("POST", path, bearer(target.good), body, content_type)

    assert answer.status in {200, 201, 400, 401, 415, 422, 429}
    if answer.status >= 400:
        assert answer.text.isprintable()
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
