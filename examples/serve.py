"""Serve the front end in spa/ on localhost."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(__file__).parent / "spa"


class Handler(SimpleHTTPRequestHandler):
    """Serves files without a log; the browser asks for them again after they have changed."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".js": "text/javascript"}

    def end_headers(self) -> None:
        """Add a header, and end them."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Log nothing."""


def main(port: int) -> None:
    """Serve until Ctrl+C."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=FOLDER))
    except (OSError, OverflowError) as error:
        sys.exit(f"Port {port} can't be used: {error}\nUse another one: make example ARGS=9000")
    print("Start the service in another terminal, so that you can sign up: make run SIGNUP=open")
    print("The demo user of a fresh clone is travis, with the password mypassword.")
    print(f"Open http://localhost:{server.server_port}/", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int, nargs="?", default=8000)
    main(parser.parse_args().port)
