"""The page that shows the API, in Chromium."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.helpers.server import Server


def test_it_shows_every_route_with_nothing_from_elsewhere(page: Page, server: Server) -> None:
    console: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: console.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server.url}/docs")

    expect(page.get_by_role("heading", name="jwt-server")).to_be_visible()
    for path in ("/auth", "/my-pets", "/pets/{pet_id}", "/readyz"):
        expect(page.locator(f'[data-path="{path}"]').first).to_be_visible()
    assert console == []  # neither an error nor a breach of the page's policy
    assert len(asked) >= 6
    assert all(url.startswith((f"{server.url}/", "data:")) for url in asked)


def test_one_tries_a_route_out_by_keyboard(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/docs#/pets/list_my_pets")

    page.get_by_role("button", name="Try it out").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Execute").focus()
    page.keyboard.press("Enter")

    answer = page.locator(".live-responses-table")
    expect(answer).to_contain_text("403")
    expect(answer).to_contain_text("No token.")


def test_a_token_that_is_entered_is_sent(page: Page, server: Server) -> None:
    token = page.request.post(
        f"{server.url}/auth", form={"username": "travis", "password": "mypassword"}
    ).text()
    page.goto(f"{server.url}/docs#/pets/list_my_pets")
    page.get_by_role("button", name="Authorize").first.click()
    page.locator(".modal-ux input").fill(token)
    page.locator(".modal-ux button.authorize").click()
    page.locator(".modal-ux button.btn-done").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()

    expect(page.locator(".live-responses-table")).to_contain_text("Bunny")
