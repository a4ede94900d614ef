// @ts-check
/** The view "Overview". */

import { h } from "./dom.js";

export const title = "Overview";

/** @param {import("./app.js").Context} context */
export async function render({ signal }) {
  void signal;
  return h("section", {}, h("h1", {}, title));
}
