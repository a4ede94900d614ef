"""ES256 with one signature where ECDSA has two: of (r, s) and (r, n - s), which anybody can turn
into each other and which verify alike, the one with the lower s is made, and no other is taken.

Else a token would have two spellings, and who knows it by its text would not know the other one.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from jwt.algorithms import AllowedECKeys, ECAlgorithm

ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order n of P-256 (FIPS 186-5, SP 800-186 section 3.2.1.3)."""

SIZE: Final = 32
"""Bytes of r, and of s (RFC 7518 section 3.4)."""


class LowS(ECAlgorithm):
    """PyJWT's ECDSA, but for the other half of the signatures."""

    def sign(self, msg: bytes, key: EllipticCurvePrivateKey) -> bytes:
        """The signature, r and s one after the other."""
        signature = super().sign(msg, key)
        s = int.from_bytes(signature[SIZE:], "big")
        return signature[:SIZE] + min(s, ORDER - s).to_bytes(SIZE, "big")

    def verify(self, msg: bytes, key: AllowedECKeys, sig: bytes) -> bool:
        """Whether it is the one signature that `sign` makes of it."""
        is_low = int.from_bytes(sig[SIZE:], "big") <= ORDER // 2
        return is_low and super().verify(msg, key, sig)
