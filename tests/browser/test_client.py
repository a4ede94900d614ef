"""The browser client, in tabs of another origin: nothing signs a user out by accident."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Route

from tests.helpers.server import BASE_ENVIRONMENT, running
from tests.helpers.tabs import (
    DAY,
    FILLED_STORE,
    GRACE_SECONDS,
    MINUTE,
    NO_SPACE,
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
    folder, settings = (
        tmp_path_factory.mktemp("client"),
        {"REFRESH_GRACE": str(GRACE_SECONDS), "SIGNUP": "open"},
    )
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
    tabs += [front_end.join(script, storage=storage) for _ in range(2)]
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
    front_end.refresh_in_turn(*tabs)
    assert front_end.generation(session) == 5
    assert [tab.reasons() for tab in tabs] == [["start", "signed_in"], [], []]


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
    front_end.refresh_in_turn(copy, tab)
    copy.page.close()


@pytest.mark.parametrize(("storage", "script"), [("memory", ""), ("local", FILLED_STORE)])
def test_a_response_that_was_lost_a_day_ago_signs_nobody_out(
    front_end: FrontEnd, storage: str, script: str
) -> None:
    tab = front_end.open(storage=storage)
    tab.sign_in()
    session = tab.session()
    other = front_end.join(storage=storage)
    lost: list[Route] = []

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()
        lost.append(route)

    if script:
        tab.page.evaluate(script)
    tab.page.route("**/auth/refresh", lose)
    tab.move_clock(16 * MINUTE)
    tab.begin("auth.token()")
    front_end.until(lambda: lost != [])
    front_end.pass_grace(24 * 60 * 60)

    if storage == "local":  # the browser was closed, too
        tab.page.evaluate("auth.close()")
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


def test_a_tab_that_was_stopped_goes_on_with_the_newest_tokens(front_end: FrontEnd) -> None:
    tab = front_end.open()
    tab.sign_in()
    session = tab.session()
    other = front_end.join()
    tab.page.evaluate("void ((new BroadcastChannel(key)).onmessage = () => (window.heard = true))")

    with tab.stopped():
        for expiries in (1, 2, 3):
            other.move_clock(expiries * 16 * MINUTE)
            assert other.status() == 200
            front_end.pass_grace()
    tab.until("heard")
    tab.move_clock(48 * MINUTE)

    assert tab.status() == 200
    assert front_end.generation(session) == 4
    front_end.refresh_in_turn(tab, other)
    assert [tab.reasons(), other.reasons()] == [["start", "signed_in"], []]


@pytest.mark.parametrize("storage", ["memory", "local"])
def test_a_response_that_arrives_late_replaces_no_newer_tokens(
    front_end: FrontEnd, storage: str
) -> None:
    slow = front_end.open(WITHOUT_LOCKS, storage=storage)
    slow.sign_in()
    session = slow.session()
    fast = front_end.join(WITHOUT_LOCKS, storage=storage)
    held = front_end.hold("/auth/refresh", limit=1)
    slow.begin("auth.token().then((token) => auth.token(token)).then(() => 'refreshed')")
    front_end.until(lambda: len(held.responses) == 1)

    assert [fast.refresh(), fast.refresh()] == ["refreshed"] * 2
    held.release()

    assert slow.end() == "refreshed"
    front_end.pass_grace()
    front_end.refresh_in_turn(slow, fast)
    assert front_end.generation(session) == 5


def test_a_wrong_clock_signs_nobody_out(front_end: FrontEnd) -> None:
    tab = front_end.open(storage="local")
    tab.sign_in()
    session = tab.session()

    for years, generation in ((1, 2), (1, 2), (0, 3), (-1, 4), (-1, 4), (0, 5)):
        tab.move_clock(years * 365 * DAY)
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
    tab = front_end.open()
    tab.sign_in()
    tab.page.evaluate(SHORT_TIME_LIMITS)
    front_end.context.route("**/auth/**", lambda _: None)

    assert tab.call("auth.sessions()") == ["timeout", 0, 0]
    tab.move_clock(16 * MINUTE)
    assert tab.call("auth.token()") == ["timeout", 0, 0]
    assert tab.user() == "travis"


# Signing in and out


def test_signing_in_and_out_is_told_to_all_tabs_once(front_end: FrontEnd) -> None:
    tab, other = front_end.open(), front_end.open()
    assert tab.call("auth.token()") == ["signed_out", 0, 0]
    assert tab.call("auth.signIn('travis', 'wrong')") == ["wrong_credentials", 401, 0]
    assert tab.user() is None
    tab.sign_in()
    session = tab.session()
    other.until("changes.length === 2")
    assert other.status() == 200
    early = "(window.early = new AuthClient(api)).token().then((token) => early.close())"
    assert other.call(early) is None  # it has waited for `ready`

    assert other.call("auth.signOut()") is None

    tab.until("changes.length === 3")
    assert tab.reasons() == ["start", "signed_in", "elsewhere"]
    assert other.reasons() == ["start", "elsewhere", "signed_out"]
    assert tab.status() == other.status() == ["signed_out", 0, 0]
    assert front_end.has_ended(session)
    logged = [line for line in front_end.console if "401" not in line]
    assert logged == []


def test_a_late_message_does_not_sign_in_again(front_end: FrontEnd) -> None:
    tab, other = front_end.open(), front_end.open()
    tab.page.evaluate(
        "window.spy = new BroadcastChannel(key);"
        " void (spy.onmessage = ({ data }) => { if (data.pair) spy.heard = data; })"
    )
    tab.sign_in()
    other.until("auth.user")
    assert other.call("auth.signOut()") is None
    tab.until("auth.user === null")

    tab.page.evaluate("spy.postMessage(spy.heard)")
    tab.page.evaluate("spy.postMessage({ out: 'another session' })")  # the last to arrive
    other.page.evaluate("new Promise((resolve) => setTimeout(resolve))")

    assert tab.page.evaluate("spy.heard.pair.user.username") == "travis"
    assert [tab.user(), other.user()] == [None, None]


def test_signing_out_during_a_refresh_ends_the_new_tokens(front_end: FrontEnd) -> None:
    tab = front_end.open()
    tab.sign_in()
    session = tab.session()
    sent: list[str] = []

    def lose(route: Route) -> None:
        sent.append(dict(route.request.post_data_json or {})["refresh_token"])
        route.fulfill(status=204)

    front_end.context.route("**/auth/logout", lose)
    held = front_end.hold("/auth/refresh")
    tab.begin("auth.token().then((token) => auth.token(token))")
    front_end.until(lambda: len(held.responses) == 1)

    assert tab.call("auth.signOut()") is None
    assert not front_end.has_ended(session)
    held.release()

    assert tab.end() == ["signed_out", 0, 0]
    front_end.until(lambda: len(sent) == 2)
    assert sent[1] == held.responses[0][1].json()["refresh_token"] != sent[0]
    assert tab.user() is None
    assert tab.reasons() == ["start", "signed_in", "signed_out"]


def test_signing_out_during_a_sign_in_cancels_it(front_end: FrontEnd) -> None:
    tab = front_end.open()
    held = front_end.hold("/me")
    tab.begin("auth.signIn('travis', 'mypassword')")
    front_end.until(lambda: len(held.responses) == 1)

    assert tab.call("auth.signOut()") is None
    held.release()

    assert tab.end() == ["signed_out", 0, 0]
    assert tab.reasons() == ["start"]
    newest = "SELECT ended_at IS NOT NULL FROM sessions ORDER BY number DESC LIMIT 1"
    front_end.until(lambda: front_end.sql(newest) == [(1,)])


def test_signing_out_offline_is_told_to_the_service_later(front_end: FrontEnd) -> None:
    tab = front_end.open()
    tab.sign_in()
    session = tab.session()

    front_end.context.set_offline(True)
    tab.begin("auth.signOut()")
    assert tab.user() is None
    assert tab.end() is None
    assert not front_end.has_ended(session)

    front_end.context.set_offline(False)
    front_end.until(lambda: front_end.has_ended(session))


def test_a_page_that_is_left_can_sign_out_and_one_that_is_restored_notices(
    front_end: FrontEnd,
) -> None:
    tab, other = front_end.open(), front_end.open()
    tab.sign_in()
    session = tab.session()
    other.until("auth.user")
    tab.page.evaluate("addEventListener('pageshow', (event) => (window.shown = event.persisted))")
    other.page.evaluate("addEventListener('pagehide', () => auth.signOut(), { once: true })")

    tab.page.goto(f"{front_end.url}/front-end.html")
    other.page.goto(f"{front_end.url}/front-end.html")
    front_end.until(lambda: front_end.has_ended(session))
    other.page.go_back(wait_until="commit")
    tab.page.go_back(wait_until="commit")

    tab.until("shown")
    tab.until("auth.user === null")
    assert tab.reasons() == ["start", "signed_in", "elsewhere"]


def test_signing_out_everywhere_works_with_a_refused_access_token(front_end: FrontEnd) -> None:
    tab = front_end.open(storage="local")
    tab.sign_up("ada")
    other = front_end.open(name="another")
    other.sign_in("ada", "correct horse")
    third = front_end.open(name="a third")
    third.sign_in("ada", "correct horse")

    assert tab.call("auth.signOut('others')") is None
    assert third.status() == ["session_ended", 401, 0]
    other.sign_in("ada", "correct horse")
    tab.page.evaluate("forge()")
    assert tab.call("auth.signOut('global')") is None

    assert other.status() == ["session_ended", 401, 0]
    assert other.reasons() == ["start", "signed_in", "ended"]
    assert third.reasons() == ["start", "signed_in", "ended"]
    assert tab.reasons() == ["start", "signed_in", "signed_out"]


# Sessions that the service ends


def test_a_stolen_refresh_token_ends_the_session_in_all_tabs(front_end: FrontEnd) -> None:
    tab = front_end.open(storage="local")
    tab.sign_in()
    other = front_end.join(storage="local")
    fields = {"refresh_token": tab.page.evaluate("stored().refresh")}
    loot = json.loads(front_end.post("/auth/refresh", fields).body)
    front_end.pass_grace()

    assert tab.refresh() == ["refresh_token_reused", 401, 0]

    other.until("changes.length === 1")
    assert tab.reasons() == ["start", "signed_in", "stolen"]
    assert other.reasons() == ["stolen"]
    fields = {"refresh_token": loot["refresh_token"]}
    assert front_end.post("/auth/refresh", fields).status == 401


def test_a_thief_who_has_just_refreshed_elsewhere_loses_the_session_too(
    front_end: FrontEnd,
) -> None:
    tab = front_end.open(storage="local")
    tab.sign_in()
    session = tab.session()
    fields = {"refresh_token": tab.page.evaluate("stored().refresh")}
    assert front_end.post("/auth/refresh", fields, "a thief's program").status == 200

    assert tab.refresh() == ["refresh_token_invalid", 401, 0]

    assert tab.reasons() == ["start", "signed_in", "ended"]
    front_end.until(lambda: front_end.has_ended(session))


def test_a_session_that_another_one_has_ended(front_end: FrontEnd) -> None:
    tab = front_end.open()
    tab.sign_in()
    session = tab.session()
    other = front_end.open(name="another")
    other.sign_in()

    assert session in other.call("auth.sessions().then((all) => all.map(({ id }) => id))")
    assert other.call(f"auth.endSession('{session}')") is None

    assert tab.status() == ["session_ended", 401, 0]
    assert tab.reasons() == ["start", "signed_in", "ended"]
    assert other.status() == 200


def test_a_session_that_has_expired(front_end: FrontEnd) -> None:
    tab = front_end.open()
    tab.sign_in()
    front_end.sql("UPDATE sessions SET expires_at = 1 WHERE id = ?", tab.session())

    assert tab.status() == ["session_expired", 401, 0]

    assert tab.reasons() == ["start", "signed_in", "expired"]


def test_an_account_that_the_user_has_deleted(front_end: FrontEnd) -> None:
    tab = front_end.open()
    tab.sign_up("erin")

    body = "new URLSearchParams({ password: 'correct horse' })"
    assert tab.call(f"auth.fetch('/me', {{ method: 'DELETE', body: {body} }}){STATUS}") == 204

    tab.until("auth.user === null")
    assert tab.reasons() == ["start", "signed_in", "signed_out"]


# Requests with the token


def rename_to(name: str) -> str:
    """Return a request that renames the user."""
    body = f"new URLSearchParams({{ username: '{name}' }})"
    return f"auth.fetch('/me', {{ method: 'PATCH', body: {body} }}){STATUS}"


def rename_back(front_end: FrontEnd) -> None:
    front_end.sql("UPDATE users SET username = 'travis', username_key = 'travis' WHERE id = 1")


def test_an_old_sign_in_asks_once_for_the_password(front_end: FrontEnd) -> None:
    tab = front_end.open()
    tab.sign_in()
    other = front_end.join()
    front_end.sql("UPDATE sessions SET authenticated_at = authenticated_at - 960")

    rename = rename_to("Travis")
    assert tab.call(rename) == 401  # onStepUp has returned null
    assert tab.page.evaluate("asked") == 1
    tab.page.evaluate("password = 'wrong'")
    assert tab.call(rename) == ["wrong_password", 403, 0]
    tab.page.evaluate("[asked, password] = [0, 'mypassword']")
    assert tab.call(f"Promise.all([{rename}, {rename}])") == [200, 200]

    assert tab.page.evaluate("asked") == 1
    other.until("auth.user.username === 'Travis'")
    tab.until("changes.length === 3")
    assert tab.reasons() == ["start", "signed_in", "updated"]
    assert other.reasons() == ["updated"]
    rename_back(front_end)


def test_a_refused_request_is_sent_again_once_with_a_new_token(front_end: FrontEnd) -> None:
    tab = front_end.open(storage="local")
    tab.sign_in()
    session = tab.session()
    sent: list[str] = []
    front_end.context.on("request", lambda request: sent.append(request.url))
    post = "auth.fetch('/pets', { method: 'POST', body: new URLSearchParams({ name: 'Rex' }) })"
    requests = {
        post: 201,
        "auth.fetch('pets')": 200,
        "auth.fetch(new Request(`${api}/my-pets`))": 200,  # it answers 403 instead of 401
    }

    for count, (request, status) in enumerate(requests.items(), start=1):
        tab.page.evaluate("forge()")
        assert tab.call(request + STATUS) == status
        assert front_end.generation(session) == 1 + count
        assert len([url for url in sent if url.endswith("pets")]) == 2 * count
    assert tab.reasons() == ["start", "signed_in"]


def test_a_request_is_not_sent_again_as_another_user(front_end: FrontEnd) -> None:
    tab, other = front_end.open(storage="local"), front_end.open(storage="local")
    tab.sign_in()
    front_end.sql("UPDATE sessions SET ended_at = 1 WHERE id = ?", tab.session())
    held = front_end.hold("/pets", limit=1)
    tab.begin(f"auth.fetch('/pets'){STATUS}")
    front_end.until(lambda: len(held.responses) == 1)

    other.sign_up("bob")
    tab.until("auth.user.username === 'bob'")
    held.release()

    assert tab.end() == ["signed_out", 0, 0]
    assert tab.reasons() == ["start", "signed_in", "elsewhere"]
    assert tab.status() == 200


def test_the_token_is_sent_to_listed_origins_only(front_end: FrontEnd) -> None:
    tab = front_end.open(origins=["http://LOCALHOST:80/"])
    tab.sign_in()
    sent: list[dict[str, str]] = []

    def answer(route: Route) -> None:
        sent.append(route.request.headers)
        route.fulfill(status=200)

    front_end.context.route("http://localhost/**", answer)
    assert tab.status("http://127.0.0.1:1/pets") == ["origin", 0, 0]
    assert tab.call("auth.fetch(new Request('front-end.html'))") == ["origin", 0, 0]
    assert tab.status("//127.0.0.1:1/pets") == 404  # a path of the service
    assert sent == []


# Listeners, passwords and stores


@pytest.mark.parametrize("script", LOCKS)
def test_a_new_password_keeps_all_tabs_signed_in(front_end: FrontEnd, script: str) -> None:
    tab = front_end.open(script)
    tab.sign_up(f"carol {len(script)}")
    other = front_end.join(script)
    other.page.evaluate("AbortSignal.timeout = () => undefined")  # it waits for the lock
    changed, refused = front_end.hold("/me/password"), front_end.hold("/auth/refresh", limit=1)
    tab.begin("auth.changePassword('correct horse', 'battery staple')")
    front_end.until(lambda: len(changed.responses) == 1)

    # The service has ended the session that the other tab still uses.
    other.begin(f"auth.fetch('/pets'){STATUS}")
    front_end.until(lambda: len(refused.responses) + waiting_for_lock(front_end) == 1)
    changed.release()
    assert tab.end() is None
    front_end.until(lambda: bool(other.call("auth.token()") == tab.call("auth.token()")))
    refused.release()

    assert other.end() == 200
    front_end.refresh_in_turn(tab, other)
    assert [tab.reasons(), other.reasons()] == [["start", "signed_in"], []]


def test_a_temporary_password_can_be_changed(front_end: FrontEnd) -> None:
    tab = front_end.open()
    tab.sign_up("dave")
    assert tab.call("auth.signOut()") is None
    refused = problem(403, "password_change_required")
    front_end.context.route("**/me", lambda route: route.fulfill(**refused))
    error = tab.call("auth.signIn('dave', 'correct horse')")
    assert error == ["password_change_required", 403, 0]
    assert tab.user() is None
    front_end.context.unroute_all()

    assert tab.call("auth.changePassword('correct horse', 'battery staple')") is None

    assert tab.user() == "dave"
    assert tab.reasons() == ["start", "signed_in", "signed_out", "signed_in"]


def test_listeners_are_told_of_changes_only_and_may_use_the_client(front_end: FrontEnd) -> None:
    tab = front_end.open(storage="local")
    tab.sign_in()
    front_end.sql("UPDATE sessions SET expires_at = 1 WHERE id = ?", tab.session())
    tab.page.evaluate(
        """() => {
          window.later = [];
          const end = auth.onChange(({ reason }) => later.push(reason));
          auth.onChange(() => end());
          auth.onChange(({ user }) => { if (!user) throw new Error("of a listener"); });
          window.asked = new Promise((resolve) => auth.onChange(({ user }) => {
            const options = { ifAvailable: true };
            if (!user) resolve(navigator.locks.request(key, options, (lock) => lock !== null));
          }));
          for (const event of ["online", "pagehide", "pageshow"]) dispatchEvent(new Event(event));
          document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    assert tab.page.evaluate("auth.user === auth.user")

    assert tab.refresh() == ["session_expired", 401, 0]

    assert tab.page.evaluate("asked") is True  # the lock was free
    assert tab.reasons() == ["start", "signed_in", "expired"]
    assert tab.page.evaluate("later") == ["start"]
    front_end.until(lambda: front_end.console != [])
    assert "of a listener" in front_end.console.pop()


def test_a_closed_client_is_silent_as_react_closes_the_first_of_two(front_end: FrontEnd) -> None:
    tab = front_end.open()
    tab.page.evaluate(
        """() => {
          auth.close();
          window.told = [];
          for (const name of ["first", "second"]) {
            const client = new AuthClient(api);
            client.onChange(({ reason }) => told.push([name, reason]));
            if (name === "first") client.close();
            else window.auth = client;
          }
        }"""
    )

    tab.sign_in()

    assert tab.page.evaluate("told") == [["second", "start"], ["second", "signed_in"]]


def test_without_a_store_the_open_tabs_keep_the_session(front_end: FrontEnd) -> None:
    tab = front_end.open(NO_SPACE, storage="local")
    tab.sign_in()
    session = tab.session()
    other = front_end.join(NO_SPACE, storage="local")

    front_end.refresh_in_turn(other, tab)
    front_end.pass_grace()
    front_end.start(tab.page, storage="local")
    tab.until("auth.user")
    assert tab.refresh() == "refreshed"
    assert front_end.generation(session) == 4


def test_a_store_without_space_for_new_tokens_keeps_no_used_ones(front_end: FrontEnd) -> None:
    tab = front_end.open(storage="local")
    tab.sign_in()
    session = tab.session()
    tab.page.evaluate(FILLED_STORE)
    assert tab.call(rename_to("travis with a longer name")) == 200
    tab.until("changes.length === 3")

    assert tab.refresh() == "refreshed"
    front_end.pass_grace()
    front_end.start(tab.page, storage="local")

    assert tab.status() == ["signed_out", 0, 0]
    assert not front_end.has_ended(session)
    rename_back(front_end)
