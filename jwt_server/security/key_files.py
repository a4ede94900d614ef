"""The ring of key pairs in files, one PEM each, `<activation>-<kid>.pem`.

A key is published from the moment that its file is there, signs from its activation on (Unix
time, seconds) until the next one's, and verifies until its file is gone. The names say all of
that, so they are read at each use: a change counts at once, in every process, without a restart.
The times of the files mean nothing.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from jwt_server.errors import KeysUnavailable, NotFound
from jwt_server.files import sync
from jwt_server.security import keys
from jwt_server.security.keys import Jwk, Key, KeyPair, UnusableKey

log = logging.getLogger(__name__)

NAME: Final = re.compile(r"(0|[1-9][0-9]{0,10})-([A-Za-z0-9_-]{43})\.pem", re.ASCII)

DRAFT: Final = ".draft"


@dataclass(frozen=True)
class KeyFile:
    """A key pair, and from when on it signs (Unix time)."""

    path: Path
    activation: int
    pair: KeyPair


@dataclass(frozen=True)
class _Seen:
    """The folder as it was last looked at."""

    names: tuple[str, ...] = ()
    files: tuple[KeyFile, ...] = ()
    mistakes: tuple[str, ...] = ()


@dataclass
class KeyFiles:
    """The keys of one folder, for one algorithm."""

    folder: Path
    algorithm: str
    _seen: _Seen = field(default=_Seen(), repr=False)

    def signing_key(self, now: float) -> Key:
        """The newest key that is active; before any is, the first that will be."""
        return signing_file(self.files(), now).pair.key

    def verifying_key(self, header: Mapping[str, Any]) -> Key | None:
        """The key whose header this is, exactly."""
        return next((f.pair.key for f in self.files() if f.pair.key.header == header), None)

    def holds(self, key: Key) -> bool:
        """Whether the file of a key is still there."""
        return any(file.pair.key is key for file in self.files())

    def jwks(self) -> list[Jwk]:
        """The public half of every key, once where several files hold it."""
        return list({file.pair.kid: file.pair.jwk for file in self.files()}.values())

    def files(self) -> tuple[KeyFile, ...]:
        """The usable keys by activation. An unusable one is left out, with a line in the log, and
        tried again at the next use.

        Raises KeysUnavailable where the folder can't be read, or no key is left.
        """
        names, seen = self.names(), self._seen
        if names != seen.names or seen.mistakes:
            files, mistakes = self._loaded(names)
            for mistake in mistakes:
                if mistake not in seen.mistakes:
                    log.error("%s", mistake)
            # One store: threads that race leave a state that was, and the next use mends it.
            seen = self._seen = _Seen(names, files, mistakes)
        if not seen.files:
            raise KeysUnavailable(
                f"There is no usable key in {self.folder}: the command `keys rotate` makes one."
            )
        return seen.files

    def mistakes(self) -> list[str]:
        """What is wrong with what is there, a sentence each."""
        if not self.folder.exists():
            return []
        try:
            wrong = list(self._loaded(self.names())[1])
        except KeysUnavailable as error:
            return [error.cause]
        if self.folder.stat().st_mode & 0o022:
            wrong.append(f"Others may write to {self.folder}: chmod 700 {self.folder}.")
        return wrong

    def names(self) -> tuple[str, ...]:
        """The files that are there. Raises KeysUnavailable where the folder can't be read."""
        try:
            return tuple(sorted(name for name in os.listdir(self.folder) if name.endswith(".pem")))  # noqa: PTH208 - half the time of pathlib's, and it is spent at each request
        except FileNotFoundError as error:
            raise KeysUnavailable(
                f"There is no folder {self.folder}: the command `keys rotate` makes it, and a key."
            ) from error
        except OSError as error:
            raise KeysUnavailable(f"{self.folder} can't be read: {error.strerror}.") from error

    def _loaded(self, names: tuple[str, ...]) -> tuple[tuple[KeyFile, ...], tuple[str, ...]]:
        known = {file.path.name: file for file in self._seen.files}
        files: list[KeyFile] = []
        mistakes: list[str] = []
        for name in names:
            try:
                files.append(known.get(name) or self._load(self.folder / name))
            except (OSError, UnusableKey) as error:
                mistakes.append(f"The key {self.folder / name} can't be used: {error}")
        files.sort(key=lambda file: (file.activation, file.pair.kid))
        return tuple(files), tuple(mistakes)

    def _load(self, path: Path) -> KeyFile:
        named = NAME.fullmatch(path.name)
        if named is None:
            raise UnusableKey("Its name is not <activation>-<kid>.pem.")
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise UnusableKey("It is no regular file.")  # a pipe would be waited for, for ever
        if mode & 0o077:
            raise UnusableKey(f"Others may read it: chmod 600 {path}.")
        pair = keys.load(self.algorithm, path.read_bytes())
        if pair.kid != named[2]:
            raise UnusableKey(f"Its kid is {pair.kid}.")
        return KeyFile(path, int(named[1]), pair)


def signing_file(files: tuple[KeyFile, ...], now: float) -> KeyFile:
    """Which of the keys signs at this time."""
    active = [file for file in files if file.activation <= now]
    return active[-1] if active else files[0]


def rotate(ring: KeyFiles, now: int, lead: int) -> KeyFile:
    """Add a key that signs after `lead` seconds, when all who verify know it.

    A first one signs at once; the folder is made where it is missing.
    """
    ring.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _add(ring, now + lead if ring.names() else now)


def revoke(ring: KeyFiles, kid: str, now: int) -> KeyFile | None:
    """Take a stolen key away, with every copy of it under another activation. Where it signs, or
    was to be the only one, a new one that signs at once comes first, and is returned.

    Raises NotFound.
    """
    files = ring.files()
    stolen = [file for file in files if file.pair.kid == kid]
    if not stolen:
        raise NotFound(f"There is no key {kid}.")
    new = None
    if len(stolen) == len(files) or signing_file(files, now) in stolen:
        new = _add(ring, now)
    for file in stolen:
        _remove(file)
    return new


def prune(ring: KeyFiles, now: int, longest: int) -> list[KeyFile]:
    """Remove the keys that no live token can need, never the last; those that went.

    A key's last token is of the second before the next one's activation and lives `longest`
    seconds. What a killed `rotate` left half written goes, too.
    """
    gone = [
        file for file, successor in pairwise(ring.files()) if successor.activation + longest <= now
    ]
    for file in gone:
        _remove(file)
    for draft in ring.folder.glob(f"*{DRAFT}"):
        if draft.stat().st_mtime < time.time() - 3600:  # not one that is being written
            draft.unlink(missing_ok=True)
    return gone


def _add(ring: KeyFiles, activation: int) -> KeyFile:
    """Write a new key's file, whole or not at all, for its owner alone."""
    pair = keys.generate(ring.algorithm)
    path = ring.folder / f"{activation}-{pair.kid}.pem"
    draft = path.with_suffix(DRAFT)
    try:
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(keys.dump(pair))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)
    return KeyFile(path, activation, pair)


def _remove(file: KeyFile) -> None:
    file.path.unlink(missing_ok=True)
    sync(file.path.parent)
