"""Chromium, for the tests of what runs in a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

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
