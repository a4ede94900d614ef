"""The snippets of docs/clients.md, each run with the library that it is for."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.clients.conftest import CLIENTS, NODE, TYPESCRIPT, run
from tests.helpers.server import ROOT, Server

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "clients.md").read_text()
BLOCKS = re.findall(r"^```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
TOURS = CLIENTS / "tours"
# What Expo's modules do, which run on a phone only.
EXPO = {
    "expo-crypto": "export const randomUUID = () => crypto.randomUUID();",
    "expo-secure-store": """
        const items = {};
        export const getItemAsync = async (name) => items[name] ?? null;
        export const setItemAsync = async (name, value) => { items[name] = value; };
    """,
}


def block(start: str, server: Server) -> str:
    """Return the only block of the page with this start, for a server."""
    [found] = (each for each in BLOCKS if each.startswith(start))
    return str(found).replace("http://127.0.0.1:3000", server.url)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, npm: Path, service: Server) -> Path:
    """A folder with the client, the tours and the scripts of the page; those of React and Angular
    are compiled into `built`.
    """
    folder = tmp_path_factory.mktemp("frameworks")
    client = [ROOT / "jwt_server" / "static" / name for name in ("client.js", "client.d.ts")]
    for path in (*client, *TOURS.glob("*.mjs")):
        shutil.copy(path, folder)
    for name in re.findall(r"^```\w+\n// (\S+)$", PAGE, re.MULTILINE):
        (folder / name).write_text(block(f"// {name}\n", service))
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "node_modules").symlink_to(npm.parent)
    run("node", TYPESCRIPT, "--strict", "--skipLibCheck", "--allowJs", "--jsx", "react-jsx",
        "--types", "node", "--module", "nodenext", "--target", "es2022", "--outDir", "built",
        "useAuth.jsx", "auth.interceptor.ts", cwd=folder)  # fmt: skip
    shutil.copy(folder / "client.js", folder / "built")
    return folder


def test_reacts_hook_shows_who_is_signed_in_under_strict_mode(folder: Path) -> None:
    run(*NODE, "react.mjs", cwd=folder)


def test_vues_composable_shows_who_is_signed_in(folder: Path) -> None:
    run(*NODE, "vue.mjs", cwd=folder)


@pytest.mark.parametrize("library", ["angular", "axios"])
def test_an_interceptor_refreshes_and_sends_the_token_to_the_service_only(
    library: str, folder: Path, service: Server
) -> None:
    run(*NODE, f"{library}.mjs", service.url, cwd=folder)


def test_a_session_without_the_client_outlives_a_lost_response(
    folder: Path, service: Server
) -> None:
    in_page, separator, rest = (folder / "session.js").read_text().partition("const api = ")
    assert in_page.count("const ") == 3
    for name, code in EXPO.items():
        package = folder / "native" / "node_modules" / name
        package.mkdir(parents=True)
        (package / "package.json").write_text('{"type": "module", "main": "index.js"}')
        (package / "index.js").write_text(code)
    in_app = block("// session.js in React Native", service)
    (folder / "native" / "session.js").write_text(in_app + separator + rest)

    run(*NODE, "session.mjs", cwd=folder)


def test_a_session_in_python_outlives_a_lost_response(
    venv: Path, service: Server, tmp_path: Path
) -> None:
    (tmp_path / "session.py").write_text(block("# session.py", service))
    shutil.copy(TOURS / "session_tour.py", tmp_path)

    run(venv / "python", "session_tour.py", cwd=tmp_path)


@pytest.mark.skipif(shutil.which("jq") is None, reason="there is no jq here: sudo apt install jq")
def test_a_session_with_curl_refreshes(service: Server, tmp_path: Path) -> None:
    commands = block("api=", service)
    call = next(line for line in commands.splitlines() if "/pets" in line)

    said = run("bash", "-ec", commands + call, cwd=tmp_path)

    assert said.count('"Bunny"') == 2
    assert (tmp_path / "tokens.json").stat().st_mode & 0o777 == 0o600
