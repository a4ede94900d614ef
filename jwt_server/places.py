"""Where the service's files are: who may read and change them, and on what disk they lie."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from jwt_server.config import INSTANCE, SECRETS, Settings, generated_secret, read_environment

GROUP_READS: Final = "its group can read"
OTHERS_READ: Final = "anybody on this machine can read"
OTHERS_WRITE: Final = "others can change"

NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs"}
)
"""File systems on which SQLite's locks are not to be relied on."""

MOUNTS: Final = Path("/proc/self/mountinfo")


def open_to_others(settings: Settings) -> Iterator[tuple[Path, str, str]]:
    """Each place that is open to others than its owner: which, what is in it, and how."""
    for path, what in chain(_files(settings), _folders(settings)):
        if path.exists() and (bad := _openness(path)):
            yield path, what, bad


def _files(settings: Settings) -> Iterator[tuple[Path, str]]:
    env = read_environment()
    for name in SECRETS:
        yield Path(env.str(f"{name}_FILE", str(generated_secret(name)))), "a secret"
        if previous := env.str(f"{name}_PREVIOUS_FILE", None):
            yield Path(previous), "a secret"
    yield Path(".env"), "the settings"
    for pem in sorted(settings.jwt_keys_dir.glob("*.pem")):
        yield pem, "a private key"
    # The database itself, its log, and what was kept or copied beside.
    for path in sorted(settings.database.parent.glob(f"{settings.database.name}*")):
        yield path, "names and password hashes"


def _folders(settings: Settings) -> Iterator[tuple[Path, str]]:
    folders = {INSTANCE.absolute(), settings.database.parent, settings.jwt_keys_dir}
    for folder in sorted(folders):
        yield folder, "what files there are"


def _openness(path: Path) -> str | None:
    mode = path.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return OTHERS_WRITE
    if stat.S_ISDIR(mode):
        return None  # to list names does no harm; the files have modes of their own
    if mode & stat.S_IROTH:
        return OTHERS_READ
    return GROUP_READS if mode & stat.S_IRGRP else None


def wanted(path: Path) -> str:
    """The mode that a place should have."""
    return "700" if path.is_dir() else "600"


def room(path: Path) -> int | None:
    """How many bytes are free where a file is, or is to be; None where its folder is missing."""
    try:
        return shutil.disk_usage(path.parent).free
    except FileNotFoundError:
        return None


def network_file_system(path: Path, mounts: Path = MOUNTS) -> str | None:
    """The kind of the network file system that a file is on, if it is on one (Linux)."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    kind = max(((point, kind) for point, kind in map(_mount, lines) if _below(path, point)),
               key=lambda each: len(each[0].parts))[1]  # fmt: skip
    return kind if kind in NETWORK else None


def _mount(line: str) -> tuple[Path, str]:
    """Where something is mounted, and its kind (proc(5), mountinfo)."""
    mounted, _, rest = line.partition(" - ")
    point = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), mounted.split()[4])
    return Path(point), rest.split()[0]


def _below(path: Path, point: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(point)
