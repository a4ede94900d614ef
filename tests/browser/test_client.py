"""The browser client, in tabs of another origin: nothing signs a user out by accident."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Route

from tests.helpers.server import BASE_ENVIRONMENT, running
from tests.helpers.tabs import (
    DAY,
    GRACE_SECONDS,
    MINUTE,
    SHORT_TIME_LIMITS,
    STATUS,
    WITHOUT_LOCKS,
    FrontEnd,
    serve_pages,
)

pytestmark = pytest.mark.slow

STORAGES = ["memory", "session", "local"]
LOCKS = [pytest.param("", id="locks"), pytest.param(WITHOUT_LOCKS, id="no-locks")]
NETWORK_ERRORS = "Failed to load resource"
"""Begins what Chromium itself logs of a response of 400 or more, and of a failed request."""


@pytest.fixture(scope="module")
def tabs(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontEnd]:
    """A service of its own, and a browser with tabs that the tests use in turn."""
    folder, settings = tmp_path_factory.mktemp("client"), {"REFRESH_GRACE": str(GRACE_SECONDS)}
    with (
        running(folder, BASE_ENVIRONMENT | settings) as server,
        serve_pages(server.url) as url,
        browser.new_context() as context,
    ):
        context.set_default_timeout(60_000)
        front_end = FrontEnd(context, server, url)
        context.on("console", lambda message: front_end.console.append(message.text))
        context.on("weberror", lambda error: front_end.console.append(str(error.error)))
        yield front_end


@pytest.fixture
def front_end(tabs: FrontEnd) -> Iterator[FrontEnd]:
    yield tabs
    logged = [line for line in tabs.console if not line.startswith(NETWORK_ERRORS)]
    tabs.reset()
    assert logged == []  # neither an error nor a violation of the content security policy


def waiting_for_lock(front_end: FrontEnd) -> int:
    count: int = front_end.used[0].evaluate(
        "navigator.locks ? navigator.locks.query().then(({ pending }) => pending.length) : 0"
    )
    return count


# Refreshing


@pytest.mark.parametrize("script", LOCKS)
@pytest.mark.parametrize("storage", STORAGES)
def test_three_tabs_with_an_expired_token_rotate_once(
    front_end: FrontEnd, storage: str, script: str
) -> None:
    tabs = [front_end.open(script, storage=storage)]
    tabs[0].sign_in()
    tabs += [front_end.open(script, storage=storage) for _ in range(2)]
    session = tabs[0].session()
    held = front_end.hold("/auth/refresh")

    for tab in tabs:
        tab.move_clock(16 * MINUTE)
        tab.begin(f"auth.fetch('/pets'){STATUS}")
    front_end.until(lambda: len(held.responses) + waiting_for_lock(front_end) == 3)
    held.release()

    assert [tab.end() for tab in tabs] == [200, 200, 200]
    assert front_end.generation(session) == 2
    front_end.pass_grace()
    assert [tab.refresh() for tab in tabs] == ["refreshed"] * 3
    assert front_end.generation(session) == 5
    assert [tab.reasons() for tab in tabs] == [["start", "signed_in"], ["start"], ["start"]]


def test_a_tab_with_a_copy_of_the_session_storage_shares_the_session(front_end: FrontEnd) -> None:
    tab = front_end.open(storage="session")
    tab.sign_in()
    session = tab.session()
    with front_end.context.expect_page() as opened:
        tab.page.evaluate("void window.open(location.href)")
    assert opened.value.evaluate("sessionStorage.length") == 1
    copy = front_end.start(front_end.load(opened.value), storage="session")
    held = front_end.hold("/auth/refresh")

    for each in (tab, copy):
        each.begin("auth.token().then((token) => auth.token(token)).then(() => 'refreshed')")
    front_end.until(lambda: len(held.responses) + waiting_for_lock(front_end) == 2)
    held.release()

    assert [tab.end(), copy.end()] == ["refreshed"] * 2
    assert front_end.generation(session) == 2
    front_end.pass_grace()
    assert [copy.refresh(), tab.refresh()] == ["refreshed"] * 2
    copy.page.close()


@pytest.mark.parametrize("storage", ["memory", "local"])
def test_a_response_that_was_lost_a_day_ago_signs_nobody_out(
    front_end: FrontEnd, storage: str
) -> None:
    tab = front_end.open(storage=storage)
    tab.sign_in()
    session = tab.session()
    other = front_end.open(storage=storage)
    lost: list[Route] = []

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()
        lost.append(route)

    tab.page.route("**/auth/refresh", lose)
    tab.move_clock(16 * MINUTE)
    tab.begin("auth.token()")
    front_end.until(lambda: lost != [])
    front_end.pass_grace(24 * 60 * 60)

    if storage == "local":  # the browser was closed, too
        front_end.start(other.page, storage=storage)
    other.move_clock(DAY)
    assert other.status() == 200
    assert front_end.generation(session) == 2
    assert other.refresh() == "refreshed"
    assert other.user() == "travis"
    tab.page.unroute_all()


def test_a_response_that_is_lost_is_asked_for_again_with_the_same_key(front_end: FrontEnd) -> None:
    tab = front_end.open()
    tab.sign_in()
    keys: list[str] = []

    def lose_first(route: Route) -> None:
        keys.append(dict(route.request.post_data_json or {})["retry_key"])
        route.fetch()
        if len(keys) == 1:
            front_end.pass_grace()
            route.abort()
        else:
            route.continue_()

    front_end.context.route("**/auth/refresh", lose_first)

    assert tab.refresh() == "refreshed"
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert front_end.generation(tab.session()) == 2
    assert tab.refresh() == "refreshed"
    assert len(set(keys)) == 2


def test_a_tab_that_was_frozen_goes_on_with_the_newest_tokens(front_end: FrontEnd) -> None:
    tab = front_end.open()
    tab.sign_in()
    session = tab.session()
    other = front_end.open()

    with tab.frozen():
        for expiries in (1, 2, 3):
            other.move_clock(expiries * 16 * MINUTE)
            assert other.status() == 200
            front_end.pass_grace()
    tab.move_clock(48 * MINUTE)

    assert tab.status() == 200
    assert front_end.generation(session) == 4
    assert [tab.refresh(), other.refresh()] == ["refreshed"] * 2
    assert [tab.reasons(), other.reasons()] == [["start", "signed_in"], ["start"]]


@pytest.mark.parametrize("storage", ["memory", "local"])
def test_a_response_that_arrives_late_replaces_no_newer_tokens(
    front_end: FrontEnd, storage: str
) -> None:
    slow = front_end.open(WITHOUT_LOCKS, storage=storage)
    slow.sign_in()
    session = slow.session()
    fast = front_end.open(WITHOUT_LOCKS, storage=storage)
    held = front_end.hold("/auth/refresh", limit=1)
    slow.begin("auth.token().then((token) => auth.token(token)).then(() => 'refreshed')")
    front_end.until(lambda: len(held.responses) == 1)

    assert [fast.refresh(), fast.refresh()] == ["refreshed"] * 2
    held.release()

    assert slow.end() == "refreshed"
    front_end.pass_grace()
    assert [slow.refresh(), fast.refresh()] == ["refreshed"] * 2
    assert front_end.generation(session) == 5


@pytest.mark.parametrize("years", [1, -1])
def test_a_wrong_clock_signs_nobody_out(front_end: FrontEnd, years: int) -> None:
    tab = front_end.open(storage="local")
    tab.sign_in()
    session = tab.session()

    for ahead, generation in ((years, 2), (years, 2), (0, 3), (0, 3)):
        tab.move_clock(ahead * 365 * DAY)
        assert tab.status() == 200
        assert front_end.generation(session) == generation
    assert tab.reasons() == ["start", "signed_in"]


def problem(status: int, code: str, **headers: str) -> dict[str, Any]:
    """Return an error of the service."""
    exposed = {"Access-Control-Expose-Headers": ", ".join(headers)}
    return {
        "status": status,
        "json": {"code": code, "detail": "later"},
        "headers": exposed | headers,
    }


HOTEL = {"status": 200, "content_type": "text/html", "body": "<h1>Welcome to our hotel</h1>"}


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (HOTEL, ["bad_response", 200, 0]),
        ({"status": 403} | HOTEL, ["bad_response", 200, 0]),
        (problem(429, "throttled", **{"Retry-After": "60"}), ["throttled", 429, 60]),
        (problem(503, "busy", **{"Retry-After": "60"}), ["busy", 503, 60]),
        (problem(401, "something_new"), ["something_new", 401, 0]),
    ],
)  # fmt: skip
def test_a_refused_refresh_is_not_repeated_at_once_and_signs_nobody_out(
    front_end: FrontEnd, response: dict[str, Any], error: list[Any]
) -> None:
    tab = front_end.open()
    tab.sign_in()
    requests: list[str] = []

    def refuse(route: Route) -> None:
        requests.append(route.request.url)
        route.fulfill(**response)

    front_end.context.route("**/auth/refresh", refuse)

    tab.move_clock(14 * MINUTE + MINUTE // 2)  # half a minute before it expires
    assert tab.status() == 200
    tab.move_clock(16 * MINUTE)
    assert [tab.call("auth.token()"), tab.call("auth.token()")] == [error, error]
    assert error[2] == 0 or len(requests) == 1
    assert tab.user() == "travis"

    front_end.context.unroute_all()
    tab.page.evaluate("dispatchEvent(new Event('online'))")
    assert tab.status() == 200
    assert tab.reasons() == ["start", "signed_in"]


def test_without_a_network_nobody_is_signed_out(front_end: FrontEnd) -> None:
    tab = front_end.open()
    tab.sign_in()
    tab.move_clock(16 * MINUTE)

    front_end.context.set_offline(True)
    assert tab.call("auth.token()") == ["offline", 0, 0]
    assert tab.call("auth.signIn('travis', 'mypassword')") == ["offline", 0, 0]
    assert tab.user() == "travis"

    front_end.context.set_offline(False)
    tab.until("navigator.onLine")
    assert tab.status() == 200


def test_a_request_that_hangs_times_out(front_end: FrontEnd) -> None:
    tab = front_end.open(SHORT_TIME_LIMITS)
    front_end.context.route("**/auth/**", lambda _: None)
    front_end.context.route("**/auth", lambda route: route.continue_())
    tab.sign_in()

    assert tab.call("auth.sessions()") == ["timeout", 0, 0]
    tab.move_clock(16 * MINUTE)
    assert tab.call("auth.token()") == ["timeout", 0, 0]
    assert tab.user() == "travis"
