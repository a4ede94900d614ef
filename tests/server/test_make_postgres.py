"""`make postgres`: a private PostgreSQL cluster for development."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import psycopg
import pytest

from tests.helpers import processes
from tests.helpers.postgresql_programs import require
from tests.helpers.server import START_SECONDS, environment
from tests.helpers.waiting import until

pytestmark = pytest.mark.hosts


def test_it_prints_the_url_of_a_database_and_ctrl_c_deletes_it(tmp_path: Path) -> None:
    require("initdb")
    output, errors = tmp_path / "output", tmp_path / "errors"
    output.touch()
    process = processes.start(
        tmp_path, environment(tmp_path, {}), (Path(os.devnull), output, errors),
        "tests.helpers.development_cluster",
    )  # fmt: skip
    try:
        until(lambda: output.read_text() != "", START_SECONDS)
        printed = output.read_text()
        [url] = re.findall(r"^export DATABASE_URL=(postgresql://\S+)$", printed, re.MULTILINE)
        [folder] = re.findall(r" in (\S+)\. ", printed)
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE pets (name text)")
            assert connection.execute("SELECT current_setting('fsync')").fetchone() == ("on",)
        assert Path(folder).exists()
    finally:
        process.send_signal(signal.SIGINT)

    assert process.wait(timeout=60) == 0
    assert not Path(folder).exists()
    assert errors.read_text() == ""
