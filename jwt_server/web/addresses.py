"""Where a request came from, as far as that can be known."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def address_of(environ: WSGIEnvironment, trusted: int) -> str:
    """The client's address, or nothing where that can't be known.

    Each proxy adds to X-Forwarded-For whom it was asked by. So behind `trusted` proxies of ours the
    one that many places from the end is the client; what stands before it the client made up.
    """
    if not trusted:
        return _canonical(environ.get("REMOTE_ADDR") or "")
    told = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
    # Where a proxy is missing, nobody's word is taken.
    return _canonical(told[-trusted]) if trusted <= len(told) else ""


@lru_cache(4096)  # as it is asked for at each request: 0.1 µs, not 3
def _canonical(address: str) -> str:
    """The one spelling of an address; nothing for what is none."""
    try:
        found = ipaddress.ip_address(address.strip())
    except ValueError:
        return ""
    if getattr(found, "scope_id", None) is not None:  # of one machine, and any text at all
        return ""
    return str(getattr(found, "ipv4_mapped", None) or found)
