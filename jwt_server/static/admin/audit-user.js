// @ts-check
/** A filter that takes a user's name or id, and shows who it is. */

import { linkUser } from "./audit-row.js";
import { h } from "./dom.js";
import { field } from "./forms.js";
import { AuthError, request } from "./service.js";

const ID = /^\d+$/;

export class UserFilter {
  #id = "";
  /** The text for which this is the id. */
  #text = "";
  #user = h("span");

  /**
   * @param {"user" | "actor"} key
   * @param {string} label
   */
  constructor(key, label) {
    this.key = key;
    const attributes = { name: key, autocomplete: "off", autocapitalize: "none", spellcheck: "false" };
    this.field = field(label, h("input", attributes), this.#user);
  }

  /**
   * Show the user of the address: the id in the field, where invisible characters can't be shown, the name below.
   *
   * @param {URLSearchParams} query
   * @param {AbortSignal} signal
   */
  async start(query, signal) {
    const id = query.get(this.key) ?? "";
    this.#id = this.#text = this.field.control.value = id;
    if (ID.test(id)) await this.#showId(id, signal);
  }

  /**
   * Return the id of the user whose name or id is in the field, or "".
   *
   * @param {AbortSignal} signal
   */
  async find(signal) {
    const text = this.field.control.value.trim();
    if (text === this.#text) return this.#id;
    this.#user.replaceChildren();
    this.#id = this.#text = "";
    this.#id = text && (await this.#idOf(text, signal));
    this.#text = text;
    return this.#id;
  }

  /**
   * @param {string} text
   * @param {AbortSignal} signal
   */
  async #idOf(text, signal) {
    // They are in the order of their names.
    /** @type {{id: number, username: string}[]} */
    const [user] = await get(`/admin/users?${new URLSearchParams({ search: text, limit: "1" })}`, signal);
    if (user && foldCase(user.username) === foldCase(text)) return this.#show(user.id, user.username);
    if (!ID.test(text)) {
      throw new AuthError("not_found", "", { errors: { [this.key]: ["There is no user of this name."] } });
    }
    await this.#showId(text, signal);
    return text;
  }

  /**
   * @param {string} id
   * @param {AbortSignal} signal
   */
  async #showId(id, signal) {
    const user = await get(`/admin/users/${encodeURIComponent(id)}`, signal).catch((error) => {
      if (error.status !== 404) throw error;
    });
    this.#show(Number(id), user?.username ?? null);
  }

  /**
   * @param {number} id
   * @param {string | null} username
   */
  #show(id, username) {
    this.#user.replaceChildren(...(username === null ? [] : [`User ${id}: `]), linkUser(id, username));
    return String(id);
  }
}

/**
 * @param {string} path
 * @param {AbortSignal} signal
 */
const get = (path, signal) => request("GET", path, undefined, { signal });

/** The service tells no upper from lower case. @param {string} name */
const foldCase = (name) => name.normalize("NFKC").toUpperCase().toLowerCase();
