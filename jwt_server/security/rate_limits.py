"""Rate limits: what an attempt counts against, under which keys, and how long a lockout lasts.

Names and addresses in a key are keyed hashes: people type passwords for names, and the table of
counts must reveal neither. Names come as their keys (`username_key`), so that one account has one
count, however it is spelled. Times are in seconds.
"""

import hmac
import ipaddress
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from jwt_server.config import Settings
from jwt_server.security.primitives import base64url_encode, derive_key

MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
ADDRESS_WINDOW: Final = 15 * MINUTE
MAX_DOUBLING_LOCKOUT: Final = 15 * MINUTE

SIGN_UPS_PER_DAY: Final = 10
SITE_SIGN_UPS_PER_DAY: Final = 30
SITE_FACTOR: Final = 10  # times the attempts of an address
REFRESHES_PER_MINUTE: Final = 30
RENAMES_PER_DAY: Final = 10
ADMIN_REFUSALS_PER_HOUR: Final = 30
MAC_BYTES: Final = 16

SITE_SHARE: Final = 10
"""Attempts an hour at one account from one IPv4 address, or from one IPv6 site."""

CLIENT_PREFIX: Final = 64
"""An IPv6 client has at least this network to itself, and uses any address in it."""

SITE_PREFIX: Final = 48
"""The IPv6 network that a site is assigned."""


@dataclass(frozen=True)
class RateLimit:
    """At most `limit` attempts in a window of `window` seconds, counted under `key`."""

    key: str
    limit: int
    window: int
    doubling: bool = False
    """Whether lockouts start at a second and double, and each attempt restarts the window."""
    name: str = ""
    """For the audit log."""

    def blocked_until(self, count: int, expires_at: int, now: int) -> int:
        """Return until when the next attempt is refused after `count`; 0 if it is not."""
        if count < self.limit:
            return 0
        if not self.doubling:
            return expires_at
        doublings = min(count - self.limit, MAX_DOUBLING_LOCKOUT.bit_length())  # bounds the shift
        return now + min(MAX_DOUBLING_LOCKOUT, 1 << doublings)


NO_LIMIT: Final = RateLimit("", limit=0, window=0)


@dataclass(frozen=True)
class Attempt:
    """The limits that an attempt counts against."""

    resettable: RateLimit
    """The right password resets its count."""
    address: RateLimit = NO_LIMIT
    site: RateLimit = NO_LIMIT
    share: RateLimit = NO_LIMIT
    """Of the account's limit, for one site. Neither of these two applies to a network from which
    the user is known to sign in."""
    account: RateLimit = NO_LIMIT
    username_key: str = ""
    network: str = ""
    check_key: str = ""
    """Stands for the password of one user from one network in the hash queue; empty if none is
    checked."""


@dataclass(frozen=True)
class RateLimits:
    """Makes the limits of attempts at passwords and sign-ups, from the settings."""

    settings: Settings

    @cached_property
    def _secret(self) -> bytes:
        return derive_key(self.settings.secret_keys[0], "jwt-server throttle 1")

    def sign_in(self, username_key: str, address: str) -> Attempt:
        """Return the limits of a password for a name, from an address."""
        root = self.account_root(username_key)
        per_pair, per_address = self.settings.throttle_pair, self.settings.throttle_address
        client, site = network_of(address), network_of(address, SITE_PREFIX)
        pair_key = f"{root}.pair.{self._mac(root, client)}"
        address_key = f"address.{self._mac('address', client)}"
        site_key = f"site.{self._mac('site', site)}"
        share_key = f"{root}.share.{self._mac(root, site)}"
        site_limit = RateLimit(site_key, SITE_FACTOR * per_address, ADDRESS_WINDOW, name="network")
        return Attempt(
            resettable=RateLimit(
                pair_key, per_pair, DAY, doubling=True, name="account and address"
            ),
            address=RateLimit(address_key, per_address, ADDRESS_WINDOW, name="address"),
            site=site_limit if site != client else NO_LIMIT,
            share=RateLimit(share_key, SITE_SHARE, HOUR, name="account and network"),
            account=RateLimit(f"{root}.all", self.settings.throttle_account, DAY, name="account"),
            username_key=username_key,
            network=client,
            check_key=share_key,
        )

    def reauthentication(self, user_id: int, session_id: str) -> Attempt:
        """Return the limit of a signed-in user's password; all routes that ask for it share it."""
        key = f"{user_root(user_id)}.{session_id}"
        limit = RateLimit(key, self.settings.throttle_pair, DAY, doubling=True, name="session")
        return Attempt(limit, check_key=user_root(user_id))

    def sign_up(self, address: str) -> Attempt:
        """Return the limit of sign-ups from an IPv4 address or an IPv6 site."""
        limit = SITE_SIGN_UPS_PER_DAY if ":" in address else SIGN_UPS_PER_DAY
        key = f"sign-up.{self._mac('sign-up', network_of(address, SITE_PREFIX))}"
        return Attempt(RateLimit(key, limit, DAY, name="sign-up"))

    def account_root(self, username_key: str) -> str:
        """Return the start, up to a dot, of the keys that count attempts at an account."""
        return f"account.{self._mac('account', username_key)}"

    def _mac(self, *parts: str) -> str:
        digest = hmac.digest(self._secret, "\0".join(parts).encode(), "sha256")
        return base64url_encode(digest[:MAC_BYTES])


def user_root(user_id: int) -> str:
    """Return the start, up to a dot, of the keys that count a signed-in user's attempts."""
    return f"user.{user_id}"


def refresh_limit(session_id: str) -> RateLimit:
    """Return the limit of a session's refreshes."""
    return RateLimit(f"refresh.{session_id}", REFRESHES_PER_MINUTE, MINUTE)


def rename_limit(user_id: int) -> RateLimit:
    """Return the limit of a user's changes of the username."""
    return RateLimit(f"{user_root(user_id)}.rename", RENAMES_PER_DAY, DAY, name="rename")


def admin_refusal_limit(user_id: int) -> RateLimit:
    """Return the limit of recorded calls of admin routes by a user who is no admin."""
    key = f"{user_root(user_id)}.admin"
    return RateLimit(key, ADMIN_REFUSALS_PER_HOUR, HOUR, name="admin routes")


def network_of(address: str, prefix: int = CLIENT_PREFIX) -> str:
    """Return what identifies a client: its IPv4 address, or its IPv6 network.

    All clients of unknown address, an empty string, count as one.
    """
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address, prefix), strict=False))
