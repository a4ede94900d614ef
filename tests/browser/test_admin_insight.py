"""The admin panel: the overview, the audit log and the keys."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Locator, expect

from jwt_server.audit import Action
from jwt_server.security.key_files import KeyFolder, rotate
from tests.helpers.http import send_to_server
from tests.helpers.panel import ADMIN, FOCUSED, TOO_WIDE, Hand, Keyboard, Mouse, Panel, axe
from tests.helpers.server import BASE_ENVIRONMENT, running

pytestmark = pytest.mark.slow

HOUR = 3600
DAY = 24 * HOUR
POLL_MS = 5_000

ADA, BOB, DELETED = 2, 3, 9
HOSTILE = "<img src=x onerror=alert(1)>"
SERIES = {
    "Sign-ins": "signed_in",
    "Failed sign-ins": "sign_in_failed",
    "Lockouts": "locked_out",
    "Sign-ups": "signed_up",
    "Reused refresh tokens": "refresh_token_reused",
}
"""The plots, with what they count."""

SEND = """async () => {
  const { auth } = await import(new URL("service.js", document.querySelector("script").src));
  await auth.fetch("/admin/keys").catch(() => {});
}"""
"""Sends a request after those that the panel is about to send."""
READOUTS = "() => [...document.querySelectorAll('.readout')].map(({ textContent }) => textContent)"
SET_HIDDEN = """(isHidden) => {
  Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFolder:
    """A folder with a key that was replaced, and one that signs."""
    folder = KeyFolder(tmp_path_factory.mktemp("panel-keys") / "keys", "ES256")
    now = int(time.time())
    rotate(folder, now - 30 * DAY, 0)
    rotate(folder, now - DAY, 60)
    return folder


@pytest.fixture(scope="module")
def loaded_panel(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, keys: KeyFolder
) -> Iterator[Panel]:
    """The panel of a service with some history, in a time zone half an hour off the hours of UTC.

    The clock of the page can be moved.
    """
    settings = BASE_ENVIRONMENT | {"JWT_ALGORITHM": "ES256", "JWT_KEYS_DIR": str(keys.path)}
    with (
        running(tmp_path_factory.mktemp("panel"), settings) as server,
        browser.new_context(timezone_id="Asia/Kolkata", locale="en-GB") as context,
    ):
        context.set_default_timeout(60_000)
        panel = Panel(context.new_page(), server)
        panel.sql("UPDATE users SET admin = 1")
        assert [panel.add_user("Ada"), panel.add_user(HOSTILE)] == [ADA, BOB]
        insert_history(panel)
        panel.page.clock.install()
        hand = panel.load()
        hand.press("Keep me signed in until this tab is closed")
        panel.sign_in(hand)
        panel.is_at("Overview")
        yield panel


def insert_history(panel: Panel) -> None:
    """Fill the audit log with what has happened in the last week, most of it by day."""
    now = int(time.time())
    rows: list[Any] = [
        (now - 120, Action.USER_CLAIMS_SET, ADA, 1, {"claims": {"role": "editor", "tenant": 7}}),
        (now - 300, Action.LOCKED_OUT, ADA, None, {"limit": "pair"}),
        (now - 400, Action.PASSWORD_SET, ADA, 1, {"sessions_ended": 2}),
        (now - 2 * DAY, Action.USER_RENAMED, BOB, 1, {"former_username": "b\u202eob"}),
        (now - 3 * DAY, Action.LOCKED_OUT, DELETED, None, {"limit": "pair"}),
        (now - 5 * DAY, Action.SIGNED_UP, BOB, BOB, {}),
        (now - 5 * DAY, Action.REFRESH_TOKEN_REUSED, ADA, None, {"session": "example"}),
    ]
    for hours in range(1, 7 * 24):
        at = now - hours * HOUR
        sign_ins = 6 - abs(at // HOUR % 24 - 12) // 2
        failures = 7 if hours == 30 else hours % 5 // 3
        rows += [(at, Action.SIGNED_IN, ADA, ADA, {"session": "example"})] * sign_ins
        rows += [(at, Action.SIGN_IN_FAILED, None, None, {"name": "3f9a"})] * failures
    panel.sql(
        "INSERT INTO audit (at, action, user_id, actor_id, address, details)"
        " SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, '203.0.113.9', value -> 4"
        " FROM json_each(?) ORDER BY value ->> 0",
        json.dumps(rows),
    )


def fail_to_sign_in(panel: Panel, username: str = "") -> None:
    """Send a wrong password, by default with another unknown name each time."""
    form = "application/x-www-form-urlencoded"
    body = f"username={username or time.monotonic_ns()}&password=wrong".encode()
    assert send_to_server(panel.server, "POST", "/auth", {}, body, form).status == 401


def rows_of(panel: Panel) -> Locator:
    """Return the rows of the audit log that are shown."""
    return panel.page.get_by_role("table", name="Audit log").locator("tbody tr")


def go_back_to(hand: Hand, name: str) -> None:
    """Move the focus to a control before the one that has it, which takes a keyboard."""
    if isinstance(hand, Keyboard):
        hand.move_to(name, "Shift+Tab")


def apply(panel: Panel, hand: Hand, address: str) -> None:
    """Apply the filters, which must be in the address then."""
    hand.press("Apply")
    expect(panel.page).to_have_url(re.compile(re.escape(address) + "$"))


def test_audit_rows_are_filtered_and_the_address_keeps_the_filters(
    panel: Panel, hand: Hand
) -> None:
    panel.show("#/audit", "Audit")
    rows, user = rows_of(panel), panel.field("User")
    options = panel.page.get_by_label("Action", exact=True).locator("option")
    values = options.evaluate_all("options => options.map(({ value }) => value)")
    assert values == ["", *(each.value for each in Action)]
    if isinstance(hand, Mouse):
        panel.page.set_viewport_size({"width": 960, "height": 800})
        panel.take_screenshot("admin-audit.png")

    hand.fill("User", "aDa")
    apply(panel, hand, f"#/audit?user={ADA}")
    expect(user).to_have_accessible_description(f"User {ADA}: Ada")
    expect(rows).to_have_count(50)
    assert HOSTILE not in rows.all_inner_texts()
    go_back_to(hand, "User")
    hand.fill("User", "nobody")
    hand.press("Apply")
    expect(user).to_have_accessible_description(re.compile("There is no user of this name."))
    panel.finds_no_barrier()
    hand.fill("User", str(DELETED))
    apply(panel, hand, f"#/audit?user={DELETED}")
    expect(rows).to_have_text(re.compile(f"Locked outdeleted user {DELETED}nobody signed in"))

    hand.press("Clear")
    go_back_to(hand, "Actor")
    hand.fill("Actor", ADMIN)
    hand.choose("Action", "User renamed")
    apply(panel, hand, "#/audit?actor=1&action=user_renamed")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("former username: bU+202Eob")


def test_audit_rows_are_filtered_by_local_times(panel: Panel, hand: Hand) -> None:
    panel.show("#/audit?action=user_renamed", "Audit")

    fill_times(panel, hand)
    hand.press("Apply")
    expect(panel.page).to_have_url(re.compile("since="))
    local = {key: panel.field(key).input_value() for key in ("From", "Until")}
    panel.page.reload()
    panel.page.evaluate(axe())
    panel.is_at("Audit")

    since, until = (to_utc(text) for text in local.values())
    query = {"action": "user_renamed", "since": since, "until": until}
    filters = urlencode({key: value for key, value in query.items() if value})
    assert panel.page.url.endswith(f"#/audit?{filters}")
    assert local == {key: panel.field(key).input_value() for key in local}
    [(count,)] = panel.sql(
        "SELECT count(*) FROM audit"
        " WHERE action = 'user_renamed' AND at >= unixepoch(?) AND at < unixepoch(?)",
        since, until or "9999-12-31",
    )  # fmt: skip
    expect(rows_of(panel)).to_have_count(count)
    expect(panel.page.get_by_label("Follow")).to_be_visible(visible=not until)


def fill_times(panel: Panel, hand: Hand) -> None:
    """Filter by the day on which a user was renamed; by keyboard, from some time in the past on."""
    if isinstance(hand, Mouse):
        day = time.time() - 2 * DAY
        hand.fill("From", time.strftime("%FT00:00", time.gmtime(day)))
        hand.fill("Until", time.strftime("%FT12:00", time.gmtime(day + DAY)))
        return
    hand.move_to("From")
    # The order of the parts depends on the locale of the system.
    while panel.page.evaluate(FOCUSED) == "From":
        panel.page.keyboard.press("ArrowUp")
        panel.page.keyboard.press("Tab")


def to_utc(local: str) -> str:
    """Return a time of India in UTC."""
    if not local:
        return ""
    return (datetime.fromisoformat(local) - timedelta(hours=5, minutes=30)).strftime("%FT%TZ")


def test_audit_rows_link_to_users_and_to_rows_like_them(panel: Panel, hand: Hand) -> None:
    panel.show("#/audit?action=user_renamed", "Audit")

    hand.press(HOSTILE)
    panel.is_at(HOSTILE)
    hand.press("done to this user")
    panel.is_at("Audit")
    expect(panel.page).to_have_url(re.compile(f"#/audit.user={BOB}$"))
    hand.press(f"Only what {HOSTILE} did")
    expect(rows_of(panel)).to_have_count(1)
    hand.press("Signed up")
    expect(panel.page).to_have_url(re.compile(f"#/audit.user={BOB}&actor={BOB}&action=signed_up$"))
    expect(rows_of(panel)).to_have_count(1)


def test_older_audit_rows_are_added_on_demand(panel: Panel, hand: Hand) -> None:
    [(count,)] = panel.sql("SELECT count(*) FROM audit WHERE action = 'sign_in_failed'")
    panel.show("#/audit?action=sign_in_failed", "Audit")

    expect(panel.page.get_by_text("50 rows shown; there are more.")).to_be_visible()
    hand.press("More")
    expect(rows_of(panel)).to_have_count(count)
    expect(rows_of(panel).nth(50).get_by_role("link").first).to_be_focused()


def test_new_audit_rows_appear_while_the_page_is_visible(panel: Panel, hand: Hand) -> None:
    panel.show("#/audit?action=sign_in_failed", "Audit")
    rows, news = rows_of(panel), panel.page.locator(".follower [role=status]")
    clock = panel.page.clock

    fail_to_sign_in(panel, "Ada")
    clock.fast_forward(POLL_MS)
    expect(news).to_have_text(re.compile("1 new row at"))
    expect(rows.first).to_have_text(re.compile("NewSign in failedAda"))
    panel.finds_no_barrier()

    polls: list[str] = []
    panel.page.on("request", lambda request: polls.append(request.url))
    for pause, go_on in (
        (partial(panel.page.evaluate, SET_HIDDEN, arg=True),
         partial(panel.page.evaluate, SET_HIDDEN, arg=False)),
        (partial(panel.page.context.set_offline, offline=True),
         partial(panel.page.context.set_offline, offline=False)),
        (rows.first.get_by_role("link").first.focus, panel.field("User").focus),
        (partial(hand.press, "Follow"), partial(hand.press, "Follow")),
    ):  # fmt: skip
        pause()
        count = rows.count()
        for _ in range(2):
            fail_to_sign_in(panel)
            clock.fast_forward(POLL_MS)
        panel.page.evaluate(SEND)
        assert [url for url in polls if "/admin/audit" in url] == []
        go_on()
        clock.fast_forward(POLL_MS)
        expect(rows).to_have_count(count + 2)
        expect(rows.get_by_text("New", exact=True)).to_have_count(2)
        expect(news).to_have_text(re.compile("2 new rows at"))
        polls.clear()


def test_following_goes_on_after_signing_in_again(panel: Panel) -> None:
    hand = panel.take(Mouse)
    panel.show("#/audit?action=sign_in_failed", "Audit")
    follower = panel.page.locator(".follower")

    panel.end_sessions()
    panel.page.clock.fast_forward(POLL_MS)
    panel.is_at("Sign in again")
    hand.press("Cancel")
    expect(follower).to_contain_text("Paused.")
    hand.press("Sign in")
    panel.sign_in(hand)
    expect(panel.page.locator("#notice")).to_be_empty()
    fail_to_sign_in(panel)
    panel.page.clock.fast_forward(POLL_MS)
    expect(follower).to_contain_text("1 new row at")
    expect(follower).not_to_contain_text("Paused.")
    expect(panel.page.get_by_label("Follow")).to_be_checked()


def test_newer_filters_and_views_supersede_what_is_loading(panel: Panel) -> None:
    page, hand = panel.page, panel.take(Mouse)
    audit, names = "**/admin/audit?*", "**/admin/users?*"
    panel.show(f"#/audit?actor={ADA}", "Audit")
    more = page.get_by_role("button", name="More")

    expect(more).to_be_visible()
    with panel.holding(audit, names) as aborted:
        hand.fill("User", "Ada")
        with page.expect_request(names):
            hand.press("Apply")
        hand.fill("User", "")
        hand.choose("Action", "User renamed")
        with page.expect_request(audit):
            hand.press("Apply")
        expect(more).to_be_hidden()
        hand.press("Clear")
        expect(page).to_have_url(re.compile("#/audit$"))
        expect(rows_of(panel)).to_have_count(50)
        assert ["/users?" in url for url in aborted] == [True, False]
    expect(panel.field("User")).to_have_accessible_description("")

    hand.choose("Action", "User renamed")
    with panel.holding(audit):
        with page.expect_request(audit):
            hand.press("Apply")
        panel.show("#/keys", "Keys")
    assert page.url.endswith("#/keys")


def test_the_overview_is_shown_for_unknown_addresses_and_left_while_it_loads(panel: Panel) -> None:
    page, hand = panel.page, panel.take(Mouse)
    stats, audit = "**/admin/stats?days=7", "**/admin/audit?*"

    with panel.holding(stats, audit):
        for path, url in (("#/audit", audit), ("#/toString", stats)):
            with page.expect_request(url):
                page.evaluate("path => { location.hash = path; }", path)
        expect(page.locator("main")).to_have_text("Loading …")
    panel.is_at("Overview")
    panel.show("#/audit", "Audit")
    panel.show("#/overview?days=toString", "Overview")
    with panel.holding(stats):
        with page.expect_request(stats):
            hand.press("Refresh")
        panel.show("#/keys", "Keys")


def test_plots_and_the_audit_log_use_a_large_screen(panel: Panel) -> None:
    panel.page.set_viewport_size({"width": 3840, "height": 2160})
    for path, heading in (("#/overview", "Overview"), ("#/audit", "Audit")):
        panel.show(path, heading)
        assert panel.page.locator("main").evaluate("main => main.offsetWidth") > 3000
        assert not panel.page.evaluate(TOO_WIDE)


def test_nothing_moves_for_who_prefers_it(panel: Panel) -> None:
    panel.show("#/audit", "Audit")
    durations = """() => ["::before", null].map((part) => {
        const style = getComputedStyle(document.querySelector('[role="switch"]'), part);
        return [style.transitionDuration, style.animationName];
    })"""

    panel.page.emulate_media(reduced_motion="reduce")
    assert panel.page.evaluate(durations) == [["0s", "none"], ["0s", "none"]]
    panel.page.emulate_media(reduced_motion="no-preference")
    assert panel.page.evaluate(durations)[0] == ["0.15s", "none"]


def test_plots_and_table_show_the_numbers_of_the_service(panel: Panel, hand: Hand) -> None:
    panel.show("#/overview", "Overview")
    link = "Lockouts: List in the audit log"
    expect(panel.page.get_by_role("link", name=link, exact=True)).to_be_visible()
    if isinstance(hand, Mouse):
        panel.page.set_viewport_size({"width": 960, "height": 910})
        panel.page.get_by_role("slider", name="Failed sign-ins").hover()
        panel.take_screenshot("admin-overview.png")
    with panel.page.expect_response("**/admin/stats?days=1") as response:
        hand.press("1 day")
    period = panel.page.get_by_role("link", name="1 day")
    expect(period).to_have_attribute("aria-current", "true")
    expect(period).to_be_focused()
    assert panel.page.url.endswith("#/overview?days=1")
    stats = response.value.json()
    expected = [stats["series"][action] for action in SERIES.values()]

    for label, value in stats["totals"].items():
        fact = panel.page.locator(".totals div").filter(has_text=re.compile(label, re.I))
        expect(fact.locator("dd")).to_have_text(str(value))
    for label, action in SERIES.items():
        caption = panel.page.locator("figcaption", has_text=re.compile(f"^{label}"))
        expect(caption.locator("span")).to_have_text(str(sum(stats["series"][action])))

    numbers = read_plots(panel, hand)
    assert [list(column) for column in zip(*numbers, strict=True)] == expected
    open_table(panel, hand)
    table = panel.page.get_by_role("table", name="Numbers").locator("tbody tr")
    cells = [row.locator(".number").all_inner_texts() for row in table.all()][::-1]
    assert [[int(text) for text in column] for column in zip(*cells, strict=True)] == expected
    panel.finds_no_barrier()


def read_plots(panel: Panel, hand: Hand) -> list[list[int]]:
    """Return the numbers of all plots in each hour, which are read in the first plot."""
    plot = panel.page.get_by_role("slider", name="Sign-ins", exact=True)
    seen: dict[str, list[int]] = {}

    def read() -> None:
        texts = [each.rsplit(": ", 1) for each in panel.page.evaluate(READOUTS)]
        assert len({name for name, _ in texts}) == 1  # one cursor for all
        seen[texts[0][0]] = [int(number) for _, number in texts]

    if isinstance(hand, Mouse):
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        assert box
        for step in range(int(box["width"]) // 8):
            panel.page.mouse.move(box["x"] + 4 + step * 8, box["y"] + 30)
            read()
    else:
        hand.move_to("Sign-ins")
        panel.page.keyboard.press("Home")
        for _ in range(24):
            read()
            expect(plot).to_have_attribute("aria-valuetext", re.compile(f"^{list(seen)[-1]}"))
            panel.page.keyboard.press("ArrowRight")
    return list(seen.values())


def open_table(panel: Panel, hand: Hand) -> None:
    summary = "Show the numbers as a table"
    if isinstance(hand, Keyboard):
        hand.press(summary)
    else:
        panel.page.get_by_text(summary).click()


def test_a_bar_leads_to_the_rows_that_it_counts(panel: Panel, hand: Hand) -> None:
    panel.show("#/overview?days=30", "Overview")
    plot = panel.page.get_by_role("slider", name="Failed sign-ins")

    count = panel.page.locator("figcaption", has_text="Failed").locator("span")
    before = int(count.inner_text())
    fail_to_sign_in(panel)
    hand.press("Refresh")
    expect(count).to_have_text(str(before + 1))
    if isinstance(hand, Keyboard):
        hand.move_to("Failed sign-ins")
        panel.page.keyboard.press("End")
        name, number = str(plot.get_attribute("aria-valuetext")).rsplit(": ", 1)
        panel.page.keyboard.press("Enter")
    else:
        box = plot.bounding_box()
        assert box
        at = {"x": box["width"] - 13.0, "y": 60.0}
        plot.hover(position=at)  # type: ignore[arg-type]
        name, number = str(plot.get_attribute("aria-valuetext")).rsplit(": ", 1)
        plot.click(position=at)  # type: ignore[arg-type]
    panel.is_at("Audit")

    assert name.endswith("so far")
    day = time.strftime("%F", time.gmtime())
    assert f"#/audit?action=sign_in_failed&since={day}T00%3A00%3A00Z" in panel.page.url
    expect(rows_of(panel)).to_have_count(int(number))


def test_keys_say_what_they_do_and_what_comes_next(panel: Panel, keys: KeyFolder) -> None:
    panel.show("#/keys", "Keys")
    rows = panel.page.get_by_role("table", name="Keys").locator("tbody tr")
    first, second = (file.key.kid for file in keys.files())
    expect(rows).to_have_text([re.compile(f"{first}Only verifies"), re.compile(f"{second}Signs")])
    expect(panel.page.locator("main")).to_contain_text("flask --app wsgi keys rotate")

    new = rotate(keys, int(time.time()), 2 * HOUR)
    panel.show("#/overview", "Overview")
    panel.take(Keyboard)
    panel.show("#/keys", "Keys")
    panel.finds_no_barrier()
    panel.take(Mouse)
    panel.finds_no_barrier()

    local = time.strftime("%H:%M", time.gmtime(new.activation + 11 * HOUR // 2))
    text = re.compile(f"{new.key.kid} signs from .*{local} on")
    expect(panel.page.locator("main")).to_contain_text(text)
    expect(rows.last).to_have_text(re.compile(f"{new.key.kid}Next"))
    assert "keys rotate" not in panel.page.inner_text("main")


def test_a_secret_is_named_as_the_setting_that_it_is(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("secret")
    with running(folder, BASE_ENVIRONMENT) as server, browser.new_context() as context:
        panel = Panel(context.new_page(), server)
        panel.sql("UPDATE users SET admin = 1")
        panel.sign_in(panel.load())
        panel.is_at("Overview")
        panel.show("#/keys", "Keys")

        expect(panel.page.locator("main")).to_contain_text("JWT_SECRET_PREVIOUS")
        assert panel.page.get_by_role("table").count() == 0
        assert BASE_ENVIRONMENT["JWT_SECRET"] not in panel.page.inner_text("body")
        panel.logs_nothing()
