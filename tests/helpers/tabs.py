"""Tabs of a browser with the service's client, on an origin of their own."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from playwright.sync_api import APIResponse, BrowserContext, Page, Route

from tests.helpers.http import Response, send_to_server
from tests.helpers.server import ROOT, Server

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
"""Milliseconds, as in JavaScript."""

GRACE_SECONDS = 300
"""REFRESH_GRACE: the longest, so that no test depends on the speed of the machine."""

WITHOUT_LOCKS = (
    "Object.defineProperty(navigator, 'locks', { value: undefined, configurable: true })"
)
"""A script that makes a page as one without TLS; `reset()` of the page ends this."""

SHORT_TIME_LIMITS = (
    "const limit = AbortSignal.timeout; AbortSignal.timeout = (ms) => limit(ms / 90)"
)
"""A script that has requests time out in a tenth of a second; `reset()` ends it."""

STATUS = ".then(({ status }) => status)"


class PageHandler(SimpleHTTPRequestHandler):
    """Serves the files of tests/browser without a log; a page with the client has a strict CSP."""

    def __init__(self, *args: Any, service: str) -> None:
        self.service = service
        super().__init__(*args, directory=str(ROOT / "tests" / "browser"))

    def end_headers(self) -> None:
        if self.path.startswith("/client.html"):
            self.send_header(
                "Content-Security-Policy",
                f"default-src 'none'; img-src data:; script-src 'self' {self.service};"
                f" connect-src {self.service}",
            )
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass


@contextmanager
def serve_pages(service: str) -> Iterator[str]:
    """Serve the files of tests/browser on another origin than the service's; yields its URL."""
    handler = partial(PageHandler, service=service)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as pages:
        Thread(target=pages.serve_forever, daemon=True).start()
        yield f"http://localhost:{pages.server_port}"
        pages.shutdown()


@dataclass(frozen=True)
class Tab:
    """A page with a client in `auth`."""

    page: Page

    def call(self, promise: str) -> Any:
        """Return the value of a promise, or the code, status and `retryAfter` of its error."""
        return self.page.evaluate(f"outcome({promise})")

    def begin(self, promise: str) -> None:
        """Make a promise, without waiting for it."""
        self.page.evaluate(f"() => {{ window.pending = outcome({promise}); }}")

    def end(self) -> Any:
        """Return what has become of the promise of `begin`."""
        return self.page.evaluate("pending")

    def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        self.page.wait_for_function(condition, polling=20)

    def sign_in(self, username: str = "travis", password: str = "mypassword") -> None:
        assert self.call(f"auth.signIn('{username}', '{password}')") is None
        assert self.user() == username

    def sign_up(self, username: str) -> None:
        assert self.call(f"auth.signUp('{username}', 'correct horse')") is None
        assert self.user() == username

    def user(self) -> Any:
        """Return the name of the signed-in user, or None."""
        return self.page.evaluate("auth.user && auth.user.username")

    def session(self) -> str:
        """Return the ID of the session."""
        sid: str = self.call(
            "auth.token().then((token) => JSON.parse(atob(token.split('.')[1])).sid)"
        )
        return sid

    def status(self, path: str = "/pets") -> Any:
        """Return the status of a request with the token."""
        return self.call(f"auth.fetch('{path}'){STATUS}")

    def refresh(self) -> Any:
        """Refresh the tokens, as if the access token had been refused."""
        return self.call("auth.token().then((token) => auth.token(token)).then(() => 'refreshed')")

    def reasons(self) -> Any:
        """Return the reasons of the changes that `onChange` has told."""
        return self.page.evaluate("changes.map(([user, reason]) => reason)")

    def move_clock(self, milliseconds: int) -> None:
        """Set the device's clock that much ahead of the real time."""
        self.page.evaluate(f"ahead = {milliseconds}")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have the browser stop the page's tasks, as of a tab that nobody has seen for minutes."""
        browser = self.page.context.new_cdp_session(self.page)
        browser.send("Page.setWebLifecycleState", {"state": "frozen"})
        try:
            yield
        finally:
            browser.send("Page.setWebLifecycleState", {"state": "active"})
            browser.detach()


@dataclass
class Held:
    """The first `limit` requests to a path: the service has responded, the tab has to wait."""

    limit: int
    responses: list[tuple[Route, APIResponse]] = field(default_factory=list)

    def __call__(self, route: Route) -> None:
        if self.limit == 0:
            route.continue_()
        else:
            self.limit -= 1
            self.responses.append((route, route.fetch()))

    def release(self) -> None:
        """Let the responses through, and later requests."""
        self.limit = 0
        for route, response in self.responses:
            route.fulfill(response=response)


@dataclass
class FrontEnd:
    """Tabs of one origin, and the service."""

    context: BrowserContext
    server: Server
    url: str
    clean: list[Page] = field(default_factory=list)
    """Pages of former tests to use again, as a new page would take most of a test's CPU."""
    used: list[Page] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    """What the pages have logged, and exceptions that nothing has caught."""

    def open(self, script: str = "", **options: Any) -> Tab:
        """Open a tab; a script may first change what the browser offers to its page."""
        page = self.clean.pop() if self.clean else self.load(self.context.new_page())
        self.used.append(page)
        if script:
            page.evaluate(script)
        return self.start(page, **options)

    def reset(self) -> None:
        """Make the pages as new for the next test."""
        self.context.unroute_all()
        self.context.set_offline(False)
        for page in self.used:
            page.evaluate("reset()")
        self.clean = self.used
        self.used, self.console[:] = [], []

    def load(self, page: Page) -> Page:
        page.goto(f"{self.url}/client.html?api={self.server.url}")
        page.evaluate("import('./client-page.js').then(() => 0)")
        return page

    def start(self, page: Page, **options: Any) -> Tab:
        """Create a client in a page."""
        page.evaluate("options => open_client(options)", options)
        return Tab(page)

    def hold(self, path: str, limit: int = 9) -> Held:
        """Hold the responses to the first requests to a path."""
        held = Held(limit)
        self.context.route(f"**{path}", held)
        return held

    def until(self, condition: Callable[[], bool]) -> None:
        """Poll until a condition is true, while routes are handled."""
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            self.used[0].wait_for_timeout(20)

    def sql(self, statement: str, *values: object) -> list[Any]:
        """Run a statement on the service's database."""
        path = self.server.log_file.parent / "server.db"
        with closing(sqlite3.connect(path, timeout=60)) as driver, driver:
            return driver.execute(statement, values).fetchall()

    def pass_grace(self, seconds: int = GRACE_SECONDS + 1) -> None:
        """Let time pass for the service since all refreshes."""
        self.sql("UPDATE sessions SET rotated_at = rotated_at - ?", seconds)

    def generation(self, session: str) -> int:
        """Return the generation of a session's refresh token: 1 after signing in."""
        [(generation,)] = self.sql("SELECT generation FROM sessions WHERE id = ?", session)
        return int(generation)

    def has_ended(self, session: str) -> bool:
        """Tell whether the service has ended a session."""
        return self.sql("SELECT ended_at IS NOT NULL FROM sessions WHERE id = ?", session) == [(1,)]

    def post(self, path: str, fields: dict[str, str], agent: str = "") -> Response:
        """Send a request as another program does."""
        headers = {"Accept": "application/json", "User-Agent": agent}
        return send_to_server(
            self.server, "POST", path, headers, json.dumps(fields), "application/json"
        )
