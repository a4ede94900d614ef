// @ts-check
/** The audit log: who did what, when, to whom and from where. */

import { createFilters } from "./audit-filters.js";
import { createFollower } from "./audit-follower.js";
import { cellsOf, COLUMNS } from "./audit-row.js";
import { h } from "./dom.js";
import { pagedList } from "./list.js";
import { page } from "./service.js";

export const title = "Audit";

/** @param {import("./app.js").Context} context */
export async function render({ query, signal, navigate }) {
  const place = h("div", { class: "stack events" });
  /** Ends the list that is shown. */
  let ending = new AbortController();

  /** @param {URLSearchParams} filters */
  async function load(filters) {
    const first = await page(`/admin/audit?${filters}`, { signal });
    ending.abort();
    ending = new AbortController();
    const either = AbortSignal.any([signal, ending.signal]);
    const list = createEventList(filters, either);
    list.show(first);
    place.replaceChildren(createFollower(list, first.rows, filters, either), list.element);
    navigate(filters);
  }

  const form = await createFilters(query, load, signal);
  return h("section", {}, h("h1", {}, title), form, place);
}

/**
 * @param {URLSearchParams} filters
 * @param {AbortSignal} signal
 */
function createEventList(filters, signal) {
  return pagedList({
    label: "Audit log, newest first",
    columns: COLUMNS,
    cells: (row) => cellsOf(row, filters),
    nouns: ["row", "rows"],
    signal,
  });
}
