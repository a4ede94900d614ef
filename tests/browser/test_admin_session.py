"""Sessions of the admin panel: signing in, and what happens in the middle of a change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.helpers.panel import ADMIN, NEW_PASSWORD, PASSWORD, Hand, Keyboard, Mouse, Panel, unique
from tests.helpers.server import BASE_ENVIRONMENT, running

pytestmark = pytest.mark.slow


# Signing in


@pytest.fixture
def signed_out(panel: Panel, browser: Browser) -> Iterator[Panel]:
    """The panel in another browser, where nobody is signed in."""
    with browser.new_context() as context:
        other = Panel(context.new_page(), panel.server)
        yield other
        other.logs_nothing()


@pytest.mark.parametrize("kind", [Mouse, Keyboard])
def test_only_admins_get_in_and_others_are_told(signed_out: Panel, kind: type[Hand]) -> None:
    hand = signed_out.load(kind)
    page = signed_out.page
    user = f"user {kind.__name__}"
    signed_out.add_user(user)

    signed_out.finds_no_barrier()
    signed_out.sign_in(hand, ADMIN, "wrong")
    expect(page.get_by_role("alert")).to_have_text("Incorrect username and/or password.")
    signed_out.sign_in(hand, user)
    expect(page.get_by_role("alert")).to_contain_text(f"{user} is not an admin.")
    assert signed_out.sql(
        "SELECT count(*) FROM sessions JOIN users ON users.id = user_id"
        " WHERE username = ? AND ended_at IS NULL", user,
    ) == [(0,)]  # fmt: skip
    signed_out.sign_in(hand)
    signed_out.is_at("Overview")
    page.reload()  # the session was kept in memory
    signed_out.is_at("Sign in")


@pytest.mark.parametrize("kind", [Mouse, Keyboard])
def test_a_temporary_password_is_replaced_in_place(signed_out: Panel, kind: type[Hand]) -> None:
    hand = signed_out.load(kind)
    user = f"temporary {kind.__name__}"
    signed_out.add_user(user, admin=True)
    signed_out.sql(
        "UPDATE users SET password_expires_at = unixepoch() + 9999 WHERE username = ?", user
    )

    hand.press("Keep me signed in until this tab is closed")
    signed_out.sign_in(hand, user)
    hand.fill("New password", "short")
    hand.press("Save and go on")
    expect(signed_out.field("New password")).to_have_accessible_description(
        "Use at least 8 characters."
    )
    signed_out.finds_no_barrier()
    hand.fill("New password", NEW_PASSWORD)
    hand.press("Save and go on")
    signed_out.is_at("Overview")

    signed_out.page.reload()
    signed_out.is_at("Overview")
    hand.press("Sign out")
    signed_out.is_at("Sign in")
    assert user not in signed_out.page.inner_text("body")


def test_tabs_share_the_session_and_its_end(panel: Panel) -> None:
    hand = panel.take(Mouse)
    with panel.page.context.new_page() as page:
        other = Panel(page, panel.server, console=panel.console)
        page.goto(f"{panel.server.url}/admin/#/users/1")
        other.is_at(ADMIN)
        other.field("Claims as JSON").fill('{"half": "typed')

        panel.end_sessions()
        panel.show("#/users", "Sign in again")
        other.is_at("Sign in again")
        panel.sign_in(hand)
        panel.is_at("Users")
        expect(page.locator("dialog")).to_have_count(0)
        expect(other.field("Claims as JSON")).to_have_value('{"half": "typed')

        hand.press("Sign out")
        other.is_at("Sign in again")
        expect(page.get_by_text("You have signed out in another tab.")).to_be_visible()
        panel.sign_in(hand)
        expect(page.locator("dialog")).to_have_count(0)
        expect(other.field("Claims as JSON")).to_have_value('{"half": "typed')

        other.field("Claims as JSON").fill("")  # nothing that would be lost
        page.get_by_role("button", name="Delete user …").click()
        hand.press("Sign out")
        other.is_at("Sign in")
        expect(page.locator("dialog")).to_have_count(0)
        panel.sign_in(hand)
        other.is_at(ADMIN)


def test_it_works_below_a_path(browser: Browser, tmp_path: Path) -> None:
    settings = BASE_ENVIRONMENT | {"SCRIPT_NAME": "/login"}
    with running(tmp_path, settings) as server, browser.new_page() as page:
        panel = Panel(page, server, prefix="/login")
        panel.sql("UPDATE users SET admin = 1")
        for number in range(100):
            panel.add_user(f"user {number}")
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        hand = panel.load()
        panel.sign_in(hand)
        hand.press("Users")
        hand.press("More")
        expect(page.get_by_text("101 users.")).to_be_visible()

        panel.logs_nothing()
        assert all(url.startswith((f"{server.url}/login/", "data:")) for url in requested)


# In the middle of a change

DOWN = {"code": "database_unavailable", "detail": "The database is unavailable."}
THROTTLED = {"code": "too_many_attempts", "detail": "Too many attempts. Try again in 2 minutes."}
REFUSALS = [
    (503, "60", json.dumps(DOWN), "The database is unavailable. Retrying in 60 s."),
    (429, "120", json.dumps(THROTTLED), "Too many attempts. Retrying in 120 s."),
    (502, "", "<h1>Bad Gateway</h1>", "The service is unavailable. Retrying in 4 s."),
]
"""Responses of the service and of a proxy, with the Retry-After, and what is said."""


def test_the_password_is_asked_for_in_place_and_the_change_goes_on(
    panel: Panel, hand: Hand
) -> None:
    user, changed = unique("heidi", hand), unique("klum", hand)
    panel.show_new_user(user)
    panel.forget_passwords()

    hand.fill("Claims as JSON", '{"half": "typed')
    hand.fill("Username", changed)
    hand.press("Rename")
    panel.is_at("Confirm that it’s you")
    hand.fill("Password", "wrong")
    hand.press("Confirm")
    expect(panel.field("Password")).to_have_accessible_description("Wrong password.")
    panel.finds_no_barrier()
    hand.press("Cancel")
    expect(panel.page.get_by_role("alert").filter(has_text="Nothing was changed.")).to_be_visible()
    expect(panel.field("Username")).to_have_value(changed)
    hand.press("Rename")
    panel.is_at("Confirm that it’s you")
    hand.fill("Password", PASSWORD)
    hand.press("Confirm")
    panel.hears(f"Renamed to {changed}.")
    expect(panel.field("Claims as JSON")).to_have_value('{"half": "typed')


def test_after_the_session_has_ended_another_admin_goes_on_with_the_change(
    panel: Panel, hand: Hand
) -> None:
    user, other = unique("ivan", hand), unique("root", hand)
    panel.add_user(other, admin=True)
    panel.show_new_user(user)
    panel.end_sessions()

    hand.fill("Claims as JSON", '{"half": "typed')
    hand.press("Promote to admin")
    panel.is_at("Sign in again")
    panel.finds_no_barrier()
    hand.press("Cancel")
    expect(panel.page.get_by_text("You are signed out.")).to_be_visible()
    expect(panel.field("Claims as JSON")).to_have_value('{"half": "typed')
    hand.press("Promote to admin")
    panel.is_at("Sign in again")
    panel.sign_in(hand, other)
    panel.hears(f"{user} is an admin now.")
    expect(panel.field("Claims as JSON")).to_have_value('{"half": "typed')
    expect(panel.page.locator("#notice")).to_be_empty()
    expect(panel.page.locator("#who")).to_have_text(other)
    assert panel.sql(
        "SELECT username FROM audit JOIN users ON users.id = actor_id"
        " WHERE action = 'user_promoted' ORDER BY audit.id DESC LIMIT 1"
    ) == [(other,)]
    hand.press("Sign out")
    panel.sign_in(hand)
    panel.is_at(user)


def test_a_change_to_another_admin_is_not_done_to_oneself_unasked(panel: Panel) -> None:
    """Neither after the session has ended, nor while the password is asked for."""
    hand, second = panel.take(Mouse), "second"
    user_id = panel.add_user(second, admin=True)
    panel.show(f"#/users/{user_id}", second)
    alert = panel.page.get_by_role("alert").filter(has_text="Nothing was changed.")

    for end in (panel.end_sessions, panel.forget_passwords):
        end()
        hand.press("Disable")
        if end == panel.forget_passwords:
            panel.is_at("Confirm that it’s you")
            panel.end_sessions()
            hand.fill("Password", PASSWORD)
            hand.press("Confirm")
        panel.is_at("Sign in again")
        panel.sign_in(hand, second)
        expect(alert).to_be_visible()
        expect(panel.page.locator("dialog")).to_have_count(0)
        assert panel.user(second, "disabled") == (0,)
        hand.press("Sign out")
        panel.sign_in(hand)
        panel.is_at(second)

    hand.press("Sign out")
    panel.sign_in(hand, second)
    hand.press("Disable")
    panel.is_at("Disable yourself?")
    hand.press("Disable")
    panel.is_at("Sign in")
    assert panel.user(second, "disabled") == (1,)
    panel.sign_in(hand)
    panel.is_at(second)


def test_after_the_session_has_ended_the_password_is_given_once(panel: Panel) -> None:
    hand = panel.take(Mouse)
    panel.show_new_user("mallory")
    panel.forget_passwords()

    hand.press("Disable")
    panel.is_at("Confirm that it’s you")
    panel.end_sessions()
    hand.fill("Password", PASSWORD)
    hand.press("Confirm")
    panel.is_at("Sign in again")
    panel.sign_in(hand)
    panel.hears("mallory is disabled, and signed out everywhere.")
    expect(panel.page.locator("dialog")).to_have_count(0)


def test_a_demoted_admin_is_told_and_another_goes_on(panel: Panel) -> None:
    hand = panel.take(Mouse)
    panel.show_new_user("niaj")
    told = panel.page.locator("dialog").get_by_text("You are no longer an admin.")

    hand.fill("Claims as JSON", '{"half": "typed')
    panel.sql("UPDATE users SET admin = 0 WHERE id = 1")
    hand.press("Disable")
    expect(told).to_be_visible()
    panel.sql("UPDATE users SET admin = 1 WHERE id = 1")
    panel.sign_in(hand)
    panel.hears("niaj is disabled, and signed out everywhere.")
    expect(panel.field("Claims as JSON")).to_have_value('{"half": "typed')

    # Noticed by the client when it refreshes the token, before a request is refused.
    responses = iter([{"status": 401, "body": "{}"}, {"status": 200, "body": "[]"}])
    panel.page.route("**/admin/keys", lambda route: route.fulfill(**next(responses)))
    panel.sql("UPDATE users SET admin = 0 WHERE id = 1")
    panel.page.evaluate("location.hash = '#/keys'")
    expect(told).to_be_visible()
    panel.sql("UPDATE users SET admin = 1 WHERE id = 1")

    hand.press("Cancel")
    panel.page.evaluate("location.hash = '#/users'")
    expect(panel.page.get_by_text("Nobody is signed in.")).to_be_visible()
    expect(panel.page.locator("dialog")).to_have_count(0)  # it was declined
    panel.page.locator("#notice").get_by_role("button", name="Sign in").click()
    panel.sign_in(hand)
    expect(panel.page.locator("#notice")).to_be_empty()


def test_a_temporary_password_of_a_user_leads_back_to_the_sign_in(panel: Panel) -> None:
    hand = panel.take(Mouse)
    panel.add_user("tempo")
    panel.sql("UPDATE users SET password_expires_at = 9999999999 WHERE username = 'tempo'")
    panel.end_sessions()
    panel.page.evaluate("location.hash = '#/users'")
    panel.is_at("Sign in again")

    panel.sign_in(hand, "tempo")
    expect(panel.field("New password")).to_be_focused()
    expect(panel.page.get_by_role("button", name="Cancel")).to_be_visible()
    hand.fill("New password", NEW_PASSWORD)
    hand.press("Save and go on")
    expect(panel.page.get_by_text("tempo is not an admin.")).to_be_visible()
    panel.sign_in(hand)
    panel.is_at("Users")
    expect(panel.page.locator("#who")).to_have_text(ADMIN)


def test_leaving_asks_before_it_discards_and_closes_dialogs(panel: Panel) -> None:
    page, hand = panel.page, panel.take(Mouse)
    panel.show("#/users", "Users")
    hand.press("Create user")
    hand.fill("Username", "drafted")
    page.keyboard.press("Escape")
    panel.is_leaving = False
    panel.questions.clear()

    page.get_by_role("link", name="Keys").click()
    panel.until(lambda: panel.questions == ["Leave and discard what is not saved?"])
    page.wait_for_url("**/#/users")
    hand.press("Create user")
    expect(panel.field("Username")).to_have_value("drafted")
    page.go_back()
    panel.until(lambda: len(panel.questions) == 2)
    page.wait_for_url("**/#/users")
    expect(panel.field("Username")).to_have_value("drafted")
    panel.is_leaving = True
    page.go_back()
    expect(page.locator("dialog")).to_have_count(0)

    panel.questions.clear()
    panel.show_new_user("olivia")
    hand.press("Delete user …")
    panel.is_at("Delete olivia?")
    page.go_back()
    expect(page.locator("dialog")).to_have_count(0)
    assert panel.questions == []


def test_offline_and_503_are_said_and_requests_go_on(panel: Panel, hand: Hand) -> None:
    user = unique("judy", hand)
    user_id = panel.add_user(user)
    panel.show("#/users", "Users")
    context, notice = panel.page.context, panel.page.locator("#notice")

    context.set_offline(True)
    panel.page.evaluate("path => { location.hash = path; }", f"#/users/{user_id}")
    expect(notice).to_contain_text("You are offline.")
    context.set_offline(False)
    panel.is_at(user)
    expect(notice).to_be_empty()

    refusals = iter(REFUSALS)

    def refuse(route: Route) -> None:
        if response := next(refusals, None):
            status, seconds, body, _ = response
            headers = {"Retry-After": seconds} if seconds else {}
            route.fulfill(status=status, headers=headers, body=body)
        else:
            route.continue_()

    panel.page.route("**/admin/users?*", refuse)
    hand.press("All users")
    for *_, text in REFUSALS:
        expect(notice).to_contain_text(text)
        hand.press("Try now")
    expect(panel.page.get_by_role("link", name=user)).to_be_visible()
    expect(notice).to_be_empty()

    panel.show(f"#/users/{user_id}", user)
    hand.fill("Username", f"{user}!")
    context.set_offline(True)
    hand.press("Rename")
    expect(panel.page.get_by_text("The service can’t be reached.")).to_be_visible()
    context.set_offline(False)
    hand.press("Try again")
    panel.hears(f"Renamed to {user}!.")
