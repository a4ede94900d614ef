// @ts-check
/** Long lists: a table to which pages are added, the number of its rows, and progress. */

import { h } from "./dom.js";
import { action } from "./forms.js";
import { page } from "./service.js";

/**
 * @typedef {import("./dom.js").Child} Child
 * @typedef {{label: string, class?: string}} Column
 */

/**
 * Make a table; its roles are explicit, because rows are shown as cards on narrow screens.
 *
 * @param {string} label
 * @param {Column[]} columns
 */
export function table(label, columns) {
  const body = h("tbody", { role: "rowgroup" });
  const heads = columns.map((each) => h("th", { role: "columnheader", scope: "col", class: each.class }, each.label));
  const head = h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads));
  return { element: h("table", { role: "table", "aria-label": label }, head, body), body };
}

/**
 * @param {Column[]} columns
 * @param {Child[]} cells
 */
export function row(columns, cells) {
  const filled = columns.map(({ label, class: kind }, index) =>
    h("td", { role: "cell", class: kind, "data-label": index && kind !== "end" ? label : null }, cells[index]),
  );
  return h("tr", { role: "row" }, filled);
}

/**
 * Make a list of pages of the service.
 *
 * @param {object} options
 * @param {string} options.label
 * @param {Column[]} options.columns
 * @param {(record: any) => Child[]} options.cells Of a row, in the order of the columns.
 * @param {[string, string]} options.nouns Of one row, and of several.
 * @param {AbortSignal} options.signal
 */
export function pagedList({ label, columns, cells, nouns, signal }) {
  const { element, body } = table(label, columns);
  const card = h("div", { class: "card list", hidden: true }, element);
  const count = h("p", { class: "quiet", role: "status" });
  const more = action("More", async () => {
    await add(following, false);
  });
  let following = "";
  let loading = new AbortController();
  signal.addEventListener("abort", () => loading.abort());

  /** @param {any[]} records */
  const toRows = (records) => records.map((record) => row(columns, cells(record)));

  /**
   * Add a page, and return its rows. Rejects with an AuthError, or with an AbortError if another page is loaded
   * before this one arrives.
   *
   * @param {string} path
   * @param {boolean} isFirst
   */
  async function add(path, isFirst) {
    loading.abort();
    loading = new AbortController();
    const current = loading.signal;
    if (isFirst) setFollowing(null);
    card.ariaBusy = "true";
    count.ariaLive = "polite";
    count.textContent = "Loading …";
    try {
      const { rows, next } = await page(path, { signal: current });
      const added = toRows(rows);
      if (isFirst) body.replaceChildren();
      body.append(...added);
      setFollowing(next);
      if (!isFirst) added[0]?.querySelector("a")?.focus();
      showState();
      return rows;
    } catch (error) {
      if (!current.aborted) {
        card.ariaBusy = "false";
        count.textContent = "";
      }
      throw error;
    }
  }

  /** @param {string | null} next The path of the next page. */
  function setFollowing(next) {
    following = next ?? "";
    more.element.hidden = !following;
  }

  function showState() {
    card.ariaBusy = "false";
    const shown = body.rows.length;
    card.hidden = !shown;
    const noun = nouns[shown === 1 ? 0 : 1];
    count.textContent = following ? `${shown} ${noun} shown; there are more.` : shown ? `${shown} ${noun}.` : `No ${noun}.`;
  }

  setFollowing(null);
  return {
    element: h("div", { class: "stack" }, card, h("div", { class: "foot" }, count, more.element)),
    body,
    /** Show the first page of a path, and return its rows; rejects as `add` does. @param {string} path */
    load: (path) => add(path, true),
    /**
     * Show a newer first page, or add what is new in it, without saying so to screen readers.
     *
     * @param {{rows: any[], next: string | null}} first
     * @param {any[]} [added]
     */
    update({ rows, next }, added) {
      count.ariaLive = "off";
      if (added) {
        body.prepend(...toRows(added));
      } else {
        loading.abort();
        body.replaceChildren(...toRows(rows));
        setFollowing(next);
      }
      showState();
    },
  };
}
