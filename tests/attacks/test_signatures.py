"""Signatures that were made of a good one without the key, or of nothing at all; and spellings of a
token that decode to the same bytes. One token has one spelling.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tests.attacks.forging import ED25519_ORDER, P256_ORDER, as_json, decoded, raw
from tests.attacks.target import ALGORITHMS, MALFORMED, Attack, Target, cases
from tests.helpers.factories import base64url, claims

LENGTHS = {"HS256": 32, "EdDSA": 64, "ES256": 64, "RS256": 384}


def other_signatures(target: Target, *made: bytes) -> Iterator[str]:
    """The good token under other signatures."""
    header, payload, _ = target.good.split(".")
    for each in made:
        yield f"{header}.{payload}.{base64url(each)}"


def good_signature(target: Target) -> bytes:
    return decoded(target.good.split(".")[2])


def blank(target: Target) -> Iterator[str]:
    length = LENGTHS[target.algorithm]
    for byte in (b"\0", b"\xff", b"\x01", b"A"):
        yield from other_signatures(target, byte * length, byte, byte * (length + 1))
    yield from other_signatures(target, b"\0" * (length - 1) + b"\x01")


def zero_ecdsa(target: Target) -> Iterator[str]:
    """Both r and s must be from 1 to the order less 1."""
    n = P256_ORDER
    for r, s in ((0, 0), (0, 1), (1, 0), (n, n), (n, 1), (1, n), (0, n), (2**256 - 1, 2**256 - 1)):
        yield from other_signatures(target, raw(r, s))
    yield from other_signatures(target, encode_dss_signature(0, 0), encode_dss_signature(1, 0))


def shortened(target: Target) -> Iterator[str]:
    good = good_signature(target)
    halves = len(good) // 2
    yield from other_signatures(
        target, good[:-1], good[1:], good[:1], good[:16], good[:halves], good[halves:],
    )  # fmt: skip


def lengthened(target: Target) -> Iterator[str]:
    good = good_signature(target)
    yield from other_signatures(
        target, good + b"\0", b"\0" + good, good + good, good + b"\n", good[::-1],
    )  # fmt: skip


def flipped(target: Target) -> Iterator[str]:
    good = good_signature(target)
    for at in (0, len(good) // 2 - 1, len(good) // 2, len(good) - 1):
        for bit in (1, 128):
            changed = bytearray(good)
            changed[at] ^= bit
            yield from other_signatures(target, bytes(changed))


def swapped(target: Target) -> Iterator[str]:
    """(n - r, s) and (s, r). ECDSA accepts (r, n - s), and so does the service."""
    good = good_signature(target)
    r, s = int.from_bytes(good[:32], "big"), int.from_bytes(good[32:], "big")
    yield from other_signatures(target, raw(P256_ORDER - r, s), raw(s, r))


def in_der(target: Target) -> Iterator[str]:
    good = good_signature(target)
    r, s = int.from_bytes(good[:32], "big"), int.from_bytes(good[32:], "big")
    yield from other_signatures(target, encode_dss_signature(r, s), raw(r, s, 33), raw(r, s, 48))
    yield from other_signatures(target, encode_dss_signature(r, P256_ORDER - s))


def one_order_more(target: Target) -> Iterator[str]:
    """EdDSA's S and S + L are the same number to who does not look (RFC 8032 section 8.4)."""
    good = good_signature(target)
    s = int.from_bytes(good[32:], "little")
    for times in (1, 2, 8):
        more = (s + times * ED25519_ORDER).to_bytes(32, "little")
        yield from other_signatures(target, good[:32] + more)


def small_order(target: Target) -> Iterator[str]:
    """Points of small order as R, with S = 0: good for a public key of small order."""
    points = (
        bytes(32),
        b"\x01" + bytes(31),
        b"\xec" + b"\xff" * 30 + b"\x7f",
        b"\x01" + bytes(30) + b"\x80",
    )
    for point in points:
        yield from other_signatures(target, point + bytes(32))


def one_modulus_more(target: Target) -> Iterator[str]:
    """RSA's s and s + n are the same number to who does not look (RFC 8017 section 5.2.2)."""
    modulus = target.key.public_key().public_numbers().n
    good = int.from_bytes(good_signature(target), "big")
    for number in (good + modulus, good + 2 * modulus):
        yield from other_signatures(target, number.to_bytes(385, "big"))
    for number in range(200):  # until one of them fits into the length of a good one
        token = target.sign(jti=str(number))
        header, payload, made = token.split(".")
        more = int.from_bytes(decoded(made), "big") + modulus
        if more < 2**3072:
            yield f"{header}.{payload}.{base64url(more.to_bytes(384, 'big'))}"
            return


def small_numbers(target: Target) -> Iterator[str]:
    """Numbers that are their own power, or whose sign is lost."""
    modulus = target.key.public_key().public_numbers().n
    good = int.from_bytes(good_signature(target), "big")
    for number in (0, 1, modulus - 1, modulus, modulus + 1, modulus - good):
        yield from other_signatures(target, number.to_bytes(384, "big"))


# What says in an RSA signature that a digest of SHA-1, or of SHA-256, follows (RFC 8017, 9.2).
SHA1_INFO = bytes.fromhex("3021300906052b0e03021a05000414")
SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def raised(target: Target, block: bytes) -> bytes:
    """What the private key makes of a block, whatever is in it."""
    numbers = target.key.private_numbers()
    made: int = pow(int.from_bytes(block, "big"), numbers.d, numbers.public_numbers.n)
    return made.to_bytes(384, "big")


def other_blocks(target: Target) -> Iterator[str]:
    """Blocks that are not quite what is to be signed, under the right key."""
    message = target.good.rpartition(".")[0].encode()
    digest = hashlib.sha256(message).digest()
    for told in (
        SHA1_INFO + hashlib.sha1(message, usedforsecurity=False).digest(),
        digest,
        SHA256_INFO + digest + b"\0",
        SHA256_INFO.replace(b"\x05\0", b"") + digest,
    ):
        filled = b"\xff" * (384 - 3 - len(told))
        yield from other_signatures(target, raised(target, b"\0\1" + filled + b"\0" + told))
    short = b"\0\1" + b"\xff" * 8 + b"\0" + SHA256_INFO + digest
    yield from other_signatures(target, raised(target, short + bytes(384 - len(short))))


def of_another_token(target: Target) -> Iterator[str]:
    """Parts of two good tokens, crossed."""
    first, second = target.good.split("."), target.sign(sub="2", admin=True).split(".")
    yield ".".join([first[0], second[1], first[2]])
    yield ".".join([first[0], first[1], second[2]])
    yield ".".join([second[0], second[1], first[2]])


SIGNATURES = [
    Attack("CVE-2022-21449", "Java: an ECDSA signature of zeros is good for all", zero_ecdsa,
           against=["ES256"]),
    Attack("zeros", "zeros, ones and the like in the length of a signature", blank,
           against=ALGORITHMS),
    Attack("CVE-2020-28042", "ServiceStack: so much of a signature as is there is compared",
           shortened, against=ALGORITHMS),
    Attack("lengthened", "a good signature with something before or behind it", lengthened,
           against=ALGORITHMS),
    Attack("flipped", "a good signature with one bit changed", flipped, against=ALGORITHMS),
    Attack("ecdsa-swapped", "r negated, r and s swapped", swapped,
           against=["ES256"]),
    Attack("ecdsa-der", "a good signature in DER, or with leading zeros", in_der,
           against=["ES256"]),
    Attack("eddsa-malleability", "RFC 8032 8.4: S + L is as good as S", one_order_more,
           against=["EdDSA"]),
    Attack("eddsa-small-order", "points of small order, and nothing to multiply", small_order,
           against=["EdDSA"]),
    Attack("rsa-malleability", "RFC 8017 5.2.2: s + n is as good as s", one_modulus_more,
           against=["RS256"]),
    Attack("rsa-small-numbers", "0, 1 and n - 1 are their own powers", small_numbers,
           against=["RS256"]),
    Attack("rsa-padding", "RFC 8017 8.2.2: another hash, no word on which, too little padding",
           other_blocks, against=["RS256"]),
    Attack("parts-crossed", "payload and signature of two good tokens", of_another_token,
           against=ALGORITHMS),
]  # fmt: skip


@cases(SIGNATURES)
def test_no_other_signature_is_taken_for_the_good_one(target: Target, attack: Attack) -> None:
    attack.run(target)


def stray_bits(part: str) -> str | None:
    """The part with the bits behind its last byte set, where there are any."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    if len(part) % 4 == 0:
        return None
    return part[:-1] + letters[letters.index(part[-1]) + 1]


def respelled(part: str) -> Iterator[str]:
    """What lax decoders take for the same base64url."""
    padding = "=" * (-len(part) % 4) or "="
    yield from (f"{part}=", f"{part}==", f"{part}====", f"={part}", f"{part}{padding}AA")
    yield from (
        f"{part}!",
        f"{part}!!!!",
        f"{part},",
        f"{part}%3D",
        f"{part}\\n",
        f"{part[:4]}*{part[4:]}",
    )
    yield from (
        f"{part[:8]} {part[8:]}",
        f"{part[:8]}\t{part[8:]}",
        f"{part[:8]}+{part[8:]}",
        f"{part}/",
    )
    # Digits and blanks of Unicode, as UTF-8 and in Latin-1.
    for character in ("٠", "０", "\u200b", "\u2028"):
        yield part + character.encode().decode("latin-1")
    yield from (f"{part}\xb2", f"{part}\xa0", f"\xad{part}")
    if stray := stray_bits(part):
        yield stray


def respelled_parts(target: Target) -> Iterator[str]:
    """Each part of a good token, respelled, while the other two are as they were."""
    parts = target.good.split(".")
    for number, part in enumerate(parts):
        for spelled in respelled(part):
            yield ".".join([*parts[:number], spelled, *parts[number + 1 :]])


def standard_alphabet(target: Target) -> Iterator[str]:
    """With + and / for - and _, in a token that has both."""
    for number in range(200):
        token = target.sign(jti=f"{number}\x7f\x7e")
        if {"-", "_"} <= set(token.split(".")[2]):
            break
    header, payload, made = token.split(".")
    yield f"{header}.{payload}.{made.replace('-', '+').replace('_', '/')}"
    yield f"{header}.{payload}.{made.replace('-', '+')}"
    yield f"{header}.{payload}.{made.replace('_', '/')}"
    yield token.replace(".", "%2E")
    yield token.replace(".", "\u3002".encode().decode("latin-1"))


def signed_as_respelled(target: Target) -> Iterator[str]:
    """Spelled otherwise before it was signed, so that the signature covers just that."""
    good = [base64url(as_json(target.header)), base64url(as_json(claims()))]
    for number, part in enumerate(good):
        for spelled in respelled(part):
            if spelled.isascii():
                parts = [*good[:number], spelled, *good[number + 1 :]]
                yield target.sign_parts(*parts)


def surrounded(target: Target) -> Iterator[str]:
    good = target.good
    yield from (
        f'"{good}"',
        f"'{good}'",
        f"<{good}>",
        f"{good},{good}",
        f"{good} {good}",
        f"{good};x=1",
    )
    yield from (
        f"Bearer {good}",
        f"token={good}",
        f"{good}#",
        f"{good}?a=b",
        f"{good}/",
        f"{good}\\",
    )
    yield from (good.upper(), good.lower(), good.swapcase(), good[::-1], good.replace(".", ".."))


def encrypted(target: Target) -> Iterator[str]:
    """JWE, which the service does not speak: five parts, of each way to agree on a key."""
    part = base64url(b"x" * 16)
    for alg, more in (
        ("dir", {}), ("A128KW", {}), ("RSA-OAEP", {}), ("RSA1_5", {}),
        ("ECDH-ES", {"epk": target.jwk}), ("PBES2-HS256+A128KW", {"p2c": 2**31 - 1, "p2s": part}),
        ("none", {}), (target.algorithm, {}),
    ):  # fmt: skip
        header = {"alg": alg, "enc": "A128GCM", "zip": "DEF", "cty": "JWT", **more}
        yield ".".join([base64url(as_json(header)), part, part, part, part])
        yield ".".join([base64url(as_json(header)), "", part, part, part])
        yield ".".join([*target.good.split("."), part, part])


def serialized(target: Target) -> Iterator[str]:
    """JWS as JSON, flattened and general (RFC 7515 section 7.2)."""
    header, payload, made = target.good.split(".")
    one = {"protected": header, "signature": made}
    for value in (
        {"payload": payload, **one},
        {"payload": payload, "signatures": [one]},
        {"payload": payload, "signatures": [{"header": {"alg": "none"}, "signature": ""}, one]},
        [target.good],
        target.good,
    ):
        yield json.dumps(value, separators=(",", ":"))
        yield base64url(json.dumps(value).encode())


def mixed_serialization(target: Target) -> Iterator[str]:
    """JSON whose first member's name is a compact token of another payload."""
    header, payload, made = target.good.split(".")
    other = base64url(as_json(claims(sub="2", admin=True)))
    yield (
        f'{{"{header}.{other}.":"","protected":"{header}","payload":"{payload}","signature":"{made}"}}'
    )


ENCODINGS = [
    Attack("CVE-2026-102269", "PyJWT: characters that are no base64url are passed over",
           respelled_parts, MALFORMED),
    Attack("CVE-2022-25898", "jsrsasign: special characters and escapes are passed over",
           standard_alphabet, MALFORMED),
    Attack("signed-as-respelled", "padding, blanks and stray bits under the signature",
           signed_as_respelled, MALFORMED),
    Attack("surrounded", "a good token with something around it, or in another case", surrounded,
           MALFORMED),
    Attack("CVE-2023-51774", "json-jwt: who may send JWS sends JWE", encrypted, MALFORMED),
    Attack("CVE-2024-33664", "python-jose: a JWE that inflates without end", encrypted, MALFORMED),
    Attack("CVE-2023-6681", "jwcrypto: a JWE that says how often to hash", encrypted, MALFORMED),
    Attack("json-serialization", "JWS in JSON, which is no JWT", serialized, MALFORMED),
    Attack("CVE-2022-39227", "python-jwt: compact and JSON at once, each read by one half",
           mixed_serialization, MALFORMED),
]  # fmt: skip


@cases(ENCODINGS)
def test_a_token_has_one_spelling(target: Target, attack: Attack) -> None:
    attack.run(target)
