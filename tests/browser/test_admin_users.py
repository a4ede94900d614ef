"""The admin panel: signing in, users, and what happens in the middle of a change."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.helpers.factories import bearer
from tests.helpers.http import Response, send_to_server
from tests.helpers.panel import ADMIN, PASSWORD, Hand, Keyboard, Mouse, Panel

pytestmark = pytest.mark.slow

NEW_PASSWORD = "correct horse battery"
FORM = "application/x-www-form-urlencoded"


def unique(name: str, hand: Hand) -> str:
    """Return a name for each of the two tests."""
    return f"{name} {type(hand).__name__.lower()}"


def show_user(panel: Panel, username: str, *, admin: bool = False) -> int:
    """Create a user, and go to the view of it."""
    user_id = panel.add_user(username, admin=admin)
    panel.show(f"#/users/{user_id}", username)
    return user_id


def sign_in_elsewhere(panel: Panel, username: str, password: str = PASSWORD) -> Response:
    """Sign in with another device."""
    body = urlencode({"username": username, "password": password}).encode()
    agent = {"User-Agent": "Mozilla/5.0 (iPhone) Version/18.0 Safari/604"}
    return send_to_server(panel.server, "POST", "/auth", agent, body, FORM)


def must_change(panel: Panel, username: str, password: str) -> bool:
    """Whether a password is a temporary one."""
    token = sign_in_elsewhere(panel, username, password).text
    response = send_to_server(panel.server, "GET", "/me", bearer(token))
    return (response.status, "temporary" in response.text) == (403, True)


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


# All users


def test_users_are_searched_and_filtered_and_the_address_has_the_filters(
    panel: Panel, hand: Hand
) -> None:
    for name in ("zoe", "zora", "Zorn"):
        panel.add_user(unique(name, hand), admin=name == "zora")
    panel.show("#/users", "Users")
    names = panel.page.get_by_role("table", name="Users").get_by_role("link")

    panel.finds_no_barrier()
    hand.fill("Name begins with", "ZOR")
    expect(names).to_have_text([unique("zora", hand), unique("Zorn", hand)])
    hand.choose("Role", "Admins")
    expect(names).to_have_text([unique("zora", hand)])
    hand.choose("State", "Disabled")
    expect(panel.page.get_by_text("No users.")).to_be_visible()
    assert panel.page.url.endswith("#/users?search=ZOR&admin=true&disabled=true")
    hand.choose("State", "Enabled")
    expect(names).to_have_count(1)

    panel.page.evaluate("location.hash = '#/keys'")
    panel.is_at("Keys")
    panel.page.go_back()
    expect(panel.field("Name begins with")).to_have_value("ZOR")
    expect(names).to_have_text([unique("zora", hand)])
    hand.press(unique("zora", hand))
    panel.is_at(unique("zora", hand))
    panel.sql("DELETE FROM users WHERE username LIKE 'zo%'")


def test_more_users_are_added_page_by_page(panel: Panel, hand: Hand) -> None:
    for number in range(51):
        panel.add_user(f"page {number:02}")
    panel.show("#/users?search=page", "Users")
    names = panel.page.get_by_role("table", name="Users").get_by_role("link")

    expect(panel.page.get_by_text("50 users shown; there are more.")).to_be_visible()
    panel.page.get_by_role("button", name="More").focus()  # past 50 links
    hand.press("More")
    expect(names).to_have_count(51)
    expect(names.last).to_be_focused()
    expect(panel.page.get_by_text("51 users.")).to_be_visible()
    expect(panel.page.get_by_role("button", name="More")).to_be_hidden()
    panel.sql("DELETE FROM users WHERE username LIKE 'page%'")


def test_a_user_is_created_and_the_generated_password_is_shown_once(
    panel: Panel, hand: Hand
) -> None:
    page, user = panel.page, unique("new", hand)
    panel.show("#/users", "Users")

    hand.press("Create user")
    hand.fill("Username", ADMIN)
    hand.press("Admin")
    hand.fill("Custom claims (optional)", '{"sub": "x"}')
    expect(panel.field("Custom claims (optional)")).to_have_accessible_description(
        "A JSON object, whose members go into the user’s access tokens from the next sign-in or"
        " refresh on. Reserved for the service or by standards: sub."
    )
    page.keyboard.press("Escape")
    hand.press("Create user")  # which has what was typed
    hand.fill("Custom claims (optional)", '{"role": "editor"}')
    hand.press("Create")
    expect(panel.field("Username")).to_have_accessible_description(
        "That name is taken. Choose another."
    )
    expect(panel.field("Username")).to_be_focused()
    panel.finds_no_barrier()
    hand.fill("Username", user)
    hand.press("Create")
    panel.is_at(f"Temporary password of {user}")
    panel.finds_no_barrier()
    hand.press("Copy")
    expect(page.get_by_text("Copied.")).to_be_visible()
    password = page.locator(".secret").inner_text()
    assert page.evaluate("navigator.clipboard.readText()") == password
    hand.press("Done")
    panel.hears(f"{user} was created.")

    expect(page.get_by_role("button", name="Create user")).to_be_focused()
    expect(page.get_by_role("link", name=user).first).to_be_visible()
    assert password not in page.content()
    assert panel.user(user, "admin, claims") == (1, '{"role":"editor"}')
    assert must_change(panel, user, password)


def test_everyone_is_signed_out_after_a_confirmation(panel: Panel, hand: Hand) -> None:
    assert sign_in_elsewhere(panel, ADMIN).status == 200
    panel.show("#/users", "Users")

    hand.press("Sign everyone out")
    panel.is_at("Sign everyone out?")
    panel.finds_no_barrier()
    hand.press("Cancel")
    expect(panel.page.get_by_role("button", name="Sign everyone out")).to_be_focused()
    hand.press("Sign everyone out")
    hand.press("Sign everyone out")
    panel.is_at("Sign in")
    assert panel.sql("SELECT count(*) FROM sessions WHERE ended_at IS NULL") == [(0,)]
    panel.sign_in(hand)
    panel.is_at("Users")


# One user


def test_a_user_is_renamed(panel: Panel, hand: Hand) -> None:
    user, changed = unique("ada", hand), unique("lovelace", hand)
    show_user(panel, user)

    panel.finds_no_barrier()
    hand.fill("Username", ADMIN.upper())
    hand.press("Rename")
    expect(panel.field("Username")).to_have_accessible_description(
        "That name is taken. Choose another."
    )
    panel.finds_no_barrier()
    hand.fill("Username", f" {changed} ")
    hand.press("Rename")
    panel.hears(f"Renamed to {changed}.")
    panel.is_at(changed)
    assert panel.page.title().startswith(changed)
    assert (panel.user(user, "id"), panel.user(changed, "admin")) == (None, (0,))


def test_a_user_is_promoted_and_disabled_and_back(panel: Panel, hand: Hand) -> None:
    user = unique("bob", hand)
    show_user(panel, user)

    hand.press("Promote to admin")
    panel.hears(f"{user} is an admin now.")
    hand.press("Disable")
    panel.hears(f"{user} is disabled, and signed out everywhere.")
    expect(panel.page.get_by_text("Admin", exact=True)).to_be_visible()
    expect(panel.page.get_by_text("Disabled", exact=True)).to_be_visible()
    assert panel.user(user, "admin, disabled") == (1, 1)
    hand.press("Demote")
    panel.hears(f"{user} is not an admin any more.")
    hand.press("Enable")
    panel.hears(f"{user} is enabled.")
    assert panel.user(user, "admin, disabled") == (0, 0)


def test_the_last_admin_stays(panel: Panel, hand: Hand) -> None:
    panel.sql("UPDATE users SET admin = 0 WHERE id <> 1")
    panel.show("#/users/1", ADMIN)

    hand.press("Demote")
    panel.is_at("Demote yourself?")
    hand.press("Demote")
    expect(panel.page.get_by_role("alert").filter(has_text="last enabled admin")).to_be_visible()
    panel.finds_no_barrier()
    hand.press("Cancel")
    expect(panel.page.get_by_role("button", name="Demote")).to_be_focused()


LONG = json.dumps({"key": "x" * 1024})
WRONG_CLAIMS = {
    '{"role": ': "This is not JSON",
    "[1]": "Write a JSON object",
    '{"admin": true}': "Reserved for the service or by standards: admin.",
    LONG: "1034 bytes of compact JSON; at most 1024 are allowed.",
    '{"a": [[[[1]]]]}': "Nested more than 4 deep.",
    '{"id": 12345678901234567890}': "Write numbers of more than 15 digits as strings.",
}


def test_claims_are_validated_while_they_are_typed(panel: Panel, hand: Hand) -> None:
    user = unique("carol", hand)
    show_user(panel, user)
    claims = panel.field("Claims as JSON")

    for text, problem in WRONG_CLAIMS.items():
        hand.fill("Claims as JSON", text)
        expect(claims).to_have_attribute("aria-invalid", "true")
        assert problem in claims.evaluate("each => each.closest('.field').innerText")
    hand.press("Save claims")
    expect(claims).to_be_focused()
    assert panel.user(user, "claims") == ("{}",)
    hand.fill("Claims as JSON", '{"roles": ["editor"], "tenant": "é"}')
    expect(claims).not_to_have_attribute("aria-invalid", "true")
    hand.press("Save claims")
    panel.hears(f"The claims of {user} were saved.")
    assert panel.user(user, "claims") == ('{"roles":["editor"],"tenant":"é"}',)


def test_a_password_is_reset_to_a_generated_or_a_chosen_one(panel: Panel, hand: Hand) -> None:
    user = unique("dave", hand)
    show_user(panel, user)
    label = "Temporary password (optional)"
    assert sign_in_elsewhere(panel, user).status == 200

    hand.press("Reset password")
    panel.is_at(f"Temporary password of {user}")
    password = panel.page.locator(".secret").inner_text()
    hand.press("Done")
    panel.hears(f"The password of {user} is temporary now.")
    assert must_change(panel, user, password)
    hand.fill(label, user)
    hand.press("Reset password")
    expect(panel.field(label)).to_have_accessible_description(
        re.compile("This is little more than the username.")
    )
    hand.fill(label, NEW_PASSWORD)
    hand.press("Reset password")
    expect(panel.field(label)).to_have_value("")
    assert must_change(panel, user, NEW_PASSWORD)


def test_a_user_is_unlocked(panel: Panel, hand: Hand) -> None:
    user = unique("erin", hand)
    panel.add_user(user)
    for _ in range(6):
        status = sign_in_elsewhere(panel, user, "wrong").status
    show_user_again(panel, user)
    badge = panel.page.get_by_text("Locked", exact=True)

    assert status == 429
    expect(badge).to_be_visible()
    hand.press("Unlock")
    panel.hears(f"The failed attempts of {user} are forgotten.")
    expect(badge).to_be_hidden()
    assert sign_in_elsewhere(panel, user).status == 200


def show_user_again(panel: Panel, username: str) -> None:
    panel.show(f"#/users/{panel.user(username, 'id')[0]}", username)


def test_sessions_are_ended_one_by_one_and_all_at_once(panel: Panel, hand: Hand) -> None:
    user = unique("frank", hand)
    user_id = panel.add_user(user)
    for _ in range(3):
        assert sign_in_elsewhere(panel, user).status == 200
    panel.show(f"#/users/{user_id}", user)
    rows = panel.page.get_by_role("table", name="Sessions").locator("tbody tr")
    active = "SELECT count(*) FROM sessions WHERE ended_at IS NULL AND user_id = ?"

    expect(rows).to_have_count(3)
    panel.finds_no_barrier()
    panel.page.get_by_role("button", name="End Safari on iPhone").first.focus()
    panel.page.keyboard.press("Enter")
    panel.hears("The session has ended.")
    expect(rows).to_have_count(2)
    expect(panel.page.get_by_role("button", name="End Safari on iPhone").first).to_be_focused()
    assert panel.sql(active, user_id) == [(2,)]
    hand.press("End all sessions")
    panel.hears(f"All sessions of {user} have ended.")
    expect(panel.page.get_by_text("No active session.")).to_be_visible()
    assert panel.sql(active, user_id) == [(0,)]


def test_a_user_is_deleted_after_typing_the_name(panel: Panel, hand: Hand) -> None:
    user = unique("gone", hand)
    show_user(panel, user)

    hand.press("Delete user …")
    panel.is_at(f"Delete {user}?")
    hand.fill("Type the name to confirm", user[:-1])
    hand.press("Delete")
    expect(panel.field("Type the name to confirm")).to_have_accessible_description(
        "This is not the user’s name."
    )
    panel.finds_no_barrier()
    hand.fill("Type the name to confirm", user)
    hand.press("Delete")
    panel.is_at("Users")
    panel.hears(f"{user} was deleted.")
    assert panel.user(user, "id") is None


NAMES = {
    "<img src=x onerror=alert(1)>": "<img src=x onerror=alert(1)>",
    "\u05d0\u05d1\u05d2 (admin)": "\u05d0\u05d1\u05d2 (admin)",
    "a\u202eb\u200bc": "aU+202EbU+200Bc",
    "\u0301x" + "y\u0301\u0302\u0303\u0304\u0305": "U+0301xy\u0301\u0302\u0303\u0304U+0305",
    "\U000e0061\u2800": "U+E0061U+2800",
}
"""Names, which other programs may have put into the database, and how they are shown."""


def test_names_are_isolated_and_show_what_is_invisible(panel: Panel) -> None:
    ids = {shown: panel.add_user(name) for name, shown in NAMES.items()}
    panel.show("#/users", "Users")
    table = panel.page.get_by_role("table", name="Users")

    for shown, user_id in ids.items():
        link = table.locator(f'a[href="#/users/{user_id}"]')
        expect(link).to_have_text(shown)
        assert link.locator("bdi").inner_text() == shown
    panel.finds_no_barrier()
    for shown, user_id in ids.items():
        panel.show(f"#/users/{user_id}", shown)
    assert panel.page.locator("main img").count() == 0
    panel.sql("DELETE FROM users WHERE id >= ?", min(ids.values()))


# In the middle of a change


def test_the_password_is_asked_for_in_place_and_the_change_goes_on(
    panel: Panel, hand: Hand
) -> None:
    user, changed = unique("heidi", hand), unique("klum", hand)
    show_user(panel, user)
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
    show_user(panel, user)
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

    refusals = iter([True, False])

    def refuse(route: Route) -> None:
        headers = {"Retry-After": "60", "Content-Type": "application/problem+json"}
        body = {"code": "database_unavailable", "detail": "The database is unavailable."}
        if next(refusals, False):
            route.fulfill(status=503, headers=headers, body=json.dumps(body))
        else:
            route.continue_()

    panel.page.route("**/admin/users?*", refuse)
    hand.press("All users")
    expect(notice).to_contain_text("The database is unavailable. Trying again …")
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


PEOPLE: dict[str, dict[str, object]] = {
    "ada": {"admin": 1},
    "barbara": {},
    "dennis": {"disabled": 1},
    "grace": {"claims": '{"role":"editor","tenant":"north"}'},
    "ken": {"password_expires_at": 1900000000},
    "margaret": {},
}


def test_the_panel_is_as_in_the_pictures_of_the_docs(panel: Panel) -> None:
    """docs/operations.md shows them."""
    panel.sql("DELETE FROM users WHERE id <> 1")
    for hours, (name, columns) in enumerate(PEOPLE.items()):
        user_id = panel.add_user(name)
        columns["last_sign_in_at"] = 1769860800 + hours * 40_000
        for column, value in columns.items():
            panel.sql(f"UPDATE users SET {column} = ? WHERE id = ?", value, user_id)  # noqa: S608 - our own
    for _ in range(2):
        sign_in_elsewhere(panel, "grace")
    panel.page.set_viewport_size({"width": 960, "height": 640})

    panel.show("#/users", "Users")
    names = panel.page.get_by_role("table", name="Users").get_by_role("link")
    expect(names).to_have_text([*PEOPLE, ADMIN])
    panel.take_screenshot("admin-users.png")
    names.nth(3).click()
    panel.is_at("grace")
    expect(panel.field("Claims as JSON")).to_have_value(
        '{\n  "role": "editor",\n  "tenant": "north"\n}'
    )
    panel.take_screenshot("admin-user.png")
