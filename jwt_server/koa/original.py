"""The original server's file, opened for reading only, row after row.

Its columns hold whatever was written into them, of any type; who reads them must look.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiosql

from jwt_server.sqlite import OUTAGES, Row, as_dict

QUERIES: Final = aiosql.from_path(Path(__file__).with_name("original.sql"), "sqlite3")


class NotTheOriginals(Exception):
    """The file can't be read as one of the original server; the text says why."""


@contextmanager
def _failures_named(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        outage = getattr(error, "sqlite_errorcode", 0) & 0xFF in OUTAGES - {sqlite3.SQLITE_NOTADB}
        what = "can't be read" if outage else "is no database of the original server"
        raise NotTheOriginals(f"{path} {what}: {error}.") from error


@dataclass(frozen=True)
class Original:
    """One snapshot of the file. Whatever is wrong with it is a NotTheOriginals."""

    path: Path
    driver: sqlite3.Connection

    def count(self) -> int:
        """How many rows there are, users and pets together."""
        with _failures_named(self.path):
            found: int = QUERIES.count(self.driver)
        return found

    def users(self) -> Iterator[Row]:
        """Each user: id, username, password_hash."""
        return self._rows(QUERIES.users.sql)

    def pets(self) -> Iterator[Row]:
        """Each pet: id, user_id, name, species, owner (None where there is no such user)."""
        return self._rows(QUERIES.pets.sql)

    def _rows(self, sql: str) -> Iterator[Row]:
        """One row after another; what fails while a row is looked at is not the file's fault."""
        with _failures_named(self.path):
            cursor = self.driver.execute(sql)
        while True:
            with _failures_named(self.path):
                row: Row | None = cursor.fetchone()
            if row is None:
                return
            yield row


@contextmanager
def opened(path: Path) -> Iterator[Original]:
    """The file for the length of a `with` block, as it is now."""
    with _failures_named(path):
        driver = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    with closing(driver):
        driver.row_factory = as_dict
        # What is no UTF-8 is met where it matters, and named.
        driver.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        driver.isolation_level = None
        with _failures_named(path):
            driver.execute("BEGIN")
        yield Original(path, driver)
