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
   * @param {AbortSignal} signal
   */
  constructor(key, label, signal) {
    this.key = key;
    this.signal = signal;
    const attributes = { name: key, autocomplete: "off", autocapitalize: "none", spellcheck: "false" };
    this.field = field(label, h("input", attributes), this.#user);
  }

  /**
   * Show the user of the address.
   *
   * @param {URLSearchParams} query
   */
  async start(query) {
    const id = query.get(this.key);
    if (!id) return;
    this.#id = id;
    this.#text = this.field.control.value = (ID.test(id) && (await this.#showId(id))) || id;
  }

  /** Return the id of the user whose name or id is in the field, or "". */
  async find() {
    const text = this.field.control.value.trim();
    if (text === this.#text) return this.#id;
    if (!text) this.#user.replaceChildren();
    this.#id = text && (await this.#idOf(text));
    this.#text = text;
    return this.#id;
  }

  /** @param {string} text */
  async #idOf(text) {
    // They are in the order of their names.
    /** @type {{id: number, username: string}[]} */
    const [user] = await this.#get(`/admin/users?${new URLSearchParams({ search: text, limit: "1" })}`);
    if (user && foldCase(user.username) === foldCase(text)) return this.#show(user.id, user.username);
    if (!ID.test(text)) {
      throw new AuthError("not_found", "", { errors: { [this.key]: ["There is no user of this name."] } });
    }
    await this.#showId(text);
    return text;
  }

  /** @param {string} id */
  async #showId(id) {
    const user = await this.#get(`/admin/users/${encodeURIComponent(id)}`).catch((error) => {
      if (error.status !== 404) throw error;
    });
    this.#show(Number(id), user?.username ?? null);
    return user?.username;
  }

  /**
   * @param {number} id
   * @param {string | null} username
   */
  #show(id, username) {
    this.#user.replaceChildren(...(username === null ? [] : [`User ${id}: `]), linkUser(id, username));
    return String(id);
  }

  /** @param {string} path */
  #get(path) {
    return request("GET", path, undefined, { signal: this.signal });
  }
}

/** The service tells no upper from lower case. @param {string} name */
const foldCase = (name) => name.normalize("NFKC").toUpperCase().toLowerCase();
