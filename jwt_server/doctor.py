"""What the service can't refuse at its start, but an operator should know of: found by `doctor`.

A check yields what it finds; one that finds nothing is in order. What is only likely, or can't be
mended by whoever runs this, is no more than a warning: a doctor who cries wolf is not asked again.
"""

from __future__ import annotations

import ctypes
import ipaddress
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from jwt_server import audit, places, sqlite, strength
from jwt_server.audit import Action
from jwt_server.backups import contents
from jwt_server.config import Settings
from jwt_server.database import Connection
from jwt_server.users import demo

ADJTIMEX_BYTES: Final = 512
"""More than `struct timex` has on any machine."""

TIME_ERROR: Final = 5
"""What adjtimex(2) gives while nobody sets the clock right."""

SIGN_INS: Final = 100
"""So many of the newest are looked at."""


class Level(StrEnum):
    """How bad it is. With what is unsafe the service should not run."""

    OK = "ok"
    NOTE = "note"
    WARNING = "WARNING"
    UNSAFE = "UNSAFE"


@dataclass(frozen=True)
class Finding:
    """What a check has found, and what to do."""

    level: Level
    what: str
    advice: str = ""


NOT_LOOKED_AT: Final = Finding(Level.NOTE, "Not looked at, for want of the database.")


@dataclass(frozen=True)
class Patient:
    """What is looked at. `db` is None where the database can't be used, and `trouble` says why."""

    settings: Settings
    db: Connection | None
    trouble: str
    now: int

    @property
    def in_production(self) -> bool:
        """Whether others than this machine's own users are served."""
        return not self.settings.loopback or self.settings.trusted_proxies > 0


def database(patient: Patient) -> Iterator[Finding]:
    """Is it there, ours, of this release's schema, writable, and whole?"""
    if patient.db is None:
        there = patient.settings.database.exists()
        yield Finding(Level.UNSAFE if there else Level.WARNING, patient.trouble)
    elif damage := contents.damage(patient.db.driver):
        yield Finding(Level.UNSAFE, f"It is damaged: {damage}.", "Restore the newest backup.")


def demo_user(patient: Patient) -> Iterator[Finding]:
    """Can anybody sign in by the password that everybody knows?"""
    if patient.db is None:
        yield NOT_LOOKED_AT
    elif demo.demo_user_can_sign_in(patient.db, patient.settings.salt_rounds):
        yield Finding(
            Level.UNSAFE if patient.in_production else Level.WARNING,
            f"Anybody can sign in as {demo.USERNAME} with the password of the documentation.",
            f"users delete {demo.USERNAME}",
        )


def admins(patient: Patient) -> Iterator[Finding]:
    """Is there anybody who may administer?"""
    if patient.db is None:
        yield NOT_LOOKED_AT
    elif patient.db.queries.users.another_admin(id=0) is None:
        yield Finding(Level.NOTE, "There is no enabled admin.", "users promote NAME")


def secrets(patient: Patient) -> Iterator[Finding]:
    """Could a secret be guessed, or does it do what another is for?"""
    settings = patient.settings
    kinds = {"SECRET_KEY": settings.secret_keys, "JWT_SECRET": settings.jwt_secrets}
    for name, (newest, *previous) in ((name, found) for name, found in kinds.items() if found):
        for secret, shown in ((newest, name), *((each, f"{name}_PREVIOUS") for each in previous)):
            if weakness := strength.weakness(secret):
                advice = "Make another by `openssl rand -base64 48`."
                yield Finding(Level.UNSAFE, f"{shown} can be guessed: {weakness}.", advice)
        if newest in previous:
            yield Finding(Level.NOTE, f"{name} is among its {name}_PREVIOUS.", "Leave it out.")
    if set(settings.secret_keys) & set(settings.jwt_secrets):
        advice = "Give each its own: whoever verifies tokens could make refresh tokens."
        yield Finding(Level.UNSAFE, "SECRET_KEY and JWT_SECRET are the same.", advice)


def files(patient: Patient) -> Iterator[Finding]:
    """May others read or change what is the service's alone?"""
    for path, what, bad in places.open_to_others(patient.settings):
        level = Level.WARNING if bad == places.GROUP_READS else Level.UNSAFE
        yield Finding(level, f"{path}: {bad} {what}.", f"chmod {places.wanted(path)} {path}")


def disk(patient: Patient) -> Iterator[Finding]:
    """Is there room, on a disk that SQLite's locks work on?"""
    path = patient.settings.database
    if kind := places.network_file_system(path):
        advice = "Move it to a local disk: SQLite's locks don't hold over a network."
        yield Finding(Level.UNSAFE, f"{path} is on a file system of the kind {kind}.", advice)
    free, needed = places.room(path), 2 * sqlite.WAL_BYTES
    size = path.stat().st_size if path.exists() else 0
    if free is None:
        return
    if free < needed:
        what = f"{free >> 20} MiB are free for the database; its log alone may take 64."
        yield Finding(Level.UNSAFE, what, "Make room.")
    elif free < needed + size:
        what = f"{free >> 20} MiB are free: too few for a second database of {size >> 20} MiB."
        yield Finding(Level.WARNING, what, "A backup beside it, or a restore, needs that.")


def clock(patient: Patient) -> Iterator[Finding]:
    """Does time go on from where the database is, and does somebody set it right?"""
    newest = audit.page(patient.db, before=sys.maxsize, limit=1) if patient.db else []
    ahead = newest[0]["at"] - patient.now if newest else 0
    if ahead > 0:
        what = f"The clock is {ahead} s behind the newest row of the audit log."
        advice = "Set it right: what has expired would be good again."
        yield Finding(Level.UNSAFE, what, advice)
    if not clock_is_set():
        what = "The system does not know of anybody who sets its clock right."
        yield Finding(Level.WARNING, what, "Run chrony, or systemd-timesyncd.")


def clock_is_set() -> bool:
    """Whether the kernel takes its clock for right (Linux); True where it can't be asked."""
    try:
        ask = ctypes.CDLL(None).adjtimex
    except (AttributeError, OSError):
        return True
    return bool(ask(ctypes.create_string_buffer(ADJTIMEX_BYTES)) != TIME_ERROR)


def proxies(patient: Patient) -> Iterator[Finding]:
    """Is the client's address what it seems?"""
    settings = patient.settings
    if settings.trusted_proxies and not (settings.loopback or settings.is_socket):
        what = f"Who reaches {settings.bind} past the proxy is believed to be at any address."
        advice = "Let HOST be 127.0.0.1 or a Unix socket, or let a firewall admit the proxy alone."
        yield Finding(Level.WARNING, what, advice)
    if patient.db is None or settings.trusted_proxies:
        return
    signed_in = audit.page(patient.db, action=Action.SIGNED_IN, before=sys.maxsize, limit=SIGN_INS)
    addresses = {row["address"] for row in signed_in}
    users = {row["user_id"] for row in signed_in}
    if len(users) > 1 and len(addresses) == 1 and (address := addresses.pop()) and _inside(address):
        what = f"{len(users)} users have signed in, all from {address}: that seems to be a proxy."
        yield Finding(Level.WARNING, what, "Set TRUSTED_PROXIES, or all clients are one.")


def _inside(address: str) -> bool:
    return ipaddress.ip_address(address).is_private


def metrics(patient: Patient) -> Iterator[Finding]:
    """Who may read the figures?"""
    settings = patient.settings
    if settings.metrics_port and not settings.metrics_loopback:
        what = f"Whoever reaches {settings.metrics_bind} can read the figures."
        yield Finding(Level.WARNING, what, "METRICS_HOST=127.0.0.1, or let nobody reach the port.")


def origins(patient: Patient) -> Iterator[Finding]:
    """May the scripts of any site use the service in their visitors' browsers?"""
    if patient.in_production and patient.settings.cors_origins == ("*",):
        what = "CORS_ORIGINS is *: any site's script can sign in here from its visitors' browsers."
        yield Finding(
            Level.WARNING, what, "Name your front ends: CORS_ORIGINS=https://app.example.com"
        )


def sqlite_version(_patient: Patient) -> Iterator[Finding]:
    """Is SQLite of a version that can lose what was committed?"""
    if sqlite.has_wal_reset_fault(sqlite.VERSION):
        version = ".".join(map(str, sqlite.VERSION))
        what = f"SQLite {version} can, very rarely, damage a database under load (WAL-reset bug)."
        advice = (
            "Use Python with SQLite 3.51.3 or newer (or 3.50.7, 3.44.6), and keep backups:"
            " https://www.sqlite.org/wal.html#walresetbug"
        )
        yield Finding(Level.WARNING, what, advice)


def settings_warned_of(patient: Patient) -> Iterator[Finding]:
    """What is allowed, but unwise?"""
    for warning in patient.settings.warnings:
        yield Finding(Level.WARNING, warning)
    if patient.settings.signup == "open":
        yield Finding(Level.NOTE, "SIGNUP is open: anybody may make an account.")


CHECKS: Final[Mapping[str, Callable[[Patient], Iterator[Finding]]]] = {
    "database": database,
    "demo user": demo_user,
    "admins": admins,
    "secrets": secrets,
    "files": files,
    "disk": disk,
    "clock": clock,
    "proxies": proxies,
    "metrics": metrics,
    "origins": origins,
    "SQLite": sqlite_version,
    "settings": settings_warned_of,
}


def examine(patient: Patient) -> Iterator[tuple[str, Finding]]:
    """What each check finds, in their order. One that fails is a finding, too."""
    for name, check in CHECKS.items():
        try:
            found = list(check(patient)) or [Finding(Level.OK, "")]
        except OSError as error:
            found = [Finding(Level.WARNING, f"It can't be looked at: {error}.")]
        for finding in found:
            yield name, finding
