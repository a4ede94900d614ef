"""Key pairs in a folder, one PEM each, named `<activation>-<kid>.pem`.

A key is published as soon as its file exists, signs from its activation (Unix time) until that of
the next key, and verifies until its file is deleted. The folder is listed at each use, so that a
change counts at once, in every process, without a restart.
"""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from jwt_server.config import Settings
from jwt_server.errors import ConfigurationError, KeysUnavailable, NotFound
from jwt_server.files import others_can_write, sync, write_atomically
from jwt_server.security import keys
from jwt_server.security.keys import ACCESS_TOKEN_TYPE, Jwk, Key, SharedSecrets, UnusableKey

log = logging.getLogger(__name__)

NAME: Final = re.compile(r"(0|[1-9][0-9]{0,10})-([A-Za-z0-9_-]{43})\.pem", re.ASCII)


@dataclass(frozen=True)
class KeyFile:
    """A key pair, and the Unix times when it was created and from which on it signs."""

    path: Path
    activation: int
    key: Key
    created_at: int


@dataclass
class KeyFolder:
    """The key set of a folder, for one algorithm."""

    path: Path
    algorithm: str
    _files: dict[str, KeyFile] = field(default_factory=dict, repr=False)
    """The usable keys when the folder was last listed, by name."""
    _mistakes: list[str] = field(default_factory=list, repr=False)

    def signing_key(self, now: float) -> Key:
        """Return the newest active key; before any is active, the first that will be."""
        return signing_file(self.files(), now).key

    def verifying_key(self, header: Mapping[str, Any]) -> Key | None:
        """Return the key with exactly this header, of either type of token."""
        for file in self.files():
            if header in (file.key.header, {**file.key.header, "typ": ACCESS_TOKEN_TYPE}):
                return file.key
        return None

    def contains(self, key: Key) -> bool:
        """Return whether the file of this key still exists."""
        return any(file.key is key for file in self.files())

    def jwks(self) -> list[Jwk]:
        """Return the public keys, each once even if several files hold it."""
        return list({file.key.kid: file.key.jwk for file in self.files()}.values())

    def files(self) -> list[KeyFile]:
        """Return the usable keys by activation.

        An unusable one is logged once, and tried again at each use. Raises KeysUnavailable if the
        folder can't be read, or has no usable key.
        """
        names, files = self.names(), self._files
        if names != files.keys():
            files, mistakes = self._load_all(names)
            for mistake in set(mistakes).difference(self._mistakes):
                log.error("%s", mistake)
            self._files, self._mistakes = files, mistakes
        if not files:
            raise KeysUnavailable(f"There is no usable key in {self.path}: run `keys rotate`.")
        return list(files.values())

    def mistakes(self) -> list[str]:
        """Return what is wrong with the folder, one sentence each; nothing if it is missing."""
        if not self.path.exists():
            return []
        try:
            _, found = self._load_all(self.names())
        except KeysUnavailable as error:
            return [error.cause]
        if others_can_write(self.path):
            found.append(f"Others may write to {self.path}: chmod 700 {self.path}.")
        return found

    def names(self) -> set[str]:
        """Return the names of the key files. Raises KeysUnavailable if the folder can't be read."""
        try:
            return {name for name in os.listdir(self.path) if name.endswith(".pem")}  # noqa: PTH208 - half the time of pathlib's, at each request
        except OSError as error:
            raise KeysUnavailable(
                f"The key folder {self.path} can't be read: {error.strerror}."
                " If it is missing, run `keys rotate`, or copy the folder of another host."
            ) from error

    def _load_all(self, names: set[str]) -> tuple[dict[str, KeyFile], list[str]]:
        """Return the usable keys by activation, and what is wrong with the others."""
        files: list[KeyFile] = []
        mistakes: list[str] = []
        for name in sorted(names):
            try:
                files.append(self._files.get(name) or self._load(self.path / name))
            except (OSError, UnusableKey) as error:
                mistakes.append(f"The key {self.path / name} can't be used: {error}")
        files.sort(key=lambda file: (file.activation, file.key.kid))
        return {file.path.name: file for file in files}, mistakes

    def _load(self, path: Path) -> KeyFile:
        match = NAME.fullmatch(path.name)
        if match is None:
            raise UnusableKey("Its name is not <activation>-<kid>.pem.")
        if not path.is_file():  # opening a FIFO would wait for a writer
            raise UnusableKey("It is not a regular file.")
        status = path.stat()
        if status.st_mode & 0o027:  # Kubernetes lets the group read
            raise UnusableKey(f"Others may read or change it: chmod 600 {path}.")
        key = keys.load(self.algorithm, path.read_bytes())
        if key.kid != match[2]:
            raise UnusableKey(f"Its kid is {key.kid}.")
        return KeyFile(path, int(match[1]), key, int(status.st_mtime))


KeySet = SharedSecrets | KeyFolder


def load_keys(settings: Settings) -> KeySet:
    """Load the keys of access tokens. Raises ConfigurationError with a line per unusable key."""
    if settings.jwt_algorithm == SharedSecrets.algorithm:
        return SharedSecrets(settings.jwt_secrets)
    folder = KeyFolder(settings.jwt_keys_dir, settings.jwt_algorithm)
    if mistakes := folder.mistakes():
        raise ConfigurationError(mistakes)
    return folder


def signing_file(files: list[KeyFile], now: float) -> KeyFile:
    """Return the key that signs at this time."""
    active = [file for file in files if file.activation <= now]
    return active[-1] if active else files[0]


def state_of(file: KeyFile, signing: KeyFile) -> str:
    """Return what a key does beside the one that signs: `signs`, `next` or `verifies`."""
    if file == signing:
        return "signs"
    return "next" if file.activation > signing.activation else "verifies"


def rotate(folder: KeyFolder, now: int, lead: int) -> KeyFile:
    """Add a key that signs in `lead` seconds, or at once if it is the first."""
    folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _add(folder, now + lead if folder.names() else now)


def revoke(folder: KeyFolder, kid: str, now: int) -> KeyFile | None:
    """Delete every file of a stolen key.

    If it signs, or no other key exists, first add one that signs at once and return it. Raises
    NotFound.
    """
    files = folder.files()
    stolen = [file for file in files if file.key.kid == kid]
    if not stolen:
        raise NotFound(f"There is no key {kid}.")
    must_replace = len(stolen) == len(files) or signing_file(files, now) in stolen
    new = _add(folder, now) if must_replace else None
    _delete(stolen)
    return new


def prune(folder: KeyFolder, now: int, longest_ttl: int) -> list[KeyFile]:
    """Delete the keys whose last token has expired, never the last key, and return them.

    The last token of a key is issued in the second before the next key's activation.
    """
    expired = [
        file
        for file, successor in pairwise(folder.files())
        if successor.activation + longest_ttl <= now
    ]
    _delete(expired)
    return expired


def _add(folder: KeyFolder, activation: int) -> KeyFile:
    key = keys.generate(folder.algorithm)
    path = folder.path / f"{activation}-{key.kid}.pem"
    write_atomically(path, keys.dump(key))
    return KeyFile(path, activation, key, int(path.stat().st_mtime))


def _delete(files: list[KeyFile]) -> None:
    for file in files:
        file.path.unlink(missing_ok=True)
        sync(file.path.parent)
