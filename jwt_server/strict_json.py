"""JSON as this service reads it, in bodies and in tokens: UTF-8, no member twice,
no NaN or Infinity, and every way to be wrong is a ValueError.

The standard library's reader is laxer: it guesses UTF-16, keeps the last of two equal
members and takes NaN, each a way to make two readers see different things.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn


def loads(text: bytes) -> Any:
    """Read one JSON text (RFC 8259).

    Raises ValueError, in words that a client may see: not in UTF-8, not JSON, a member twice,
    nested too deeply, or a number of more digits than Python reads.
    """
    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_members,
            parse_constant=_refuse_constant,
            parse_int=_integer,
        )
    except UnicodeDecodeError:
        raise ValueError("not in UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"look at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number there")


def _integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:
        # Python stops at some thousand digits, and tells of its own settings when it does.
        raise ValueError("a number has too many digits") from None
