"""`flask doctor`: would the service start, and what is unsafe?

Each check yields its findings as (level, text, advice); none means that all is well. Mistakes in
settings and keys end every command before. What is only likely, or can't be changed on this
machine, is a warning.
"""

import ipaddress
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from jwt_server import audit, backup, migrate, sqlite
from jwt_server.cli import doctor_postgresql
from jwt_server.cli.base import (
    NOTE,
    OK,
    UNSAFE,
    WARNING,
    Finding,
    echo,
    echo_json,
    json_option,
    top,
)
from jwt_server.config import INSTANCE, SECRETS, Settings
from jwt_server.errors import DatabaseUnavailable, KeysUnavailable
from jwt_server.files import others_can_write
from jwt_server.listeners import is_loopback
from jwt_server.security.key_files import load_keys
from jwt_server.users import users
from jwt_server.web.service import Service, current_service

GUESSABLE: Final = re.compile(
    rb"(?i:secret|passw|change|example|default|admin|qwert|testing|jwt[-_]s|your[-_]|travis|horse)"
    rb"|\A[a-z .,'_-]*\Z|\A(.+)\1+\Z", re.DOTALL,
)  # fmt: skip
"""Placeholders, passphrases and repetitions. Words of less than five letters occur by chance."""

MIN_FREE_BYTES: Final = 2 * sqlite.WAL_BYTES
MOUNTS: Final = Path("/proc/self/mountinfo")
LOCAL_DISKS: Final = re.compile(
    "ext[234]|xfs|btrfs|zfs|f2fs|jfs|bcachefs|nilfs2|overlay|aufs|apfs|hfs(plus)?|ntfs3?|fuseblk"
)
NETWORK_FILE_SYSTEMS: Final = re.compile(
    "nfs4?|cifs|smb(3|fs)|9p|k?afs|ceph|gluster(fs)?|lustre|gpfs|beegfs|ocfs2|gfs2|virtiofs"
    "|grpcfuse|fakeowner|vboxsf|prl_fs|vmhgfs|fuse[.].+"
)


def check_database(service: Service) -> Iterator[Finding]:
    """Does the database have this release's schema, and is it writable and intact?"""
    try:
        service.database.engine.check(starting=True)
        with service.database.connection() as db:
            # In this order, as a changed schema could have endless checks.
            if change := migrate.find_schema_change(db.driver):
                text = f"The database's schema was changed: {change}."
                yield UNSAFE, text, "Find out who did so, and undo it, or restore a backup."
            elif damage := backup.find_damage(db.driver):
                yield UNSAFE, f"The database is damaged: {damage}.", "Restore the newest backup."
    except DatabaseUnavailable as error:
        yield UNSAFE, error.cause, ""


def check_users(service: Service) -> Iterator[Finding]:
    """Is there an admin, and has the demo user another password than the documented one?"""
    settings = service.settings
    with service.database.connection() as db:
        if users.demo_user_can_sign_in(db, settings.salt_rounds):
            level = UNSAFE if _is_public(settings) else WARNING
            text = f"Anyone can sign in as {users.DEMO_USERNAME} with the documented password."
            yield level, text, f"users delete {users.DEMO_USERNAME}"
        if db.queries.users.another_admin(id=0) is None:
            yield NOTE, "There is no enabled admin.", "users promote NAME"


def check_secrets(service: Service) -> Iterator[Finding]:
    """Can a token be signed, are the secrets random, and does each have one purpose?"""
    settings = service.settings
    try:
        load_keys(settings).signing_key(service.clock())
    except KeysUnavailable as error:
        yield UNSAFE, error.cause, ""
    for name, secrets in zip(SECRETS, (settings.secret_keys, settings.jwt_secrets), strict=True):
        for number, secret in enumerate(secrets):
            if GUESSABLE.search(secret):
                text = f"{name}{'_PREVIOUS' if number else ''} can be guessed: it repeats itself or"
                yield UNSAFE, f"{text} has a common word.", "Try: openssl rand -base64 48"
    if set(settings.secret_keys) & set(settings.jwt_secrets):
        advice = "Use two: a verifier of access tokens could forge refresh tokens."
        yield UNSAFE, "SECRET_KEY and JWT_SECRET are the same.", advice


def check_files(service: Service) -> Iterator[Finding]:
    """Can other users of this machine read or change the service's files?"""
    for path in filter(Path.exists, _private_paths(service)):
        mode, is_folder = path.stat().st_mode, path.is_dir()
        advice = f"chmod {700 if is_folder else 600} {path}"
        if others_can_write(path):
            yield UNSAFE, f"Others can change {path}.", advice
        elif mode & 0o004 and not is_folder:
            yield UNSAFE, f"Every user of this machine can read {path}.", advice
        elif mode & 0o040 and not is_folder:
            yield WARNING, f"Its group can read {path}.", advice


def _private_paths(service: Service) -> Iterator[Path]:
    file = service.settings.database
    yield from sorted({INSTANCE.absolute(), *([file.parent] if isinstance(file, Path) else [])})
    yield Path(".env")
    for name, generated in SECRETS.items():
        yield generated
        files = (os.environ.get(variable) for variable in (f"{name}_FILE", f"{name}_PREVIOUS_FILE"))
        yield from (Path(file) for file in files if file)
    yield from service.database.engine.files()


def check_disk(service: Service) -> Iterator[Finding]:
    """Is the database on a local disk with room?"""
    path = service.settings.database
    if not isinstance(path, Path):
        return
    if (kind := _file_system(path.parent)) and not LOCAL_DISKS.fullmatch(kind):
        level = UNSAFE if NETWORK_FILE_SYSTEMS.fullmatch(kind) else WARNING
        advice = "Move it to a local disk: elsewhere locks may fail, or files may not last."
        yield level, f"{path} is on {kind}, which is not known to be a local disk.", advice
    free, size = shutil.disk_usage(path.parent).free, path.stat().st_size if path.exists() else 0
    text = f"{free >> 20} MiB are free on the disk of the database ({size >> 20} MiB)."
    if free < MIN_FREE_BYTES:
        yield UNSAFE, text, f"Free {MIN_FREE_BYTES >> 20} MiB for its log."
    elif free < MIN_FREE_BYTES + size:
        yield WARNING, text, "A restore, or a backup beside it, needs more."


def _file_system(path: Path) -> str:
    """Return the type of the file system that a path is on, or "" if /proc does not tell."""
    device = path.stat().st_dev
    line = rf"^\d+ \d+ {os.major(device)}:{os.minor(device)} .* - (\S+)"  # proc_pid_mountinfo(5)
    found = MOUNTS.exists() and re.search(line, MOUNTS.read_text(), re.MULTILINE)
    return found[1] if found else ""


def check_audit_log(service: Service) -> Iterator[Finding]:
    """Do the newest sign-ins come from more than one address?"""
    with service.database.connection() as db:
        sign_ins = audit.page(db, audit.Selection(action=audit.Action.SIGNED_IN), limit=100)
    user_ids, addresses = ({row[column] for row in sign_ins} for column in ("user_id", "address"))
    addresses.discard(None)  # of deleted users
    is_shared = len(addresses) == 1 < len(user_ids)
    if is_shared and (not (address := addresses.pop()) or ipaddress.ip_address(address).is_private):
        text = f"{len(user_ids)} users signed in, all from {address or 'an unknown address'}."
        yield WARNING, text, "If it is a proxy, correct TRUSTED_PROXIES: all share their limits."


def check_settings(service: Service) -> Iterator[Finding]:
    """Which settings are allowed but unwise?"""
    settings = service.settings
    yield from ((WARNING, warning, "") for warning in settings.warnings)
    if settings.trusted_proxies and not (is_loopback(settings.host) or settings.is_socket):
        text = f"Clients that reach {settings.host} directly can forge their address."
        yield WARNING, text, "Set HOST to 127.0.0.1, or let a firewall admit the proxy only."
    if settings.metrics_port and not is_loopback(settings.metrics_host):
        text = f"Everyone who reaches {settings.metrics_host} can read the metrics."
        yield WARNING, text, f"Set METRICS_HOST=127.0.0.1, or block port {settings.metrics_port}."
    if _is_public(settings) and settings.cors_origins == ("*",):
        text = "CORS_ORIGINS is *: scripts of any site can use the service."
        yield WARNING, text, "Set CORS_ORIGINS=https://app.example.com"
    if settings.signup == "open":
        yield NOTE, "SIGNUP is open: everyone can create an account.", ""


def _is_public(settings: Settings) -> bool:
    """Return whether other machines can use the service, directly or by a proxy."""
    return not is_loopback(settings.host) or settings.trusted_proxies > 0


CHECKS: Final[dict[str, Callable[[Service], Iterator[Finding]]]] = {
    "database": check_database,
    "users": check_users,
    "secrets": check_secrets,
    "files": check_files,
    "disk": check_disk,
    "audit log": check_audit_log,
    "settings": check_settings,
}

OF_SQLITE: Final = ("database", "disk")


def _checks() -> dict[str, Callable[[Service], Iterator[Finding]]]:
    """Return the checks of this database."""
    if current_service().database.engine.dialect == "sqlite":
        return CHECKS
    rest = {name: check for name, check in CHECKS.items() if name not in OF_SQLITE}
    return doctor_postgresql.CHECKS | rest


def _run_check(check: Callable[[Service], Iterator[Finding]]) -> list[Finding]:
    """Return the findings of a check, or OK."""
    try:
        return list(check(current_service())) or [(OK, "", "")]
    except DatabaseUnavailable:
        return [(NOTE, "Skipped, as the database can't be used.", "")]
    except (OSError, current_service().database.engine.error) as error:  # of a changed table, say
        return [(WARNING, f"It can't be checked: {' '.join(str(error).split())}.", "")]


@top.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Check whether the service would start, and what is unsafe.

    Example: doctor && systemctl restart jwt-server

    Checks the database, users, secrets, file modes, disk, audit log and settings, of PostgreSQL
    also the server, the connection and the standbys. Run it as
    the service's user, in its folder. Exit code 1: something is UNSAFE. Wrong settings or keys end
    it, like every command, with 3.
    """
    levels = set()
    findings = (
        (name, *finding) for name, check in _checks().items() for finding in _run_check(check)
    )
    for name, level, text, advice in findings:
        levels.add(level)
        if as_json:
            echo_json({"check": name, "level": level, "what": text, "advice": advice})
        else:
            echo(f"{level:<8} {name:<10} {text}".rstrip())
            if advice:
                echo(f"{'':<19} {advice}")
    if UNSAFE in levels:
        raise SystemExit(1)
