"""The front end of examples/spa, in Chromium, on another origin than the service."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
from playwright.sync_api import Page, expect

from tests.helpers.server import BASE_ENVIRONMENT, ROOT, Server, running

pytestmark = pytest.mark.slow

AXE = ROOT / "tests" / "clients" / "node_modules" / "axe-core" / "axe.min.js"
PHONE = "Mozilla/5.0 (iPhone) AppleWebKit/605 (KHTML, like Gecko) Version/18.0 Safari/604"
FOCUSED = """() => {
  const { ariaLabel, labels, textContent } = document.activeElement;
  return (ariaLabel ?? labels?.[0]?.textContent ?? textContent).trim();
}"""
PETS = {"Pebble": "tortoise", "Bun": "rabbit", "Ru": "cat", "Kiwi": "budgerigar"}
VIOLATIONS = """async (options) => (await axe.run(document, options)).violations.map(
  ({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`
)"""
REFUSED = "Failed to load resource: the server responded with a status of 4"
"""Chromium logs each response of an error."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(
        tmp_path_factory.mktemp("example"), BASE_ENVIRONMENT | {"SIGNUP": "open"}
    ) as server:
        yield server


@pytest.fixture(scope="module")
def front_end() -> Iterator[str]:
    """Serve the example on a free port as `make example` does; yields the address it prints."""
    command = [sys.executable, str(ROOT / "examples" / "serve.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        assert process.stdout
        yield next(line.split()[-1] for line in process.stdout if "localhost" in line)
        process.terminate()


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe."""
    if not AXE.exists() and os.environ.get("CI") != "true":
        pytest.skip("axe-core is not installed: npm ci --ignore-scripts --prefix tests/clients")
    return AXE.read_text()


@dataclass(frozen=True)
class User:
    """Someone who uses the keyboard alone."""

    page: Page

    def press(self, name: str, key: str = "Enter") -> None:
        """Move the focus to a control with Tab, and press it."""
        self.move_to(name)
        self.page.keyboard.press(key)

    def fill(self, **fields: str) -> None:
        """Type into the fields with these labels, and send the form."""
        for label, text in fields.items():
            self.move_to(label.replace("_", " "))
            self.page.keyboard.press("Control+A")
            self.page.keyboard.press("Delete")
            self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")

    def move_to(self, name: str) -> None:
        passed: list[str] = []
        while (focused := self.page.evaluate(FOCUSED)) != name:
            assert len(passed) < 40, f"{name!r} is not among {passed}"
            self.page.keyboard.press("Tab")
            passed.append(focused)

    def hears(self, text: str) -> None:
        """Wait for a message."""
        expect(self.page.get_by_role("status")).to_have_text(text)

    def is_at(self, heading: str) -> None:
        """Wait for a view or a dialog."""
        expect(self.page.get_by_role("heading", name=heading)).to_be_visible()

    def finds_no_barrier(self) -> None:
        """Check the view with axe; in the dark only its colours differ."""
        assert self.page.evaluate(VIOLATIONS, {"resultTypes": ["violations"]}) == []
        self.page.emulate_media(color_scheme="dark")
        assert self.page.evaluate(VIOLATIONS, {"runOnly": ["color-contrast"]}) == []
        self.page.emulate_media(color_scheme="light")
        assert self.page.evaluate("document.documentElement.scrollWidth") <= 360


def forget_passwords(service: Server) -> None:
    """Let it be long ago that all users gave their passwords."""
    with closing(sqlite3.connect(service.log_file.parent / "server.db")) as driver, driver:
        driver.execute("UPDATE sessions SET authenticated_at = 1")


def test_it_can_be_used_by_keyboard_alone(
    page: Page, service: Server, front_end: str, axe: str
) -> None:
    console: list[str] = []
    page.on("console", lambda message: console.append(message.text))
    page.on("pageerror", lambda error: console.append(str(error)))
    page.set_viewport_size({"width": 360, "height": 740})
    user = User(page)
    page.goto(f"{front_end}?api=http://localhost:{service.port}")
    page.evaluate(axe)

    user.is_at("Sign in")
    user.finds_no_barrier()
    user.press("Create one")
    user.is_at("Create an account")
    user.finds_no_barrier()
    user.fill(Username="grace", Password="correct horse")
    user.is_at("Pets")
    keep_pets(user)
    end_a_session(user, service)
    change_the_password(user)
    leave(user)
    page.evaluate(axe)  # the page was loaded again
    replace_a_temporary_password(user, service)

    assert [text for text in console if not text.startswith(REFUSED)] == []


def keep_pets(user: User) -> None:
    rows = user.page.get_by_role("list", name="Your pets").get_by_role("listitem")
    for name, species in PETS.items():
        user.move_to("Name")
        user.page.keyboard.type(name)
        user.fill(**{"Species (optional)": species})
        user.hears(f"{name} was added.")
    user.press("Edit Bun")
    user.is_at("Edit pet")
    user.fill(Name="")
    expect(user.page.locator("#edit-name")).to_have_accessible_description(
        "Send 1 to 100 characters."
    )
    user.finds_no_barrier()
    user.fill(Name="Bunny")
    user.hears("Bunny was saved.")
    assert user.page.evaluate(FOCUSED) == "Edit Bunny"
    user.press("Delete Ru", "Space")
    user.is_at("Delete Ru?")
    user.press("Delete")
    user.hears("Ru was deleted.")
    assert user.page.evaluate(FOCUSED) == "Edit Kiwi"
    expect(rows).to_contain_text(["Pebbletortoise", "Bunnyrabbit", "Kiwibudgerigar"])
    user.finds_no_barrier()
    take_screenshot(user.page)


def take_screenshot(page: Page) -> None:
    """Write the README's picture, if the developer asks for it (CONTRIBUTING.md)."""
    if path := os.environ.get("SCREENSHOT"):
        page.set_viewport_size({"width": 900, "height": 660})
        page.screenshot(path=ROOT / path)
        page.set_viewport_size({"width": 360, "height": 740})


def end_a_session(user: User, service: Server) -> None:
    user.page.request.post(
        f"{service.url}/auth",
        form={"username": "grace", "password": "correct horse"},
        headers={"User-Agent": PHONE},
    )
    forget_passwords(service)
    user.press("Sessions")
    user.is_at("Sessions")
    user.finds_no_barrier()
    user.press("End Safari on iPhone")
    user.is_at("Confirm that it’s you")
    user.fill(Password="wrong")
    expect(user.page.locator("#step-up-password")).to_have_accessible_description("Wrong password.")
    user.finds_no_barrier()
    user.fill(Password="correct horse")
    user.hears("The session has ended.")
    assert "Safari" not in user.page.get_by_role("list", name="Your sessions").inner_text()


def change_the_password(user: User) -> None:
    user.press("Account")
    user.is_at("Account")
    user.finds_no_barrier()
    user.fill(Current_password="correct horse", New_password="battery staple")
    user.hears("Your password was changed.")


def leave(user: User) -> None:
    user.page.reload()
    user.is_at("Account")
    user.press("Sign out")
    user.is_at("Sign in")
    user.fill(Username="grace", Password="correct horse")
    expect(user.page.locator("#sign-in-password")).to_have_accessible_description(
        "Incorrect username and/or password."
    )
    user.fill(Username="grace", Password="battery staple")
    user.is_at("Account")
    user.press("Sessions")
    user.press("Sign out other devices")
    user.hears("All other devices are signed out.")
    user.press("Sign out everywhere")
    user.hears("You are signed out.")
    assert "grace" not in user.page.inner_text("body")


def replace_a_temporary_password(user: User, service: Server) -> None:
    with closing(sqlite3.connect(service.log_file.parent / "server.db")) as driver, driver:
        driver.execute("UPDATE users SET password_expires_at = 1 << 40 WHERE username = 'grace'")
    user.fill(Username="grace", Password="battery staple")
    user.is_at("Choose a password")
    user.finds_no_barrier()
    user.fill(New_password="grace")
    expect(user.page.locator("#chosen-password")).to_have_accessible_description(
        "Use at least 8 characters."
    )
    user.fill(New_password="horse battery staple")
    user.is_at("Pets")


def test_more_pets_are_shown_on_demand(page: Page, service: Server, front_end: str) -> None:
    with closing(sqlite3.connect(service.log_file.parent / "server.db")) as driver, driver:
        driver.executemany(
            "INSERT INTO pets (user_id, name, created_at) VALUES (1, ?, 0)",
            [(f"Pet {number}",) for number in range(20)],
        )
    rows = page.get_by_role("list", name="Your pets").get_by_role("listitem")
    page.goto(f"{front_end}?api=http://localhost:{service.port}")
    user = User(page)
    user.is_at("Sign in")
    user.fill(Username="travis", Password="mypassword")
    expect(rows).to_have_count(20)
    page.get_by_role("button", name="Show more").focus()
    page.keyboard.press("Enter")

    expect(rows).to_have_count(22)
    assert page.evaluate(FOCUSED) == "Edit Pet 18"
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
