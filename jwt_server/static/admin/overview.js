// @ts-check
/** The overview: totals, what happened over time, and the keys. */

import { h } from "./dom.js";
import { action } from "./forms.js";
import { showKeys } from "./keys.js";
import { row, table } from "./list.js";
import { ACTIONS, createPlots, NUMBER, SERIES } from "./plots.js";
import { Buckets } from "./scale.js";
import { request } from "./service.js";

export const title = "Overview";

const HINT = "Point at a bar, or choose one with the arrow keys. A click, or Enter, opens the matching audit rows.";

const PERIODS = { 1: "1 day", 7: "7 days", 30: "30 days", 90: "90 days", 365: "365 days" };
const DEFAULT_DAYS = "7";

/** @type {[keyof Totals, string][]} */
const TOTALS = [
  ["users", "Users"],
  ["admins", "Admins"],
  ["disabled", "Disabled"],
  ["sessions", "Active sessions"],
];

/**
 * @typedef {{users: number, admins: number, disabled: number, sessions: number}} Totals
 */

/** @param {import("./app.js").Context} context */
export async function render({ query, signal, navigate }) {
  const asked = query.get("days") ?? "";
  let days = Object.hasOwn(PERIODS, asked) ? asked : DEFAULT_DAYS;
  const place = h("div", { class: "sections" });

  async function load() {
    const loaded = days;
    const [stats, keys] = await Promise.all([
      request("GET", `/admin/stats?days=${loaded}`, undefined, { signal }),
      request("GET", "/admin/keys", undefined, { signal }),
    ]);
    if (loaded !== days) return load();
    const isOpen = place.querySelector("details")?.open;
    place.replaceChildren(
      showTotals(stats.totals),
      h("h2", {}, "Activity"),
      h("p", { id: "plots-hint", class: "hint" }, HINT),
      createPlots(stats, signal),
      showTable(stats, isOpen),
      h("h2", {}, "Keys"),
      showKeys(keys),
    );
  }

  /** @param {string} chosen */
  function choose(chosen) {
    days = chosen;
    navigate(new URLSearchParams({ days }));
    refresh.button.click();
  }

  const refresh = action("Refresh", load);
  const periods = choosePeriod(days, choose);
  await load();
  return h("section", {}, h("div", { class: "head" }, h("h1", {}, title), refresh.element, periods), place);
}

/** @param {Totals} totals */
function showTotals(totals) {
  const facts = TOTALS.map(([key, label]) => h("div", {}, h("dt", {}, label), h("dd", {}, NUMBER.format(totals[key]))));
  return h("dl", { class: "card totals" }, facts);
}

/**
 * @param {string} chosen
 * @param {(days: string) => void} choose
 */
function choosePeriod(chosen, choose) {
  /** @type {HTMLAnchorElement[]} */
  const links = Object.entries(PERIODS).map(([days, label]) => {
    const link = h("a", { href: `#/overview?days=${days}`, "aria-current": days === chosen && "true" }, label);
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      // Without rendering the view, which would move the focus.
      event.preventDefault();
      for (const each of links) each.ariaCurrent = each === link ? "true" : null;
      choose(days);
    });
    return link;
  });
  return h("nav", { class: "periods", "aria-label": "Period" }, links);
}

/**
 * Show the numbers of the plots for those who can't see them, newest first.
 *
 * @param {import("./plots.js").Stats} stats
 * @param {boolean} [isOpen]
 */
function showTable(stats, isOpen) {
  const buckets = new Buckets(stats);
  const numbers = ACTIONS.map((action) => ({ label: SERIES[action], class: "number" }));
  const columns = [{ label: buckets.isDaily ? "Day (UTC)" : "Hour" }, ...numbers];
  const { element, body } = table("Numbers", columns);
  for (let index = 0; index < buckets.count; index++) {
    const values = ACTIONS.map((action) => NUMBER.format(stats.series[action][index]));
    body.prepend(row(columns, [buckets.name(index), ...values]));
  }
  // Scrolled by keyboard, too.
  const region = h("div", { class: "card list scroll", tabindex: 0, role: "region", "aria-label": "Numbers" }, element);
  return h("details", { open: isOpen }, h("summary", {}, "Show the numbers as a table"), region);
}
