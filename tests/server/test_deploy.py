"""The files of deploy/ fit the service, and the checkout and the package are complete."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from jwt_server.config import process_settings
from tests.helpers.databases import database_in, delete_database
from tests.helpers.factories import SETTINGS
from tests.helpers.server import BASE_ENVIRONMENT, ROOT, running

DEPLOY = {path.name: path.read_text() for path in (ROOT / "deploy").iterdir()}
WALK = "".join((ROOT / "docs" / f"{page}.md").read_text() for page in ("deployment", "operations"))
UNIT = DEPLOY["jwt-server.service"]


@pytest.mark.parametrize("text", [*DEPLOY.values(), WALK], ids=[*DEPLOY, "deployment.md"])
def test_all_settings_that_are_set_exist(text: str) -> None:
    others = {"PATH", "PYTHONDONTWRITEBYTECODE", "END", "CREDENTIALS_DIRECTORY",
              "FLASK_SKIP_DOTENV"}  # fmt: skip
    names = re.findall(r"\b([A-Z][A-Z_]{3,})(?:=|: )[\w/\"]", text)

    assert {name for name in names if "_" in name} - others <= set(SETTINGS)


def test_every_file_is_documented() -> None:
    for name in DEPLOY:
        assert name in WALK or name == "nginx-auth-request.conf", name


def test_files_that_are_named_exist() -> None:
    for path in re.findall(r"\.\./deploy/([\w.-]+)", WALK):
        assert path in DEPLOY
    for source in re.findall(r"^COPY (?!--)(\S+)", DEPLOY["Dockerfile"], re.MULTILINE):
        assert (ROOT / source).exists()
    assert (ROOT / "deploy" / "../deploy/Dockerfile").exists()


def test_the_timeouts_of_systemd_nginx_and_gunicorn_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BASE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    gunicorn = runpy.run_path(str(ROOT / "gunicorn.conf.py"))

    stop = int(re.findall(r"TimeoutStopSec=(\d+)", UNIT)[0])
    read = int(re.findall(r"proxy_read_timeout (\d+)s", DEPLOY["jwt-server-proxy.conf"])[0])
    assert stop > gunicorn["graceful_timeout"]
    assert gunicorn["graceful_timeout"] >= read > gunicorn["settings"].hash_wait
    assert gunicorn["keepalive"] > 60  # nginx's own for an upstream, where nothing is said
    assert "keepalive_timeout" not in DEPLOY["nginx.conf"].split("server {")[0]


def test_idle_connections_are_kept_as_long_as_the_setting_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (BASE_ENVIRONMENT | {"KEEP_ALIVE": "620"}).items():
        monkeypatch.setenv(name, value)

    process_settings.cache_clear()
    gunicorn = runpy.run_path(str(ROOT / "jwt_server" / "gunicorn" / "conf.py"))
    process_settings.cache_clear()

    assert gunicorn["keepalive"] == 620


def test_the_unit_allows_what_the_service_does() -> None:
    # Its socket, its cores, the priority of hashing.
    allowed = UNIT.rindex("SystemCallFilter=@chown sched_setaffinity setpriority")
    assert allowed > UNIT.index("SystemCallFilter=~@privileged")
    assert "AF_UNIX" in UNIT
    assert "WorkingDirectory=/var/lib/jwt-server" in UNIT  # where the walk puts .env
    assert "/var/lib/jwt-server/.env" in WALK
    assert "ExecStart=/opt/jwt-server/bin/jwt-server\n" in UNIT


def test_nothing_runs_as_root_and_no_secret_is_in_the_image() -> None:
    assert "User=jwt-server" in UNIT
    assert re.search(r"^USER [1-9][0-9]+$", DEPLOY["Dockerfile"], re.MULTILINE)
    for text in DEPLOY.values():
        assert not re.search(r"(JWT_SECRET|SECRET_KEY)[=:] ?[\"\w]", text)
    for name in ("jwt_secret", "secret_key"):
        for ignored in (".gitignore", ".dockerignore"):
            assert f"deploy/{name}" in (ROOT / ignored).read_text().splitlines()


def test_systemd_owns_the_socket_that_nginx_and_the_settings_name() -> None:
    socket = DEPLOY["jwt-server.socket"]
    [path] = re.findall(r"^ListenStream=(\S+)$", socket, re.MULTILINE)

    assert f"server unix:{path};" in DEPLOY["nginx.conf"]
    assert f"HOST=unix:{path}" in WALK
    assert "SocketMode=0660" in socket
    assert "SocketGroup=jwt-server-proxy" in socket  # other programs of www-data are not in it
    assert "groupadd --system jwt-server-proxy" in WALK
    assert "user www-data jwt-server-proxy;" in WALK
    assert "Requires=jwt-server.socket" in UNIT
    assert "\nRuntimeDirectory" not in UNIT  # systemd would delete the socket at each stop


def dockerfile() -> dict[str, list[str]]:
    """Return the arguments of each instruction of the Dockerfile."""
    lines = re.sub(r"\\\n", "", re.sub(r"^#.*\n", "", DEPLOY["Dockerfile"], flags=re.MULTILINE))
    found: dict[str, list[str]] = {}
    for line in filter(None, lines.splitlines()):
        instruction, _, arguments = line.partition(" ")
        found.setdefault(instruction, []).append(arguments)
    return found


def test_the_health_check_asks_the_port_of_the_service_and_no_proxy(tmp_path: Path) -> None:
    [check] = dockerfile()["HEALTHCHECK"]
    _, *arguments = json.loads(check.partition(" CMD ")[2])

    def is_healthy(port: int) -> bool:
        proxy = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), "http://127.0.0.1:9")
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, *arguments],
            env=proxy | {"PORT": str(port)}, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode == 0

    with running(tmp_path, BASE_ENVIRONMENT) as server:
        assert is_healthy(server.port)
        delete_database(database_in(tmp_path))
        assert not is_healthy(server.port)
    assert not is_healthy(server.port)


def test_all_that_the_image_installs_has_a_hash() -> None:
    steps = [step.strip() for run in dockerfile()["RUN"] for step in run.split("&&")]

    for step in steps:
        if re.search(r"\bpip (install|wheel)\b", step):
            assert "--require-hashes" in step or "--no-deps" in step
        if "pip wheel" in step:
            assert "--no-build-isolation" in step
    [name, *hashes] = (ROOT / "requirements-build.txt").read_text().split("\\\n")
    assert name.startswith("setuptools==")
    assert name in (ROOT / "requirements-dev.txt").read_text()
    assert hashes
    assert all(each.strip().startswith("--hash=sha256:") for each in hashes)


def test_an_arbitrary_user_of_group_0_can_write_to_the_volume() -> None:
    [run] = [run for run in dockerfile()["RUN"] if "useradd" in run]

    assert "--mode 0770 --owner jwt-server --group 0 /data" in run
    assert "--gid 0" in run


def test_the_sites_of_nginx_can_be_used_together() -> None:
    declared = [
        set(re.findall(r"^(?:map .* \$|upstream )(\w+) {", DEPLOY[name], re.MULTILINE))
        for name in ("nginx.conf", "nginx-auth-request.conf")
    ]

    assert all(declared)
    assert not set.intersection(*declared)  # the later one would silently win


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_the_checkout_has_no_symbolic_link() -> None:
    files = subprocess.run(
        ["git", "ls-files", "--stage"],  # noqa: S607 - wherever git is installed
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip

    assert files
    assert [line for line in files if line.startswith("120000")] == []


def test_the_package_contains_the_sql_files(tmp_path: Path) -> None:
    subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip

    for name in ("schema.sql", "seed.sql"):
        assert (tmp_path / "jwt_server" / name).read_bytes() == (ROOT / name).read_bytes()
