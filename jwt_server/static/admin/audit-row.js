// @ts-check
/** A row of the audit log, with links to its users and to rows like it. */

import { h, name, plainName, s } from "./dom.js";

/**
 * @typedef {object} Row
 * @property {number} id
 * @property {string} at
 * @property {string} action
 * @property {number | null} actor_id
 * @property {string | null} actor The current name.
 * @property {number | null} user_id
 * @property {string | null} username The current name.
 * @property {string | null} address Null for a command of the operator.
 * @property {Record<string, unknown>} details
 */

export const COLUMNS = ["Time", "Action", "User", "Actor", "Address", "Details"].map((label) => ({ label }));

/** What an admin should look at. */
const WARNINGS = ["locked_out", "refresh_token_reused"];

const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

const FUNNEL = "M1 2h12L8.5 7.5V12l-3-1.5v-3z";

/** @param {string} action Such as `signed_in`. */
export const wordsOf = (action) => action[0].toUpperCase() + action.slice(1).replaceAll("_", " ");

/**
 * Return the cells of a row.
 *
 * @param {Row} row
 * @param {URLSearchParams} filters
 */
export function cellsOf({ at, action, actor_id, actor, user_id, username, address, details }, filters) {
  const isWarning = WARNINGS.includes(action);
  return [
    h("time", { datetime: at }, TIME.format(new Date(at))),
    h("a", { href: like(filters, "action", action), class: isWarning && "warning" }, wordsOf(action)),
    user_id === null ? "" : showUser(user_id, username, filters, "user"),
    actor_id === null ? showNobody(address) : showUser(actor_id, actor, filters, "actor"),
    address ?? "",
    showDetails(details),
  ];
}

/**
 * Name a user, and link to the user.
 *
 * @param {number} id
 * @param {string | null} username Null if deleted.
 */
export function linkUser(id, username) {
  return username === null ? `deleted user ${id}` : h("a", { href: `#/users/${id}` }, name(username));
}

/**
 * @param {number} id
 * @param {string | null} username
 * @param {URLSearchParams} filters
 * @param {"user" | "actor"} key
 */
function showUser(id, username, filters, key) {
  const who = username === null ? `deleted user ${id}` : plainName(username);
  const text = key === "user" ? `Only what was done to ${who}` : `Only what ${who} did`;
  const icon = s("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" }, s("path", { d: FUNNEL }));
  const link = h("a", { href: like(filters, key, String(id)), class: "only", "aria-label": text, title: text }, icon);
  return h("span", { class: "who" }, linkUser(id, username), link);
}

/** @param {string | null} address */
const showNobody = (address) => h("span", { class: "quiet" }, address === null ? "command" : "nobody signed in");

/**
 * Return the link to the rows that have this, too.
 *
 * @param {URLSearchParams} filters
 * @param {string} key
 * @param {string} value
 */
function like(filters, key, value) {
  const changed = new URLSearchParams(filters);
  changed.set(key, value);
  return `#/audit?${changed}`;
}

/** @param {Record<string, unknown>} details */
function showDetails(details) {
  const facts = Object.entries(details).map(([key, value]) => {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    return h("div", {}, h("dt", {}, `${key.replaceAll("_", " ")}: `), h("dd", {}, name(text)));
  });
  return facts.length ? h("dl", {}, facts) : "";
}
