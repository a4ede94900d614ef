"""nginx in front of a service, as in deploy/nginx.conf but without TLS and limits."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.services import CORES, free_port

CONFIGURATION = """
daemon off;
user {user};
worker_processes {cores};
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream service {{
        server {upstream};
        keepalive 64;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
        }}
    }}
}}
"""

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def nginx(folder: Path, upstream: str) -> Iterator[str]:
    """Run nginx in front of `upstream` (host:port or unix:path); yields its URL."""
    if NGINX is None:
        raise SystemExit("nginx is missing: sudo apt install nginx-light")
    port = free_port()
    file = folder / "nginx.conf"
    user = pwd.getpwuid(os.getuid()).pw_name
    places = {"folder": folder, "port": port, "upstream": upstream}
    file.write_text(CONFIGURATION.format(user=user, cores=CORES, **places))
    process = subprocess.Popen([NGINX, "-c", str(file), "-e", str(folder / "nginx.log")])
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
