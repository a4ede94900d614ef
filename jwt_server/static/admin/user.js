// @ts-check
/** The view of one user. */

import { h, name, setTitle, time } from "./dom.js";
import { auth, request } from "./service.js";
import { accessCard, deletionCard, passwordCard } from "./user-access.js";
import { claimsCard, nameCard } from "./user-details.js";
import { sessionsCard } from "./user-sessions.js";
import { badges } from "./users.js";

/**
 * The user that the view shows, which its parts change.
 *
 * @typedef {object} Subject
 * @property {string} path Of the user's routes.
 * @property {() => import("./users.js").User} get
 * @property {(user: import("./users.js").User) => void} set
 * @property {(call: (user: import("./users.js").User) => void) => void} watch Calls now, and after changes.
 */

export const title = "User";

/** @param {import("./app.js").Context} context */
export async function render({ params, signal }) {
  const path = `/admin/users/${params.id}`;
  const [user, sessions] = await Promise.all([
    request("GET", path, undefined, { signal }),
    request("GET", `${path}/sessions`, undefined, { signal }),
  ]);
  const subject = newSubject(path, user);
  const columns = [
    [factsCard(subject), nameCard(subject), claimsCard(subject)],
    [accessCard(subject), passwordCard(subject), deletionCard(subject)],
  ];
  return h(
    "section",
    {},
    head(subject),
    h("div", { class: "cards" }, columns.map((cards) => h("div", { class: "stack" }, cards))),
    sessionsCard(subject, sessions),
  );
}

/**
 * @param {string} path
 * @param {import("./users.js").User} user
 * @returns {Subject}
 */
function newSubject(path, user) {
  let current = user;
  /** @type {((user: import("./users.js").User) => void)[]} */
  const watchers = [];
  return {
    path,
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
  return h("div", { class: "head" }, h("div", { class: "title" }, heading, marks), h("a", { href: "#/users" }, "All users"));
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
  const isSelf = id === auth.user?.id;
  const audit = (/** @type {string} */ filter, /** @type {string} */ label) =>
    h("a", { href: `#/audit?${filter}=${id}` }, label);
  return h(
    "section",
    { class: "card stack" },
    h("h2", {}, isSelf ? "Your account" : "Account"),
    facts,
    h("p", {}, "Audit log: ", audit("user", "done to this user"), ", ", audit("actor", "done by this user")),
  );
}
