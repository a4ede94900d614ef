// @ts-check
/** The session of the admin who is signed in. */

import { AuthClient, AuthError } from "../client.js";

/**
 * @typedef {import("../client.js").Change} Change
 * @typedef {"memory" | "session"} StorageKind
 */

const BASE = new URL("..", import.meta.url).href;
/** Not that of a front end on the same origin, whose users sign in and out on their own. */
const NAME = "admin panel";
const STORAGE_KEY = "jwt-server admin panel storage";

export let auth = openClient(storedKind());

/** The user who is signed in, or was last. @type {number | undefined} */
export let lastUserId;

/** @type {(change: Change) => void} */
let listener = () => {};

/** @param {StorageKind} storage */
function openClient(storage) {
  return new AuthClient(BASE, { storage, name: NAME });
}

/** @returns {StorageKind} */
function storedKind() {
  try {
    return sessionStorage.getItem(STORAGE_KEY) ? "session" : "memory";
  } catch {
    return "memory"; // closed to this page
  }
}

/** Whether the session outlives a reload of this tab. */
export function isKept() {
  return storedKind() === "session";
}

/**
 * Call a function when somebody signs in or out, and now.
 *
 * @param {(change: Change) => void} call
 */
export function onChange(call) {
  listener = (change) => {
    lastUserId = change.user?.id ?? lastUserId;
    call(change);
  };
  auth.onChange(listener);
}

/**
 * Sign in an admin. Rejects with an AuthError.
 *
 * @param {string} username
 * @param {string} password
 * @param {boolean} isToKeep Whether the session is to outlive a reload of this tab.
 */
export async function signIn(username, password, isToKeep) {
  keepSession(isToKeep);
  await auth.signIn(username, password);
  await requireAdmin();
}

/**
 * Replace a temporary password, with which the user has just signed in.
 *
 * @param {string} temporary
 * @param {string} chosen
 */
export async function choosePassword(temporary, chosen) {
  await auth.changePassword(temporary, chosen);
  await requireAdmin();
}

async function requireAdmin() {
  if (auth.user?.admin) return;
  const username = auth.user?.username;
  await auth.signOut();
  throw new AuthError("not_admin", `${username} is not an admin. Sign in as one.`);
}

/** @param {boolean} isToKeep */
function keepSession(isToKeep) {
  if (isToKeep === isKept()) return;
  try {
    if (isToKeep) sessionStorage.setItem(STORAGE_KEY, "yes");
    else sessionStorage.removeItem(STORAGE_KEY);
  } catch {
    return; // closed to this page
  }
  auth.close();
  auth = openClient(storedKind());
  auth.onChange(listener);
}
