"""The users in the admin panel, each function by mouse and by keyboard alone."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Route, expect

from tests.helpers.factories import bearer
from tests.helpers.http import send_to_server
from tests.helpers.panel import ADMIN, NEW_PASSWORD, Hand, Mouse, Panel, unique

pytestmark = pytest.mark.slow


def must_change(panel: Panel, username: str, password: str) -> bool:
    """Whether a password is a temporary one."""
    token = panel.sign_in_elsewhere(username, password).text
    response = send_to_server(panel.server, "GET", "/me", bearer(token))
    return (response.status, "temporary" in response.text) == (403, True)


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
    for number in range(101):
        panel.add_user(f"page {number:03}")
    panel.show("#/users?search=page", "Users")
    names = panel.page.get_by_role("table", name="Users").get_by_role("link")

    expect(panel.page.get_by_text("100 users shown; there are more.")).to_be_visible()
    hand.press("More")
    expect(names).to_have_count(101)
    expect(names.last).to_be_focused()
    expect(panel.page.get_by_text("101 users.")).to_be_visible()
    expect(panel.page.get_by_role("button", name="More")).to_be_hidden()

    names.nth(90).click()
    panel.is_at("page 090")
    panel.page.get_by_role("link", name="All users").click()
    expect(names.nth(90)).to_be_focused()
    assert panel.page.url.endswith("#/users?search=page")
    panel.sql("DELETE FROM users WHERE username LIKE 'page%'")


def test_a_newer_search_supersedes_the_one_that_runs(panel: Panel) -> None:
    page, hand = panel.page, panel.take(Mouse)
    for number in range(101):
        panel.add_user(f"held {number:03}")
    panel.show("#/users?search=held", "Users")
    more = page.get_by_role("button", name="More")

    expect(more).to_be_visible()
    with panel.holding("**/admin/users?search=held+00&*") as aborted:
        with page.expect_request("**/admin/users?search=held+00&*"):
            hand.fill("Name begins with", "held 00")
        expect(more).to_be_hidden()
        hand.fill("Name begins with", "held 01")
        expect(page.get_by_text("10 users.")).to_be_visible()
        assert len(aborted) == 1
    assert page.url.endswith("#/users?search=held+01")
    panel.sql("DELETE FROM users WHERE username LIKE 'held%'")


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
    assert panel.sign_in_elsewhere(ADMIN).status == 200
    panel.show("#/users", "Users")

    hand.press("Sign everyone out")
    panel.is_at("Sign everyone out?")
    panel.finds_no_barrier()
    hand.press("Cancel")
    button = panel.page.get_by_role("button", name="Sign everyone out")
    expect(button).to_be_focused()
    expect(button).not_to_have_attribute("aria-busy", "true")  # it gets the focus a moment before
    hand.press("Sign everyone out")
    panel.is_at("Sign everyone out?")
    hand.press("Sign everyone out")
    panel.is_at("Sign in")
    assert panel.sql("SELECT count(*) FROM sessions WHERE ended_at IS NULL") == [(0,)]
    panel.sign_in(hand)
    panel.is_at("Users")


def test_a_lost_response_to_a_creation_leads_to_the_user(panel: Panel) -> None:
    page, hand = panel.page, panel.take(Mouse)

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    panel.show("#/users", "Users")
    page.route("**/admin/users", lose, times=1)
    hand.press("Create user")
    hand.fill("Username", "peggy")
    hand.press("Create")
    hand.press("Try again")
    expect(page.get_by_text("It may have been created by the first attempt.")).to_be_visible()
    panel.finds_no_barrier()
    hand.press("Look for peggy")
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.get_by_role("table").get_by_role("link")).to_have_text(["peggy"])
    assert page.url.endswith("#/users?search=peggy")

    # What comes after the dialog was closed.
    hand.press("Create user")
    hand.fill("Username", "PEGGY")
    with panel.holding("**/admin/users"):
        with page.expect_request("**/admin/users"):
            hand.press("Create")
        page.keyboard.press("Escape")
    panel.hears("Users: That name is taken. Choose another.")
    hand.press("Create user")
    hand.fill("Username", "quentin")
    with panel.holding("**/admin/users"):
        with page.expect_request("**/admin/users"):
            hand.press("Create")
        page.keyboard.press("Escape")
    panel.is_at("Temporary password of quentin")


# One user


def test_one_press_sends_one_request_and_its_failure_is_said_elsewhere(panel: Panel) -> None:
    page, held = panel.page, list[Route]()
    panel.show_new_user("rupert")

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/admin/users/*", hold)
    page.get_by_role("button", name="Disable").dblclick()
    page.get_by_role("button", name="Rename").dblclick()
    panel.until(lambda: len(held) == 2)
    panel.show("#/keys", "Keys")
    for route, problem in zip(held, ("Too late.", "Too early."), strict=True):
        route.fulfill(status=409, json={"code": "conflict", "detail": problem})
        panel.hears(f"rupert: {problem}")


def test_a_user_deleted_elsewhere_is_one_message(panel: Panel) -> None:
    page, hand = panel.page, panel.take(Mouse)
    panel.show_new_user("sybil")
    panel.sql("DELETE FROM users WHERE username = 'sybil'")
    user_id = page.url.rpartition("/")[2]

    hand.press("Delete user …")
    hand.fill("Type the name to confirm", "sybil")
    hand.press("Delete")
    message = page.get_by_text(f"There is no user {user_id}.")
    expect(message).to_be_visible()
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Rename")).to_be_disabled()
    panel.finds_no_barrier()
    message.get_by_role("link", name="All users").click()
    panel.is_at("Users")

    panel.show(f"#/users/{10**20}", "User")
    expect(page.get_by_text(f"There is no user {10**20}.")).to_be_visible()


def test_ones_own_password_and_sessions_are_ended_after_a_confirmation(panel: Panel) -> None:
    page, hand = panel.page, panel.take(Mouse)
    panel.show("#/users/1", ADMIN)
    [(before,)] = panel.sql("SELECT password_hash FROM users WHERE id = 1")

    hand.fill("Username", "Travis II")
    hand.press("Rename")
    expect(page.locator("#who")).to_have_text("Travis II")
    hand.fill("Username", ADMIN)
    hand.press("Rename")
    expect(page.locator("#who")).to_have_text(ADMIN)

    hand.press("End all sessions")
    panel.is_at("End all your sessions?")
    hand.press("End all sessions")
    panel.is_at("Sign in")
    panel.sign_in(hand)
    panel.is_at(ADMIN)
    hand.fill("Temporary password (optional)", NEW_PASSWORD)
    hand.press("Reset password")
    panel.is_at("Reset the password?")
    hand.press("Reset password")
    panel.is_at("Sign in")
    panel.sql("UPDATE users SET password_hash = ?, password_expires_at = NULL WHERE id = 1", before)
    panel.sign_in(hand)
    panel.is_at(ADMIN)


def test_a_password_that_was_not_copied_stays_until_done(panel: Panel) -> None:
    page, hand = panel.page, panel.take(Mouse)
    panel.show_new_user("trent")
    page.evaluate(
        "() => { navigator.clipboard.writeText = async () => { throw new Error(); };"
        " document.execCommand = () => false; }"
    )

    hand.press("Reset password")
    panel.is_at("Reset the password?")
    hand.press("Reset password")
    hand.press("Copy")
    expect(page.get_by_text("Select and copy it yourself.")).to_be_visible()
    for _ in range(2):
        page.keyboard.press("Escape")
    panel.is_at("Temporary password of trent")
    hand.press("Done")
    expect(page.locator("dialog")).to_have_count(0)
    page.evaluate("delete navigator.clipboard.writeText, delete document.execCommand")


def test_print_is_light_in_the_dark_theme(panel: Panel) -> None:
    colours = """['input', '.danger', 'button'].flatMap((each) => {
        const { color, backgroundColor } = getComputedStyle(document.querySelector(each));
        return [color, backgroundColor];
    })"""
    panel.show_new_user("victor")

    panel.page.emulate_media(media="print", color_scheme="light")
    light = panel.page.evaluate(colours)
    panel.page.emulate_media(media="print", color_scheme="dark")
    assert panel.page.evaluate(colours) == light
    panel.page.emulate_media(media="screen", color_scheme="light")


def test_a_user_is_renamed(panel: Panel, hand: Hand) -> None:
    user, changed = unique("ada", hand), unique("lovelace", hand)
    panel.show_new_user(user)

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
    panel.show_new_user(user)

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
    expect(
        panel.page.get_by_role("alert").filter(has_text="No other enabled admin")
    ).to_be_visible()
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
    '{"f": 0.1234567890123456789}': "0.1234567890123456789 would be saved as 0.12345678901234568.",
    '{"a": [{"b": 1}, {"b": "}", "\\u0062": 2}]}': '"\\u0062" is there twice.',
}


def test_claims_are_validated_while_they_are_typed(panel: Panel, hand: Hand) -> None:
    user = unique("carol", hand)
    panel.show_new_user(user)
    claims = panel.field("Claims as JSON")

    for text, problem in WRONG_CLAIMS.items():
        hand.fill("Claims as JSON", text)
        expect(claims).to_have_attribute("aria-invalid", "true")
        assert problem in claims.evaluate("each => each.closest('.field').innerText")
    hand.press("Save claims")
    expect(claims).to_be_focused()
    assert panel.user(user, "claims") == ("{}",)
    hand.fill("Claims as JSON", '{"roles": ["a:1.0", {"a": 1.5}, {"a": -2e-7}], "tenant": "é"}')
    expect(claims).not_to_have_attribute("aria-invalid", "true")
    hand.press("Save claims")
    panel.hears(f"The claims of {user} were saved.")
    assert panel.user(user, "claims") == (
        '{"roles":["a:1.0",{"a":1.5},{"a":-2e-07}],"tenant":"é"}',
    )


def test_a_password_is_reset_to_a_generated_or_a_chosen_one(panel: Panel, hand: Hand) -> None:
    user = unique("dave", hand)
    panel.show_new_user(user)
    label = "Temporary password (optional)"
    assert panel.sign_in_elsewhere(user).status == 200

    hand.press("Reset password")
    panel.is_at("Reset the password?")
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
    for _ in range(5):
        panel.sign_in_elsewhere(user, "wrong")
    # The first lockout lasts a second.
    panel.sql("UPDATE throttle SET blocked_until = blocked_until + 900 WHERE blocked_until > 0")
    assert panel.sign_in_elsewhere(user).status == 429
    panel.show_user(user)
    badge = panel.page.get_by_text("Locked", exact=True)

    expect(badge).to_be_visible()
    hand.press("Unlock")
    panel.hears(f"Cleared the failed attempts of {user}.")
    expect(badge).to_be_hidden()
    assert panel.sign_in_elsewhere(user).status == 200


def test_sessions_are_ended_one_by_one_and_all_at_once(panel: Panel, hand: Hand) -> None:
    user = unique("frank", hand)
    user_id = panel.add_user(user)
    for _ in range(3):
        assert panel.sign_in_elsewhere(user).status == 200
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
    panel.show_new_user(user)

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

    spoof = "aU+202EbU+200Bc"
    panel.show(f"#/users/{ids[spoof]}", spoof)
    expect(panel.field("Username")).to_have_accessible_description(
        f"With invisible characters: {spoof}"
    )
    panel.show(f"#/audit?user={ids[spoof]}", "Audit")
    expect(panel.field("User")).to_have_value(str(ids[spoof]))
    expect(panel.field("User")).to_have_accessible_description(f"User {ids[spoof]}: {spoof}")
    panel.sql("DELETE FROM users WHERE id >= ?", min(ids.values()))


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
        panel.sign_in_elsewhere("grace")
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
