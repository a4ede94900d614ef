"""The page of the API documentation, in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.helpers.server import Server

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Loaded:
    """The page, and what had happened when it was loaded."""

    page: Page
    console: tuple[str, ...]
    requested: tuple[str, ...]
    """The URLs of its requests."""


@pytest.fixture(scope="module")
def docs(browser: Browser, server: Server) -> Iterator[Loaded]:
    """The page, loaded once, as that takes seconds."""
    console: list[str] = []
    requested: list[str] = []
    with browser.new_context() as context:
        page = context.new_page()
        page.on("console", lambda message: console.append(message.text))
        page.on("request", lambda request: requested.append(request.url))
        page.goto(f"{server.url}/docs")
        expect(page.locator('[data-path="/readyz"]').first).to_be_visible()
        yield Loaded(page, tuple(console), tuple(requested))


def test_it_shows_every_route_without_requests_to_other_hosts(docs: Loaded, server: Server) -> None:
    """And with a lock where it needs a token."""
    page = docs.page

    expect(page.get_by_role("heading", name="jwt-server")).to_be_visible()
    for path in ("/auth", "/my-pets", "/pets/{pet_id}", "/readyz"):
        expect(page.locator(f'[data-path="{path}"]').first).to_be_visible()
    for path, locks in (("/auth", 0), ("/auth/logout", 0), ("/auth/verify", 1)):
        operation = page.locator(".opblock").filter(has=page.locator(f'[data-path="{path}"]'))
        expect(operation).to_be_visible()
        expect(operation.locator(".authorization__btn")).to_have_count(locks)
    assert docs.console == ()  # neither an error nor a violation of the content security policy
    assert len(docs.requested) >= 6
    assert all(url.startswith((f"{server.url}/", "data:")) for url in docs.requested)


def authorization(page: Page, scheme: str) -> Locator:
    """Open the dialog of authorizations; return the form of one."""
    page.get_by_role("button", name="Authorize").first.click()
    return page.locator(".modal-ux .auth-container").filter(has_text=scheme)


def test_a_route_can_be_tried_by_keyboard_with_a_token_or_a_password(
    docs: Loaded, server: Server
) -> None:
    page = docs.page
    token = page.request.post(
        f"{server.url}/auth", form={"username": "travis", "password": "mypassword"}
    ).text()
    page.locator("#operations-pets-list_my_pets .opblock-summary-control").focus()
    page.keyboard.press("Enter")
    responses = page.locator(".live-responses-table")
    page.get_by_role("button", name="Try it out").focus()
    page.keyboard.press("Enter")
    execute = page.get_by_role("button", name="Execute")
    execute.focus()
    page.keyboard.press("Enter")
    expect(responses).to_contain_text("403")
    expect(responses).to_contain_text("No token.")

    form = authorization(page, "bearer")
    form.get_by_label("auth-bearer-value").fill(token)
    form.locator("button.authorize").click()
    form.get_by_role("button", name="Close").click()
    execute.click()
    expect(responses).to_contain_text("Bunny")

    form = authorization(page, "bearer")
    form.get_by_text("Logout", exact=True).click()
    form.get_by_role("button", name="Close").click()
    execute.click()
    expect(responses).to_contain_text("No token.")

    form = authorization(page, "OAuth2")
    form.locator("#oauth_username").fill("travis")
    form.locator("#oauth_password").fill("mypassword")
    form.locator("button.authorize").click()
    form.get_by_text("Authorized", exact=True).wait_for()
    form.get_by_role("button", name="Close").click()
    execute.click()
    expect(responses.locator("tbody .response-col_status")).to_contain_text("200")
    expect(responses).to_contain_text("Bunny")
