// @ts-check
/** The view of all users: search, filters, pages, and what concerns all of them. */

import { createUser } from "./create-user.js";
import { confirm } from "./dialogs.js";
import { h, name, time } from "./dom.js";
import { action, field, showProblem } from "./forms.js";
import { pagedList } from "./list.js";
import { auth, request } from "./service.js";
import { say } from "./status.js";

/**
 * A user, as the service shows it to admins.
 *
 * @typedef {object} User
 * @property {number} id
 * @property {string} username
 * @property {boolean} admin
 * @property {boolean} disabled
 * @property {object} claims
 * @property {string} created_at
 * @property {string | null} locked_until
 * @property {string | null} last_sign_in_at
 * @property {string | null} password_expires_at
 * @property {number} sessions
 */

export const title = "Users";

/** Where the user is in the list, to go back there: its filters, and the user who was opened last. */
export const place = { query: "", userId: "" };

const DEBOUNCE_MS = 250;
/** The most that the service sends. */
const PAGE_SIZE = "100";
const FILTERS = ["search", "admin", "disabled"];
const COLUMNS = [
  { label: "Name" },
  { label: "State" },
  { label: "Last sign-in" },
  { label: "Sessions", class: "number" },
  { label: "Created" },
];

/** @param {import("./app.js").Context} context */
export async function render({ query, signal, navigate }) {
  const list = pagedList({ label: "Users", columns: COLUMNS, cells, nouns: ["user", "users"], signal });
  const filters = filterForm(query);
  const problem = h("div", { role: "alert" });
  const load = async () => {
    problem.replaceChildren();
    const query = filters.read();
    place.query = query.toString();
    query.set("limit", PAGE_SIZE);
    await list.load(`/admin/users?${query}`).catch((error) => showProblem(problem, error, load, true));
  };
  let waiting = 0;
  const change = (/** @type {number} */ pause) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => (navigate(filters.read()), load()), pause);
  };
  filters.element.addEventListener("input", ({ target }) => change(target instanceof HTMLSelectElement ? 0 : DEBOUNCE_MS));
  filters.element.addEventListener("submit", (event) => (event.preventDefault(), change(0)));
  signal.addEventListener("abort", () => clearTimeout(waiting));
  const create = createUser(load);
  void load().then(() => {
    const opened = list.body.querySelector(`a[href="#/users/${place.userId}"]`);
    if (opened instanceof HTMLElement && document.activeElement?.tagName === "H1") opened.focus();
    place.userId = "";
  });
  const buttons = h(
    "div",
    { class: "buttons" },
    action("Sign everyone out", signEveryoneOut, { class: "danger" }).element,
    h("button", { type: "button", class: "primary", onclick: create.open }, "Create user"),
  );
  const head = h("div", { class: "head" }, h("h1", {}, title), buttons);
  return h("section", {}, head, filters.element, h("div", {}, problem, list.element), create.home);
}

/** @param {User} user */
function cells(user) {
  return [
    h("a", { class: "row", href: `#/users/${user.id}` }, name(user.username)),
    badges(user),
    time(user.last_sign_in_at),
    user.sessions,
    time(user.created_at),
  ];
}

/**
 * Show what is special about a user.
 *
 * @param {User} user
 */
export function badges({ id, admin, disabled, locked_until, password_expires_at }) {
  const badge = (/** @type {string} */ text, kind = "") => h("span", { class: `badge ${kind}` }, text);
  const shown = [
    id === auth.user?.id && badge("You"),
    admin && badge("Admin"),
    disabled && badge("Disabled", "off"),
    locked_until && badge("Locked", "warn"),
    password_expires_at && badge("Temporary password", "off"),
  ].filter(Boolean);
  return shown.length ? h("span", { class: "badges" }, shown) : null;
}

/** @param {URLSearchParams} query */
function filterForm(query) {
  const search = h("input", {
    type: "search", name: "search", value: query.get("search"), autocomplete: "off", autocapitalize: "none", spellcheck: "false",
  });
  const fields = [
    field("Name begins with", search),
    field("Role", select("admin", query, { "": "All", true: "Admins", false: "Not admins" })),
    field("State", select("disabled", query, { "": "All", false: "Enabled", true: "Disabled" })),
  ];
  return {
    element: h("form", { class: "filters", role: "search", "aria-label": "Users" }, fields.map((each) => each.element)),
    read() {
      const values = fields.map(({ control }) => [control.name, control.value.trim()]);
      return new URLSearchParams(values.filter(([key, value]) => FILTERS.includes(key) && value));
    },
  };
}

/**
 * @param {string} key
 * @param {URLSearchParams} query
 * @param {Record<string, string>} options Labels by value.
 */
function select(key, query, options) {
  const chosen = query.get(key) ?? "";
  return h(
    "select",
    { name: key },
    Object.entries(options).map(([value, label]) => h("option", { value, selected: value === chosen }, label)),
  );
}

async function signEveryoneOut() {
  const text = "All sessions of all users end now, yours too. Everyone has to sign in again.";
  const isDone = await confirm("Sign everyone out?", text, "Sign everyone out", () => request("DELETE", "/admin/sessions"));
  if (!isDone) return;
  await auth.signOut();
  say("Everyone is signed out.");
}
