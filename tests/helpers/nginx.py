"""A real nginx for tests, with a configuration of deploy/."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.server import PROXY_PATH, Server, running_proxy

NGINX = shutil.which("nginx", path=PROXY_PATH)

needs_nginx = pytest.mark.skipif(
    NGINX is None and os.environ.get("CI") != "true",
    reason="there is no nginx here: sudo apt install nginx-light",
)

AROUND = """
daemon off;
user {user};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {site}
}}
"""


@contextmanager
def nginx(folder: Path, site: str, port: int) -> Iterator[Server]:
    """Run nginx with these sites, one of which listens on the port."""
    assert NGINX, "CI must have nginx: apt-get install nginx-light"
    configuration = folder / "nginx.conf"
    configuration.write_text(
        AROUND.format(folder=folder, user=pwd.getpwuid(os.getuid()).pw_name, site=site)
    )
    command = (NGINX, "-c", str(configuration), "-p", str(folder), "-e", str(folder / "error.log"))
    with running_proxy(folder, port, *command) as server:
        yield server
