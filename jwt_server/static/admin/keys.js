// @ts-check
/** The keys that sign access tokens, with their states and what comes next. */

import { h, time } from "./dom.js";
import { row, table } from "./list.js";
import { request } from "./service.js";

export const title = "Keys";

const COLUMNS = ["Key", "State", "Created", "Signs from"].map((label) => ({ label }));

/** What each state is called, and its colour. */
const STATES = { signs: ["Signs", ""], next: ["Next", "warn"], verifies: ["Only verifies", "off"] };

/**
 * @typedef {import("./dom.js").Child} Child
 * @typedef {{kid: string, created_at: string, signs_from: string, state: keyof typeof STATES}} Key
 * @typedef {{algorithm: string, keys: Key[]}} Keys
 */

/** @param {import("./app.js").Context} context */
export async function render({ signal }) {
  const keys = await request("GET", "/admin/keys", undefined, { signal });
  return h("section", {}, h("h1", {}, title), showKeys(keys));
}

/** @param {Keys} keys */
export function showKeys({ algorithm, keys }) {
  const text = h("p", {}, "Access tokens are signed with ", h("strong", {}, algorithm), ". ", nextOf(keys));
  if (!keys.length) return text;
  const { element, body } = table("Keys", COLUMNS);
  body.append(...keys.map(showKey));
  return h("div", { class: "stack" }, text, h("div", { class: "card list" }, element));
}

/**
 * Say what comes next.
 *
 * @param {Key[]} keys
 * @returns {Child}
 */
function nextOf(keys) {
  const planned = keys.filter(({ state }) => state === "next");
  if (!keys.length) {
    return [
      ["Its secret is the setting ", code("JWT_SECRET"), ". To change it without signing anyone out, keep the old one in "],
      [code("JWT_SECRET_PREVIOUS"), "."],
    ];
  }
  if (!planned.length) return ["No other key is planned; ", code("flask --app wsgi keys rotate"), " adds one."];
  return planned.map(({ kid, signs_from }) => [code(kid), " signs from ", time(signs_from), " on. "]);
}

/** @param {Key} key */
function showKey({ kid, created_at, signs_from, state }) {
  const [label, kind] = STATES[state];
  const badge = h("span", { class: `badge ${kind}` }, label);
  return row(COLUMNS, [code(kid), badge, time(created_at), time(signs_from)]);
}

/** @param {string} text */
const code = (text) => h("code", {}, text);
