// @ts-check
/** The view "Keys". */

import { h } from "./dom.js";

export const title = "Keys";

/** @param {import("./app.js").Context} context */
export async function render({ signal }) {
  void signal;
  return h("section", {}, h("h1", {}, title));
}
