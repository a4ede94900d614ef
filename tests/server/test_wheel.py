"""The wheel, installed in an environment of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.helpers.factories import SETTINGS
from tests.helpers.server import ROOT, free_port, wait_for

pytestmark = pytest.mark.slow

NOT_COPIED = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "instance")


def environment(**extra: str) -> dict[str, str]:
    """Return the user's environment, which may name a package index, without our settings."""
    removed = {*SETTINGS, "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in removed} | extra


def run(*command: str | Path, cwd: Path, typed: str | None = None, **extra: str) -> str:
    done = subprocess.run(  # noqa: S603 - our own command
        command, cwd=cwd, env=environment(**extra), input=typed,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("wheel") / "source"
    shutil.copytree(ROOT, source, ignore=NOT_COPIED, symlinks=True)
    uv = (sys.executable, "-m", "uv")
    run(*uv, "build", "--wheel", "--no-build-isolation", "--out-dir", "../dist", cwd=source)
    [path] = (source.parent / "dist").glob("*.whl")
    return path


DEPLOYMENT = (ROOT / "docs" / "deployment.md").read_text().split("## In short")[1]
PASTED = DEPLOYMENT.split("```sh\n")[1].split("```")[0]


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """Run the README's deployment but for its last line, which serves; returns its bin folder."""
    folder = wheel.parent
    shutil.copy(ROOT / "requirements.txt", folder)
    *lines, _serve = PASTED.splitlines()
    # uv installs the same as pip from the lock, ten times faster.
    pip = f"{sys.executable} -m uv pip install --quiet --python env/bin/python"
    script = "\n".join(lines).replace("python3 -m venv", f"{sys.executable} -m venv")
    try:
        run("/bin/sh", "-ec", script.replace("env/bin/pip install", pip), cwd=folder)
    except AssertionError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"can't install from PyPI here: {str(error)[-200:]}")
    run(sys.executable, "-m", "uv", "pip", "check", "--python", "env/bin/python", cwd=folder)
    return folder / "env" / "bin"


@contextmanager
def serving(command: tuple[str | Path, ...], cwd: Path, extra: Mapping[str, str]) -> Iterator[str]:
    """Run a server by this command; yields its address."""
    port = free_port()
    log_file = cwd / "log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, cwd=cwd, env=environment(PORT=str(port), METRICS_PORT="0", **extra),
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_for(port, process, log_file)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def get(url: str, token: str | None = None, body: bytes | None = None) -> str:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - our own server
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        return str(response.read().decode())


def check_description(address: str) -> None:
    assert json.loads(get(f"{address}/openapi.json"))["openapi"] == "3.1.0"
    linked = re.findall(r'(?:src|href)="(/docs/[^"]+)"', get(f"{address}/docs"))
    assert len(linked) == 4
    for path in linked:
        assert get(f"{address}{path}")


def test_the_wheel_has_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "jwt_server").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }

    assert packed == tracked | {"jwt_server/schema.sql", "jwt_server/seed.sql"}  # by setup.py


def test_one_command_creates_what_is_missing_and_serves(installed: Path, tmp_path: Path) -> None:
    command = (installed / "python", "-m", "jwt_server")
    with serving(command, tmp_path, {"SALT_ROUNDS": "4"}) as address:
        token = get(f"{address}/auth", body=b"username=travis&password=mypassword")
        assert "Bunny" in get(f"{address}/my-pets", token)
        check_description(address)
        made = {path.name for path in (tmp_path / "instance").iterdir()}

    assert {"jwt-server.db", "jwt_secret", "secret_key"} <= made


def test_the_readmes_deployment_works(installed: Path) -> None:
    folder = installed.parent.parent
    flask = ("env/bin/flask", "--app", "jwt_server.wsgi")
    assert json.loads(run(*flask, "users", "show", "ada", "--json", cwd=folder))["admin"]
    assert (folder / "jwt_secret").stat().st_mode & 0o777 == 0o600
    password = "correct horse battery"
    run(*flask, "users", "passwd", "ada", "--password-stdin", cwd=folder, typed=password)

    with serving((PASTED.splitlines()[-1],), folder, {}) as address:
        token = get(f"{address}/auth", body=f"username=ada&password={password}".encode())
        assert get(f"{address}/my-pets", token) == "[]"
        check_description(address)


def test_the_installed_command_upgrades_an_older_database(installed: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db")) as driver:
        driver.executescript((ROOT / "tests" / "data" / "schema-1.sql").read_text())
    extra = {"SECRET_KEY": "s" * 32, "JWT_SECRET": "j" * 32, "DATABASE_URL": "sqlite:///old.db"}

    flask = (installed / "flask", "--app", "jwt_server.wsgi")
    said = run(*flask, "db", "upgrade", cwd=tmp_path, **extra)

    assert said.startswith("Applied: 0002.")
