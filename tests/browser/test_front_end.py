"""A front end written for the original server, in Chromium, on an origin of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.helpers.server import ROOT, Server
from tests.helpers.tabs import serve_pages

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """A page for all tests: each loads the front end again, which stores nothing."""
    with browser.new_context() as context:
        yield context.new_page()


@pytest.fixture(scope="module")
def front_end(server: Server) -> Iterator[str]:
    """Serve the front end; yields its address, with the service's in the query."""
    with serve_pages(server.url) as url:
        yield f"{url}/front-end.html?api={server.url}"


def test_it_signs_in_by_keyboard_and_shows_the_pets(page: Page, front_end: str) -> None:
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    page.goto(front_end)
    page.get_by_label("Username").fill("travis")
    page.get_by_label("Password").fill("mypassword")
    page.keyboard.press("Enter")

    page.get_by_text("2 pets").wait_for()
    assert page.get_by_role("listitem").all_inner_texts() == ["Bunny, a dog", "Ru, a cat"]
    assert errors == []


def test_the_readmes_examples_read_the_pets(page: Page, front_end: str, server: Server) -> None:
    readme = (ROOT / "README.md").read_text().replace("http://127.0.0.1:3000", server.url)
    examples = re.findall("```js\n(.*?)```", readme, re.DOTALL)
    page.goto(front_end)

    for example in examples:
        # `evaluate` takes a function, which can't have import declarations.
        body = re.sub(r"import (.*) from (.*);", r"const \1 = await import(\2);", example)
        pets = page.evaluate(f"async () => {{ {body.replace('console.log', 'return ')} }}")
        assert [(pet["name"], pet["species"]) for pet in pets] == [("Bunny", "dog"), ("Ru", "cat")]
    assert len(examples) == 2


def test_a_refused_sign_in_shows_the_error(page: Page, front_end: str) -> None:
    page.goto(front_end)
    page.get_by_label("Username").fill("travis")
    page.get_by_label("Password").fill("wrong")
    page.keyboard.press("Enter")

    page.get_by_text("401 Incorrect username and/or password.").wait_for()
    assert page.get_by_role("listitem").count() == 0
