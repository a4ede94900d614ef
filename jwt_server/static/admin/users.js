// @ts-check
/** The view "Users". */

import { h } from "./dom.js";

export const title = "Users";

/** @param {import("./app.js").Context} context */
export async function render({ signal }) {
  void signal;
  return h("section", {}, h("h1", {}, title));
}
