"""The wheel, installed in an environment of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import pytest

from tests.helpers.disks import ON_DISK
from tests.helpers.factories import SETTINGS
from tests.helpers.server import ROOT
from tests.helpers.waiting import free_port

pytestmark = pytest.mark.slow

NOT_COPIED = shutil.ignore_patterns(
    ".*", "build", "*.egg-info", "__pycache__", "instance", "node_modules"
)


def environment(**extra: str) -> dict[str, str]:
    """Return the user's environment, which may name a package index, without our settings."""
    removed = {*SETTINGS, "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in removed} | extra


def run(*command: str | Path, cwd: Path, **extra: str) -> str:
    done = subprocess.run(  # noqa: S603 - our own command
        command, cwd=cwd, env=environment(**extra), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder on a disk, which `doctor` asks for, that every user can enter."""
    with TemporaryDirectory(dir=ON_DISK) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=NOT_COPIED, symlinks=True)
    uv = (sys.executable, "-m", "uv")
    run(*uv, "build", "--wheel", "--no-build-isolation", "--out-dir", "../dist", cwd=source)
    [path] = (source.parent / "dist").glob("*.whl")
    return path


BY_SETUP = {f"jwt_server/{name}" for name in ("schema.sql", "schema.postgresql.sql", "seed.sql")}

DEPLOYMENT = (ROOT / "docs" / "deployment.md").read_text()
SECTIONS = {
    title: re.findall("```sh\n(.*?)```", text, re.DOTALL)
    for title, text in re.findall(
        r"^## ([^\n]+)(.*?)(?=^## )", DEPLOYMENT, re.DOTALL | re.MULTILINE
    )
}
"""The commands of each section of the page."""
INSTALL, *_ = SECTIONS["In short"][0].partition("(umask")
*SET_UP, SERVE = SECTIONS["In short"][0].removeprefix(INSTALL).splitlines()


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """Install the wheel as the page says; returns the environment's bin folder."""
    folder = wheel.parent
    shutil.copy(ROOT / "requirements.txt", folder)
    # uv installs the same as pip from the lock, ten times faster.
    uv = f"{sys.executable} -m uv --system-certs pip"
    script = INSTALL.replace("env/bin/pip install", f"{uv} install --quiet --python env")
    script = script.replace("python3 -m venv", f"{sys.executable} -m venv --without-pip")
    try:
        run("/bin/sh", "-ec", script, cwd=folder)
    except AssertionError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"can't install from PyPI here: {str(error)[-200:]}")
    run("/bin/sh", "-ec", f"{uv} check --python env", cwd=folder)
    return folder / "env" / "bin"


def test_the_wheel_has_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "jwt_server").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }

    assert packed == tracked | BY_SETUP


def test_the_installed_command_upgrades_an_older_database(installed: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db")) as driver:
        driver.executescript((ROOT / "tests" / "data" / "schema-1.sql").read_text())
    extra = {"SECRET_KEY": "s" * 32, "JWT_SECRET": "j" * 32, "DATABASE_URL": "sqlite:///old.db"}

    flask = (installed / "flask", "--app", "jwt_server.wsgi")
    said = run(*flask, "db", "upgrade", cwd=tmp_path, **extra)

    assert said.startswith("Applied: 0002.")


def findings(output: str) -> list[str]:
    """Return the lines of `doctor` that are not ok."""
    checks = re.findall(r"^(?:ok|note|WARNING|UNSAFE) .*$", output, re.MULTILINE)
    assert len(checks) >= 7
    return [line for line in checks if not line.startswith("ok")]


PRIVATE = """\
# The machine's folders, with changes that nobody else sees and that end with this process.
mount -t tmpfs tmpfs /mnt
for folder in etc opt var home root usr/local; do
    mkdir -p /mnt/$folder/upper /mnt/$folder/work
    mount -t overlay -o lowerdir=/$folder,upperdir=/mnt/$folder/upper,workdir=/mnt/$folder/work \\
        overlay /$folder
done
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
ip link set lo up
echo '127.0.0.1 auth.example.com' >> /etc/hosts
chmod a+x /root   # where this Python may be
"""


NAMESPACES = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


@cache
def may_be_private() -> bool:
    """Whether this process may run others with folders, network and processes of their own."""
    probe = [*NAMESPACES, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if os.geteuid() != 0:
        return False
    return subprocess.run(probe, check=False, capture_output=True).returncode == 0  # noqa: S603 - our own


def run_private(script: str, cwd: Path) -> str:
    """Run a script as root with folders, network and processes of its own."""
    return run(*NAMESPACES, "/bin/sh", "-ec", PRIVATE + script, cwd=cwd)


PAGES = (
    "/docs,/docs/docs.css,/docs/docs.js,/docs/swagger-ui-bundle.js,/docs/swagger-ui.css"
    ",/admin/,/admin/app.js,/admin/admin.css,/client.js"
)
SIGN_IN = f"""\
PORT=$0 WORKERS=1 METRICS_PORT=0 {SERVE} 2>log &
curl --silent --fail --retry 60 --retry-delay 1 --retry-connrefused localhost:$0/readyz
echo --
password=$(sed -n 's/^Password: //p' said)
token=$(curl --silent --fail --data "username=ada&password=$password" localhost:$0/auth)
curl --silent --fail --header "Authorization: Bearer $token" localhost:$0/me
echo
curl --silent --fail localhost:$0/openapi.json
echo
curl --silent --fail --output /dev/null --write-out '%{{http_code}} ' "localhost:$0{{{PAGES}}}"
kill $!; wait
"""


def test_the_deployment_in_short_serves_as_an_ordinary_user(installed: Path, folder: Path) -> None:
    """As the one who runs the tests where these can't have a user of their own."""
    home = folder / "home"
    home.mkdir()
    (home / "script").write_text("\n".join(["(", *SET_UP, ") > said; cat said", SIGN_IN]))
    command = f"cd {home}; ln -s {installed.parent} env; . ./script"
    if may_be_private():
        output = run_private(
            f"""useradd --shell /bin/sh somebody; chown somebody {home}
            exec runuser --login somebody -- -ec '{command}' {free_port()}""",
            folder,
        )
    else:
        output = run("/bin/sh", "-ec", command, str(free_port()), cwd=home)

    done, _, responses = output.rpartition("--\n")
    me, description, statuses = responses.splitlines()
    assert findings(done) == []
    assert json.loads(me)["admin"]
    assert json.loads(description)["openapi"] == "3.1.0"
    assert statuses.split() == ["200"] * 9


MAPPED = """\
apt() { :; }
certbot() {
    folder=/etc/letsencrypt/live/auth.example.com
    mkdir -p $folder
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -subj /CN=auth.example.com -addext subjectAltName=DNS:auth.example.com \
        -keyout $folder/privkey.pem -out $folder/fullchain.pem 2>&1
    export CURL_CA_BUNDLE=$folder/fullchain.pem
}
unit() { sed -n "s/^$1=//p" /etc/systemd/system/jwt-server.$2; }
systemctl() {
    case "$*" in
        "enable --now jwt-server.socket jwt-server")
            socket=$(unit ListenStream socket)
            install -d -o "$(unit SocketUser socket)" "$(dirname "$socket")"
            user=$(unit User service)
            (cd "$(unit WorkingDirectory service)" && exec setpriv --reuid "$user" \
                --regid "$user" --init-groups "$(unit ExecStart service)") 2>/mnt/log &
            while ! [ -S "$socket" ]; do kill -0 $! || { cat /mnt/log; exit 1; }; sleep 0.1; done
            chgrp "$(unit SocketGroup socket)" "$socket"
            chmod "$(unit SocketMode socket)" "$socket" ;;
        "status jwt-server") kill -0 $! ;;
        "reload nginx") nginx ;;
    esac
}
"""
"""What the test has instead of the package manager, the certificate authority and systemd."""


def test_the_walk_of_the_deployment_ends_with_ok_as_root(installed: Path, folder: Path) -> None:
    """Run it literally, with the environment that `installed` has made by the same pip commands."""
    if not may_be_private():
        pytest.skip("needs root, and private mounts for it")
    for path in (ROOT / "deploy").iterdir():
        shutil.copy(path, folder)
    walk = [text for title, texts in SECTIONS.items() if title[0].isdigit() for text in texts]
    script = "".join(walk[1:]).replace("YOUR.NAME", "auth.example.com")
    venv = f"mkdir /opt/jwt-server; mount --bind {installed.parent} /opt/jwt-server"
    script = script.replace("python3 -m venv /opt/jwt-server", venv)
    script = re.sub(r"^/opt/jwt-server/bin/pip .*\n", "", script, flags=re.MULTILINE)
    refused = "chown root /var/lib/jwt-server/.env; jwt-server-command doctor 2>&1 || echo $?"

    output = run_private(f"{MAPPED}{script}echo --\n{refused}\n", folder)

    done, _, refused = output.rpartition("--\n")
    assert "ready\n" in done
    assert findings(done) == []
    line, status = refused.splitlines()
    assert line.startswith(".env: The file can't be read: ")
    assert "chown" in line
    assert status == "3"
