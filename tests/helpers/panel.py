"""The admin panel in Chromium, used by mouse or by keyboard alone."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import Dialog, Locator, Page, Request, Route, expect

from jwt_server.users.names import username_key
from tests.helpers.http import Response, send_to_server
from tests.helpers.server import ROOT, Server

AXE = ROOT / "tests" / "clients" / "node_modules" / "axe-core" / "axe.min.js"

REQUEST_FAILED = "Failed to load resource"
"""Begins what Chromium itself logs of an error response, and of a failed request."""

FOCUSED = """() => {
  const { ariaLabel, labels, textContent } = document.activeElement;
  return (ariaLabel ?? labels?.[0]?.textContent ?? textContent).trim();
}"""
CHOSEN = "document.activeElement.selectedOptions[0].label"
VIOLATIONS = """async (options) => (await axe.run(document, options)).violations.map(
  ({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`
)"""
TOO_WIDE = "() => document.documentElement.scrollWidth > innerWidth"

ADMIN = "travis"
PASSWORD = "mypassword"
"""Of all users that `add_user` creates."""


NEW_PASSWORD = "correct horse battery"

FORM = "application/x-www-form-urlencoded"
PHONE = {"User-Agent": "Mozilla/5.0 (iPhone) Version/18.0 Safari/604"}


def axe() -> str:
    """Return the source of axe."""
    if not AXE.exists() and os.environ.get("CI") != "true":
        pytest.skip("axe-core is not installed: npm ci --ignore-scripts --prefix tests/clients")
    return AXE.read_text()


@dataclass(frozen=True)
class Mouse:
    """Someone with a mouse and a large screen; types into fields only."""

    page: Page
    width = 1280

    def press(self, name: str) -> None:
        """Press a button, a checkbox, or a link."""
        self._find(name).click()

    def fill(self, label: str, text: str) -> None:
        """Replace the text of a field."""
        self._top().get_by_label(label, exact=True).fill(text)

    def choose(self, label: str, option: str) -> None:
        """Choose an option of a list."""
        self.page.get_by_label(label, exact=True).select_option(label=option)

    def _find(self, name: str) -> Locator:
        top = self._top()
        found = top.get_by_role("button", name=name, exact=True)
        for role in ("link", "checkbox", "switch"):
            found = found.or_(top.get_by_role(role, name=name, exact=True))
        return found

    def _top(self) -> Locator:
        """Return the newest dialog, or the page."""
        dialogs = self.page.locator("dialog[open]")
        return dialogs.last if dialogs.count() else self.page.locator("body")


@dataclass(frozen=True)
class Keyboard:
    """Someone with the keyboard alone, and a screen of 360 pixels."""

    page: Page
    width = 360

    def press(self, name: str) -> None:
        """Press a button or a link with Enter, a checkbox with Space."""
        self.move_to(name)
        is_checkbox = self.page.evaluate("document.activeElement.type === 'checkbox'")
        self.page.keyboard.press("Space" if is_checkbox else "Enter")

    def fill(self, label: str, text: str) -> None:
        """Replace the text of a field."""
        self.move_to(label)
        self.page.keyboard.press("Control+A")
        self.page.keyboard.press("Delete")
        self.page.keyboard.insert_text(text)

    def choose(self, label: str, option: str) -> None:
        """Choose an option of a list."""
        self.move_to(label)
        self.page.keyboard.press("Home")
        while self.page.evaluate(CHOSEN) != option:
            self.page.keyboard.press("ArrowDown")

    def move_to(self, name: str, key: str = "Tab") -> None:
        passed: list[str] = []
        while (focused := self.page.evaluate(FOCUSED)) != name:
            assert len(passed) < 120, f"{name!r} is not among {passed}"
            self.page.keyboard.press(key)
            passed.append(focused)


Hand = Mouse | Keyboard


def unique(name: str, hand: Hand) -> str:
    """Return a name for the test of each hand."""
    return f"{name} {type(hand).__name__.lower()}"


@dataclass
class Panel:
    """The panel in a page, and the service."""

    page: Page
    server: Server
    prefix: str = ""
    """SCRIPT_NAME."""
    console: list[str] = field(default_factory=list)
    is_leaving: bool = True
    """Whether to accept that what was typed is discarded."""
    questions: list[str] = field(default_factory=list)
    """That the browser's own dialogs have asked."""

    def load(self, hand: type[Hand] = Mouse) -> Hand:
        """Load the page, ready for axe."""
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("dialog", self._answer)
        self.page.goto(f"{self.server.url}{self.prefix}/admin/")
        self.page.evaluate(axe())
        self.is_at("Sign in")
        return self.take(hand)

    def take(self, hand: type[Hand]) -> Hand:
        """Return someone who uses the page, on the screen that they have."""
        self.page.set_viewport_size({"width": hand.width, "height": 800})
        return hand(self.page)

    def _answer(self, dialog: Dialog) -> None:
        self.questions.append(dialog.message)
        if self.is_leaving:
            dialog.accept()
        else:
            dialog.dismiss()

    def sign_in(self, hand: Hand, username: str = ADMIN, password: str = PASSWORD) -> None:
        """Send the form, in the page or a dialog."""
        hand.fill("Username", username)
        hand.fill("Password", password)
        hand.press("Sign in")

    def reset(self) -> None:
        """Close all dialogs, and leave the view of the last test."""
        self.is_leaving = True
        self.page.evaluate("document.querySelectorAll('dialog').forEach(each => each.close())")
        self.show("#/keys", "Keys")

    def show(self, path: str, heading: str) -> None:
        """Go to a view."""
        self.page.evaluate("path => { location.hash = path; }", path)
        self.is_at(heading)

    def show_user(self, username: str) -> None:
        """Go to the view of a user."""
        self.show(f"#/users/{self.user(username, 'id')[0]}", username)

    def show_new_user(self, username: str) -> None:
        """Create a user, and go to the view of it."""
        self.add_user(username)
        self.show_user(username)

    def is_at(self, heading: str) -> None:
        """Wait for a view or a dialog."""
        expect(self.page.get_by_role("heading", name=heading, exact=True)).to_be_visible()

    def hears(self, text: str) -> None:
        """Wait for a message that is said once."""
        expect(self.page.locator("#said")).to_have_text(text)

    def field(self, label: str) -> Locator:
        """Return a field of the newest dialog, or of the page."""
        return self.page.get_by_label(label, exact=True).last

    def finds_no_barrier(self) -> None:
        """Check the page with axe; in the dark only its colours differ."""
        found = self.page.evaluate(VIOLATIONS, {"resultTypes": ["violations"]})
        self.page.emulate_media(color_scheme="dark")
        found += self.page.evaluate(VIOLATIONS, {"runOnly": ["color-contrast"]})
        self.page.emulate_media(color_scheme="light")
        assert found == [], found
        assert not self.page.evaluate(TOO_WIDE)

    def logs_nothing(self) -> None:
        """Fail if there was an error, or a violation of the content security policy."""
        logged, self.console[:] = self.console[:], []
        assert [line for line in logged if not line.startswith(REQUEST_FAILED)] == []

    def until(self, condition: Callable[[], bool]) -> None:
        """Poll until a condition is true, while routes are handled."""
        for _ in range(600):
            if condition():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("it did not happen")

    @contextmanager
    def holding(self, *urls: str) -> Iterator[list[str]]:
        """Hold the first request for each path until the end of the block; return the aborted."""
        held: dict[str, Route] = {}
        aborted: list[str] = []

        def add_aborted(request: Request) -> None:
            aborted.append(request.url)

        def hold(route: Route) -> None:
            if held.setdefault(urlsplit(route.request.url).path, route) is not route:
                route.continue_()

        for url in urls:
            self.page.route(url, hold)
        self.page.on("requestfailed", add_aborted)
        yield aborted
        self.page.remove_listener("requestfailed", add_aborted)
        for route in held.values():
            route.continue_()
        for url in urls:
            self.page.unroute(url)

    def sql(self, statement: str, *values: object) -> list[Any]:
        """Run a statement on the service's database."""
        path = self.server.log_file.parent / "server.db"
        with closing(sqlite3.connect(path, timeout=60)) as driver, driver:
            return driver.execute(statement, values).fetchall()

    def add_user(self, username: str, *, admin: bool = False) -> int:
        """Create a user; return the ID."""
        self.sql(
            "INSERT INTO users (username, username_key, password_hash, admin, created_at)"
            " SELECT ?, ?, password_hash, ?, 1769860800 FROM users WHERE id = 1",
            username, username_key(username), admin,
        )  # fmt: skip
        [(user_id,)] = self.sql("SELECT id FROM users WHERE username = ?", username)
        return int(user_id)

    def user(self, username: str, columns: str) -> Any:
        """Return columns of a user, or None."""
        found = self.sql(f"SELECT {columns} FROM users WHERE username = ?", username)  # noqa: S608 - a test's own
        return found[0] if found else None

    def sign_in_elsewhere(self, username: str, password: str = PASSWORD) -> Response:
        """Sign in with another device."""
        body = urlencode({"username": username, "password": password}).encode()
        return send_to_server(self.server, "POST", "/auth", PHONE, body, FORM)

    def forget_passwords(self) -> None:
        """Let it be long ago that all users gave their passwords."""
        self.sql("UPDATE sessions SET authenticated_at = 1")

    def end_sessions(self) -> None:
        """End all sessions, as an admin elsewhere may."""
        self.sql("UPDATE sessions SET ended_at = 1, expires_at = 1")

    def take_screenshot(self, name: str) -> None:
        """Write a picture for the docs, if the developer asks for it (CONTRIBUTING.md)."""
        self.page.evaluate("document.querySelector('#said').replaceChildren()")
        if folder := os.environ.get("SCREENSHOTS"):
            self.page.screenshot(path=ROOT / folder / name)
