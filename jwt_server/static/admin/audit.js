// @ts-check
/** The audit log: who did what, when, to whom and from where. */

import { createFilters } from "./audit-filters.js";
import { createFollower } from "./audit-follower.js";
import { cellsOf, COLUMNS } from "./audit-row.js";
import { h } from "./dom.js";
import { pagedList } from "./list.js";

export const title = "Audit";

/** @param {import("./app.js").Context} context */
export async function render({ query, signal, navigate }) {
  let shown = query;
  const list = pagedList({
    label: "Audit log, newest first",
    columns: COLUMNS,
    cells: (row) => cellsOf(row, shown),
    nouns: ["row", "rows"],
    signal,
  });
  const follower = createFollower(list, signal);

  /** @param {URLSearchParams} filters */
  async function load(filters) {
    follower.stop();
    shown = filters;
    const rows = await list.load(`/admin/audit?${filters}`);
    follower.start(filters, rows);
    navigate(filters);
  }

  const form = await createFilters(query, load, signal);
  return h("section", {}, h("h1", {}, title), form, h("div", { class: "stack events" }, follower.element, list.element));
}
