// @ts-check
/** The filters of the audit log. The address has users by id, and times in UTC. */

import { wordsOf } from "./audit-row.js";
import { UserFilter } from "./audit-user.js";
import { h } from "./dom.js";
import { field, form } from "./forms.js";

/** Those of the service. */
export const ACTIONS = [
  "signed_in",
  "sign_in_failed",
  "locked_out",
  "signed_out",
  "session_ended",
  "sessions_ended",
  "refresh_token_reused",
  "refresh_raced",
  "reauthenticated",
  "password_refused",
  "password_changed",
  "password_set",
  "signed_up",
  "user_added",
  "user_renamed",
  "user_promoted",
  "user_demoted",
  "user_disabled",
  "user_enabled",
  "user_unlocked",
  "user_claims_set",
  "user_deleted",
  "users_imported",
  "admin_refused",
  "database_restored",
  "key_added",
  "key_revoked",
  "key_removed",
];

/**
 * A field, and how its value for the service is found.
 *
 * @typedef {object} Filter
 * @property {import("./forms.js").Field} field
 * @property {(query: URLSearchParams, signal: AbortSignal) => void | Promise<void>} start Fills in the value of the
 *   address.
 * @property {(signal: AbortSignal) => string | Promise<string>} find
 */

/**
 * Make the form, and load the rows that the address asks for.
 *
 * @param {URLSearchParams} query
 * @param {(filters: URLSearchParams) => Promise<void>} load
 * @param {AbortSignal} signal
 */
export async function createFilters(query, load, signal) {
  /** @type {Filter[]} */
  const filters = [
    new UserFilter("user", "User"),
    new UserFilter("actor", "Actor"),
    new ActionFilter(),
    new TimeFilter("since", "From"),
    new TimeFilter("until", "Until"),
  ];
  const controls = filters.map((each) => each.field.control);

  /** @param {AbortSignal} superseded */
  async function send(superseded) {
    const either = AbortSignal.any([signal, superseded]);
    const values = await Promise.all(filters.map((each) => each.find(either)));
    const pairs = controls.map(({ name }, index) => [name, values[index]]);
    await load(new URLSearchParams(pairs.filter(([, value]) => value)));
  }

  function clear() {
    for (const control of controls) control.value = "";
    element.requestSubmit();
  }

  const element = form({
    label: "Filters",
    fields: filters.map((each) => each.field),
    buttons: [h("button", { class: "primary" }, "Apply"), h("button", { type: "button", onclick: clear }, "Clear")],
    send,
    isSuperseding: true,
  });
  element.classList.add("card", "audit-filters");
  await Promise.all(filters.map((each) => each.start(query, signal)));
  await send(signal).catch((error) => {
    if (error.status !== 422) throw error;
    for (const { field } of filters) field.setError((error.errors[field.control.name] ?? []).join(" "));
  });
  return element;
}

/** @implements {Filter} */
class ActionFilter {
  field = field(
    "Action",
    h(
      "select",
      { name: "action" },
      h("option", { value: "" }, "All"),
      ACTIONS.map((action) => h("option", { value: action }, wordsOf(action))),
    ),
  );

  /** @param {URLSearchParams} query */
  start(query) {
    this.field.control.value = query.get("action") ?? "";
  }

  find() {
    return this.field.control.value;
  }
}

/**
 * A time of this device's zone.
 *
 * @implements {Filter}
 */
class TimeFilter {
  /** In UTC, and what the field shows for it: an hour that is repeated in autumn shows the same text. */
  #utc = "";
  #local = "";

  /**
   * @param {"since" | "until"} key
   * @param {string} label
   */
  constructor(key, label) {
    this.key = key;
    this.field = field(label, h("input", { type: "datetime-local", name: key }));
  }

  /** @param {URLSearchParams} query */
  start(query) {
    const time = new Date(query.get(this.key) ?? "");
    if (Number.isNaN(time.getTime())) return;
    this.#utc = time.toISOString().replace(/\.\d+Z$/, "Z");
    const local = new Date(time.getTime() - 60_000 * time.getTimezoneOffset());
    this.field.control.value = local.toISOString().replace(/(:00)?\.\d+Z$/, "");
    this.#local = this.field.control.value;
  }

  find() {
    const { value } = this.field.control;
    if (value === this.#local) return this.#utc;
    return value && new Date(value).toISOString().replace(".000Z", "Z");
  }
}
