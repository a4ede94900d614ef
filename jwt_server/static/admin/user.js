// @ts-check
/** The view of one user. */

import { closeDialogs } from "./dialogs.js";
import { h, name, setTitle, time } from "./dom.js";
import { auth, AuthError, request } from "./service.js";
import { accessCard, deletionCard, passwordCard } from "./user-access.js";
import { claimsCard, nameCard } from "./user-details.js";
import { sessionsCard } from "./user-sessions.js";
import { badges, place } from "./users.js";

/**
 * The user that the view shows, which its parts change.
 *
 * @typedef {object} Subject
 * @property {(method: string, suffix?: string, body?: object) => Promise<any>} send Sends a request to one of the user's
 *   routes; rejects as `request` does, or with an AbortError after it has shown that the user does not exist any more.
 * @property {() => boolean} isSelf Whether this is the user who is signed in.
 * @property {() => import("./users.js").User} get
 * @property {(user: import("./users.js").User) => void} set
 * @property {(call: (user: import("./users.js").User) => void) => void} watch Calls now, and after changes.
 */

export const title = "User";

/** @param {import("./app.js").Context} context */
export async function render({ params, signal }) {
  place.userId = params.id;
  const path = `/admin/users/${params.id}`;
  const found = await Promise.all([
    request("GET", path, undefined, { signal }),
    request("GET", `${path}/sessions`, undefined, { signal }),
  ]).catch((error) => {
    if (!isNotFound(error)) throw error;
  });
  if (!found) return h("section", {}, h("h1", {}, title), missing(params.id));
  const [user, sessions] = found;
  const subject = newSubject(path, user, () => {
    heading.after(missing(params.id));
    for (const button of view.querySelectorAll("button")) button.disabled = true;
    closeDialogs("dialog:not(.stays)");
    heading.querySelector("h1")?.focus();
  });
  const columns = [
    [factsCard(subject), nameCard(subject), claimsCard(subject)],
    [accessCard(subject), passwordCard(subject), deletionCard(subject)],
  ];
  const heading = head(subject);
  const view = h(
    "section",
    {},
    heading,
    h("div", { class: "cards" }, columns.map((cards) => h("div", { class: "stack" }, cards))),
    sessionsCard(subject, sessions),
  );
  return view;
}

/** @param {unknown} error */
const isNotFound = (error) => error instanceof AuthError && error.status === 404;

/** @param {string} id */
function missing(id) {
  const text = h("p", {}, `There is no user ${id}. `, h("a", { href: listAddress() }, "All users"));
  return h("div", { role: "alert", class: "error summary" }, text);
}

/** Return the address of the list of users, as it was shown last. */
const listAddress = () => `#/users${place.query && `?${place.query}`}`;

/**
 * @param {string} path
 * @param {import("./users.js").User} user
 * @param {() => void} showMissing
 * @returns {Subject}
 */
function newSubject(path, user, showMissing) {
  let current = user;
  /** @type {((user: import("./users.js").User) => void)[]} */
  const watchers = [];
  return {
    async send(method, suffix = "", body) {
      try {
        return await request(method, path + suffix, body);
      } catch (error) {
        if (!isNotFound(error)) throw error;
        // Perhaps a session of the user that has ended.
        const isMissing = await request("GET", path).then(() => false, isNotFound);
        if (!isMissing) throw error;
        showMissing();
        throw new DOMException("The user does not exist any more.", "AbortError");
      }
    },
    isSelf: () => current.id === auth.user?.id,
    get: () => current,
    set(changed) {
      current = changed;
      for (const call of watchers) call(current);
    },
    watch(call) {
      watchers.push(call);
      call(current);
    },
  };
}

/** @param {Subject} subject */
function head(subject) {
  const heading = h("h1", {});
  const marks = h("div", {});
  subject.watch((user) => {
    heading.replaceChildren(name(user.username));
    if (heading.isConnected) setTitle(heading.textContent);
    marks.replaceChildren(badges(user) ?? "");
  });
  return h("div", { class: "head" }, h("div", { class: "title" }, heading, marks), h("a", { href: listAddress() }, "All users"));
}

/** @param {Subject} subject */
function factsCard(subject) {
  const facts = h("dl", { class: "facts" });
  subject.watch((user) => {
    const rows = {
      "User ID": user.id,
      Created: time(user.created_at),
      "Last sign-in": time(user.last_sign_in_at),
      "Locked until": time(user.locked_until, "Not locked"),
      ...(user.password_expires_at && { "Password expires": time(user.password_expires_at) }),
    };
    facts.replaceChildren(...Object.entries(rows).flatMap(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]));
  });
  const { id } = subject.get();
  const audit = (/** @type {string} */ filter, /** @type {string} */ label) =>
    h("a", { href: `#/audit?${filter}=${id}` }, label);
  return h(
    "section",
    { class: "card stack" },
    h("h2", {}, subject.isSelf() ? "Your account" : "Account"),
    facts,
    h("p", {}, "Audit log: ", audit("user", "done to this user"), ", ", audit("actor", "done by this user")),
  );
}
