// @ts-check
/** The panel: which view is shown, and who is signed in. */

import * as audit from "./audit.js";
import { askPassword, closeDialogs, stopAskingPassword } from "./dialogs.js";
import { byId, h, name, setTitle } from "./dom.js";
import { hasDraft, mayLeave } from "./drafts.js";
import { action } from "./forms.js";
import * as keys from "./keys.js";
import * as overview from "./overview.js";
import { prompts } from "./service.js";
import { auth, onChange } from "./session.js";
import { signInAgain, signInPage, stopAsking } from "./sign-in.js";
import { setNotice } from "./status.js";
import * as user from "./user.js";
import * as users from "./users.js";

/**
 * What a view is rendered with.
 *
 * @typedef {object} Context
 * @property {Record<string, string>} params Of the path: `id` in `#/users/5`.
 * @property {URLSearchParams} query Of the address: `admin` in `#/users?admin=true`.
 * @property {AbortSignal} signal Aborts when the view is left.
 * @property {(query: URLSearchParams) => void} navigate Writes the view's query into the address, without
 *   rendering the view again, unless the view was left.
 *
 * @typedef {{title: string, render: (context: Context) => Promise<Node>}} View
 */

/** @type {Record<string, View>} */
const VIEWS = { overview, users, audit, keys };
const FIRST = "overview";

/** Why a session has ended, by the client's reason or an error code. @type {Record<string, string>} */
const REASONS = {
  signed_out: "You are signed out.",
  elsewhere: "You have signed out in another tab.",
  expired: "Your session has expired.",
  ended: "Your session was ended.",
  stolen: "Your session was ended, because someone else has used it. Change your password.",
  admin_required: "You are no longer an admin.",
};

const main = byId("main");
let leaving = new AbortController();
/** Whether a view is shown, rather than the page to sign in. */
let isOpen = false;
/** Why nobody is signed in, and who was. */
let reason = "";
let username = "";
/** Whether the dialog to sign in again is open. */
let isAsking = false;
/** Whether the user has closed it; only a change opens it again. */
let isDeclined = false;
/** Whether the user is signed out for not being an admin any more. */
let isDemoted = false;

/** Return the view at the address. */
function match() {
  const [, path, search] = /^#?\/?([^?]*)\??(.*)$/s.exec(location.hash) ?? [];
  const [section, id] = path.split("/");
  const known = Object.hasOwn(VIEWS, section) ? section : FIRST;
  const isUser = known === "users" && /^\d+$/.test(id ?? "");
  /** @type {Record<string, string>} */
  const params = isUser ? { id } : {};
  return { section: known, view: isUser ? user : VIEWS[known], params, query: new URLSearchParams(search) };
}

async function route() {
  leaving.abort();
  leaving = new AbortController();
  closeDialogs("dialog:not(.stays)");
  const { signal } = leaving;
  const { section, view, params, query } = match();
  for (const link of byId("views").querySelectorAll("a")) {
    link.ariaCurrent = link.hash === `#/${section}` ? "page" : null;
  }
  isOpen = true;
  byId("bar").hidden = false;
  setTitle(view.title);
  main.ariaBusy = "true";
  main.replaceChildren(h("p", { class: "loading" }, "Loading …"));
  const navigate = (/** @type {URLSearchParams} */ changed) => {
    if (signal.aborted) return;
    const search = changed.toString();
    history.replaceState(null, "", `${location.hash.split("?")[0]}${search && `?${search}`}`);
  };
  const shown = await view.render({ params, query, signal, navigate }).catch((error) => problem(view, error));
  if (!signal.aborted) show(shown);
}

/** @param {Node} content */
function show(content) {
  main.ariaBusy = "false";
  main.replaceChildren(content);
  const heading = main.querySelector("h1");
  if (!heading) return;
  heading.tabIndex = -1;
  heading.focus();
  setTitle(heading.textContent);
}

/**
 * @param {View} view
 * @param {Error} error
 */
function problem(view, error) {
  return h(
    "section",
    {},
    h("h1", {}, view.title),
    h("div", { class: "card" }, h("p", { role: "alert" }, error.message), action("Try again", route).element),
  );
}

function showSignIn() {
  leaving.abort();
  closeDialogs();
  isOpen = false;
  byId("bar").hidden = true;
  show(signInPage(reason));
  main.querySelector("input")?.focus();
}

/** Ask to sign in again over the view, which keeps what was typed. */
async function askSession() {
  isAsking = true;
  const isBack = await signInAgain(reason, username);
  isAsking = false;
  isDeclined = !isBack;
  if (isDeclined) setNotice(askSession, { text: "You are signed out.", label: "Sign in", act: askSession });
  return isBack;
}

/** Sign out a user who is not an admin any more. */
async function leave() {
  isDemoted = Boolean(auth.user);
  await auth.signOut();
}

/**
 * Show the view at the new address, unless that would discard a draft.
 *
 * @param {HashChangeEvent} event
 */
function follow({ oldURL }) {
  if (!isOpen) return;
  if (mayLeave()) route();
  else history.pushState(null, "", oldURL);
}

/** @param {import("./session.js").Change} change */
function showChange({ user, reason: why }) {
  const admin = user?.admin ? user : null;
  byId("who").replaceChildren(...(admin ? [name(admin.username)] : []));
  if (admin) {
    username = admin.username;
    isDeclined = isDemoted = false;
    setNotice(askSession, null);
    stopAsking();
    if (why !== "updated") stopAskingPassword();
    if (!isOpen) route();
  } else if (user) {
    // Not while signing in, which tells it at the form.
    if (why === "updated") leave();
  } else if (!isAsking) {
    reason = REASONS[isDemoted ? "admin_required" : why] ?? "";
    const isKept = isDemoted || (why === "elsewhere" ? hasDraft() : why !== "signed_out");
    isDemoted = false;
    if (isOpen && isKept) askSession();
    else if (isOpen || !main.querySelector("form")) showSignIn();
  }
}

function start() {
  prompts.password = askPassword;
  prompts.session = async (isRead, code) => {
    if (code === "admin_required") await leave();
    return !(isRead && isDeclined) && askSession();
  };
  byId("sign-out").addEventListener("click", () => auth.signOut());
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.querySelector("h1")?.focus();
  });
  addEventListener("beforeunload", (event) => isOpen && hasDraft() && event.preventDefault());
  addEventListener("hashchange", follow);
  onChange(showChange);
}

start();
