"""The page of the API documentation, in Chromium."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.helpers.server import Server

pytestmark = pytest.mark.slow


def test_it_shows_every_route_without_requests_to_other_hosts(page: Page, server: Server) -> None:
    console: list[str] = []
    requested: list[str] = []
    page.on("console", lambda message: console.append(message.text))
    page.on("request", lambda request: requested.append(request.url))
    page.goto(f"{server.url}/docs")

    expect(page.get_by_role("heading", name="jwt-server")).to_be_visible()
    for path in ("/auth", "/my-pets", "/pets/{pet_id}", "/readyz"):
        expect(page.locator(f'[data-path="{path}"]').first).to_be_visible()
    assert console == []  # neither an error nor a violation of the content security policy
    assert len(requested) >= 6
    assert all(url.startswith((f"{server.url}/", "data:")) for url in requested)


def test_a_route_can_be_tried_by_keyboard(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/docs#/pets/list_my_pets")

    page.get_by_role("button", name="Try it out").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Execute").focus()
    page.keyboard.press("Enter")

    answer = page.locator(".live-responses-table")
    expect(answer).to_contain_text("403")
    expect(answer).to_contain_text("No token.")


def test_an_entered_token_is_sent(page: Page, server: Server) -> None:
    token = page.request.post(
        f"{server.url}/auth", form={"username": "travis", "password": "mypassword"}
    ).text()
    page.goto(f"{server.url}/docs#/pets/list_my_pets")
    page.get_by_role("button", name="Authorize").first.click()
    form = page.locator(".modal-ux .auth-container").filter(has_text="bearer")
    form.get_by_label("auth-bearer-value").fill(token)
    form.locator("button.authorize").click()
    form.locator("button.btn-done").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()

    expect(page.locator(".live-responses-table")).to_contain_text("Bunny")


def test_a_password_authorizes(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/docs#/pets/list_pets")
    page.get_by_role("button", name="Authorize").first.click()
    form = page.locator(".modal-ux .auth-container").filter(has_text="OAuth2")
    form.locator("#oauth_username").fill("travis")
    form.locator("#oauth_password").fill("mypassword")
    form.locator("button.authorize").click()
    form.get_by_text("Authorized", exact=True).wait_for()
    form.locator("button.btn-done").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()

    response = page.locator(".live-responses-table")
    expect(response.locator("tbody .response-col_status")).to_contain_text("200")
    expect(response).to_contain_text("Bunny")


def test_a_lock_shows_which_operations_need_a_token(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/docs")

    for path, locks in (("/auth", 0), ("/auth/logout", 0), ("/auth/verify", 1)):
        operation = page.locator(".opblock").filter(has=page.locator(f'[data-path="{path}"]'))
        expect(operation).to_be_visible()
        expect(operation.locator(".authorization__btn")).to_have_count(locks)
