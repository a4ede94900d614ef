"""Chromium, for the tests of what runs in a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.helpers.panel import Hand, Keyboard, Mouse, Panel
from tests.helpers.server import BASE_ENVIRONMENT, running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser for all tests."""
    if CHROMIUM is None and os.environ.get("CI") != "true":
        pytest.skip("there is no Chromium here: sudo apt install chromium")
    assert CHROMIUM, "CI must have Chromium: apt-get install chromium"
    expect.set_options(timeout=60_000)  # milliseconds; a busy machine takes long
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=flags,
            ignore_default_args=[
                "--disable-back-forward-cache"
            ],  # tests/browser/test_client.py needs it
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page, in a context without cookies and storage."""
    with browser.new_context() as context:
        yield context.new_page()


@pytest.fixture(scope="module")
def loaded_panel(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Panel]:
    """The admin panel of a service of its own, where the demo user is an admin and signed in."""
    folder = tmp_path_factory.mktemp("panel")
    with (
        running(folder, BASE_ENVIRONMENT | {"THROTTLE_PAIR": "5"}) as server,
        browser.new_context(permissions=["clipboard-read", "clipboard-write"]) as context,
    ):
        context.set_default_timeout(60_000)
        panel = Panel(context.new_page(), server)
        panel.sql("UPDATE users SET admin = 1")
        panel.sign_in(panel.load())
        panel.is_at("Overview")
        yield panel


@pytest.fixture
def panel(loaded_panel: Panel) -> Iterator[Panel]:
    """The panel, which must have logged nothing at the end."""
    loaded_panel.reset()
    yield loaded_panel
    loaded_panel.page.unroute_all()
    loaded_panel.logs_nothing()


@pytest.fixture(params=[Mouse, Keyboard], ids=["mouse", "keyboard"])
def hand(panel: Panel, request: pytest.FixtureRequest) -> Hand:
    """Someone who uses the panel by mouse, or by keyboard alone."""
    return panel.take(request.param)
