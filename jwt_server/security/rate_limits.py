"""What counts as a try to guess: under which keys, and what it may come to.

A key with a name or an address in it is a keyed hash: people type their passwords for names, and
the table of counts is to tell nobody of either. Names come as their keys (`username_key`), so one
account has one count, however it is spelled. Times are in seconds.
"""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass, field
from typing import Final

from jwt_server.security.primitives import base64url_encode, derive_key

MINUTE: Final = 60
DAY: Final = 24 * 60 * MINUTE

ADDRESS_WINDOW: Final = 15 * MINUTE
LONGEST_WAIT: Final = 15 * MINUTE

SHARE: Final = 10
"""What one address may add to the count of an account."""

SIGN_UPS: Final = 10
"""So many a day, from one address."""

REFRESHES: Final = 30
"""So many a minute, of one session."""

CLIENT_BITS: Final = 64
"""An IPv6 client has at least so much of a network to itself, and any address in it."""

SITE_BITS: Final = 48
"""What a site gets of IPv6."""

MAC_BYTES: Final = 16


@dataclass(frozen=True)
class Counter:
    """What is counted under one key: so many are free within so many seconds, from the first on."""

    key: str
    free: int
    seconds: int
    doubling: bool = False
    """Whether then come waits that double, and each try begins the time anew."""
    limit: str = ""
    """What it is called in the audit log."""

    def blocked_until(self, count: int, expires_at: int, now: int) -> int:
        """Until when the next is refused after this many; 0 where it is not."""
        if count < self.free:
            return 0
        if not self.doubling:
            return expires_at
        doublings = min(count - self.free, LONGEST_WAIT.bit_length())  # no endless numbers
        return now + min(LONGEST_WAIT, 1 << doublings)


@dataclass(frozen=True)
class Account:
    """What is counted against an account, from wherever it is not known to sign in."""

    counter: Counter
    share: str
    """The key of what this address has added."""
    username_key: str
    network: str


@dataclass(frozen=True)
class Try:
    """One try: what it counts for."""

    own: Counter
    """What ends with a success."""
    address: Counter | None = None
    account: Account | None = None


@dataclass(frozen=True)
class RateLimits:
    """What is counted, under which keys, and how much of it is free."""

    secret: bytes = field(repr=False)
    pair: int
    account: int
    address: int

    @classmethod
    def from_secrets(
        cls, secret_keys: tuple[bytes, ...], *, pair: int, account: int, address: int
    ) -> RateLimits:
        """With a key of its own for this purpose (HKDF, RFC 5869), from the first SECRET_KEY."""
        return cls(derive_key(secret_keys[0], "jwt-server throttle 1"), pair, account, address)

    def sign_in(self, username_key: str, address: str) -> Try:
        """A password for a name, from an address."""
        root = self.account_root(username_key)
        client, site = network_of(address), network_of(address, SITE_BITS)
        return Try(
            self._own(f"{root}.pair.{self._mac(root, client)}", "account and address"),
            Counter(
                f"address.{self._mac('address', client)}",
                self.address,
                ADDRESS_WINDOW,
                limit="address",
            ),
            Account(
                Counter(f"{root}.all", self.account, DAY, limit="account"),
                f"{root}.share.{self._mac(root, site)}",
                username_key,
                client,
            ),
        )

    def password_of(self, user_id: int, session_id: str) -> Try:
        """The password of somebody who is signed in, whichever route asks for it."""
        key = f"{user_root(user_id)}.{session_id}"
        return Try(self._own(key, "session"))

    def sign_up(self, address: str) -> Try:
        """An account to be made, from an address."""
        key = f"sign-up.{self._mac('sign-up', network_of(address))}"
        return Try(Counter(key, SIGN_UPS, DAY, limit="sign-up"))

    def account_root(self, username_key: str) -> str:
        """How the keys begin that count tries at an account, before a dot."""
        return f"account.{self._mac('account', username_key)}"

    def _own(self, key: str, limit: str) -> Counter:
        return Counter(key, self.pair, DAY, doubling=True, limit=limit)

    def _mac(self, *parts: str) -> str:
        digest = hmac.digest(self.secret, "\0".join(parts).encode(), "sha256")[:MAC_BYTES]
        return base64url_encode(digest)


def user_root(user_id: int) -> str:
    """How the keys begin that count tries of a user who is signed in, before a dot."""
    return f"user.{user_id}"


def refreshes_of(session_id: str) -> Counter:
    """The refreshes of a session."""
    return Counter(f"refresh.{session_id}", REFRESHES, MINUTE)


def network_of(address: str, bits: int = CLIENT_BITS) -> str:
    """What stands for a client that has this address: an IPv4 address for itself, of an IPv6
    address the network. All whose address is not known, an empty one, are one.
    """
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address, bits), strict=False))
