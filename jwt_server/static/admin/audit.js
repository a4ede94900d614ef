// @ts-check
/** The view "Audit". */

import { h } from "./dom.js";

export const title = "Audit";

/** @param {import("./app.js").Context} context */
export async function render({ signal }) {
  void signal;
  return h("section", {}, h("h1", {}, title));
}
