// @ts-check
/** Dialogs, which the browser makes modal: Escape closes them, and the focus returns to the opener. */

import { h } from "./dom.js";
import { field, form } from "./forms.js";
import { auth } from "./session.js";

/** @typedef {import("./dom.js").Child} Child */

let dialogs = 0;

/**
 * Open a dialog; resolves with what it was closed with, or null if the user cancels or leaves the view.
 *
 * @template T
 * @param {Child} title
 * @param {(close: (result: T) => void) => Child} fill Returns the content.
 * @param {import("./dom.js").Attributes} [attributes]
 * @returns {Promise<T | null>}
 */
export function openDialog(title, fill, attributes = {}) {
  const id = `dialog-${++dialogs}`;
  const dialog = h("dialog", { "aria-labelledby": id, ...attributes });
  /** @type {T | null} */
  let result = null;
  const close = (/** @type {T} */ value) => ((result = value), dialog.close());
  dialog.append(h("h2", { id }, title), h("div", {}, fill(close)));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => (dialog.remove(), resolve(result)), { once: true });
  });
}

/**
 * Close the dialogs of the view, as if the user had cancelled them.
 *
 * @param {string} [selector]
 */
export function closeDialogs(selector = "dialog") {
  /** @type {NodeListOf<HTMLDialogElement>} */
  const opened = document.querySelectorAll(selector);
  for (const dialog of opened) dialog.close();
}

/**
 * A button that closes its dialog.
 *
 * @param {string} [label]
 */
export function cancelButton(label = "Cancel") {
  const press = (/** @type {Event} */ { currentTarget }) =>
    currentTarget instanceof Element && currentTarget.closest("dialog")?.close();
  return h("button", { type: "button", onclick: press }, label);
}

/**
 * Ask whether to do something, and do it before the dialog closes; false if the user cancels.
 *
 * @param {Child} title
 * @param {Child} text
 * @param {string} label Of the button.
 * @param {() => Promise<unknown>} [act]
 */
export async function confirm(title, text, label, act) {
  const done = await openDialog(title, (/** @type {(done: boolean) => void} */ close) =>
    form({
      intro: h("p", {}, text),
      fields: [],
      buttons: [cancelButton(), h("button", { class: "primary danger" }, label)],
      async send() {
        await act?.();
        close(true);
      },
    }),
  );
  return done ?? false;
}

/**
 * Show a generated password, which nobody can see again.
 *
 * @param {Child} user
 * @param {string} password
 */
export async function showSecret(user, password) {
  const secret = h("p", { class: "code secret" }, password);
  const said = h("p", { role: "status", class: "hint" });
  const copy = async () => {
    getSelection()?.selectAllChildren(secret);
    let isCopied = true;
    try {
      await navigator.clipboard.writeText(password);
    } catch {
      isCopied = document.execCommand("copy"); // without TLS there is no clipboard
    }
    said.textContent = isCopied ? "Copied." : "Select and copy it yourself.";
  };
  const fill = (/** @type {(done: boolean) => void} */ close) => [
    h("p", {}, "This password is shown only once. It is valid for 7 days, until the user signs in and chooses another one."),
    secret,
    said,
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", onclick: copy }, "Copy"),
      h("button", { type: "button", class: "primary", onclick: () => close(true) }, "Done"),
    ),
  ];
  // Not closed by Escape; older browsers don't know `closedby`.
  await openDialog(["Temporary password of ", user], fill, { closedby: "none", oncancel: (event) => event.preventDefault() });
}

/** @type {Promise<boolean> | null} */
let asking = null;
/** @type {(done: boolean) => void} */
let closePassword = () => {};

/** Close the dialog that asks for the password, because somebody has just signed in with theirs. */
export const stopAskingPassword = () => closePassword(true);

/** Ask for the password, once for all requests that wait for it; false if the user cancels. */
export function askPassword() {
  asking ??= openPasswordDialog().finally(() => (asking = null));
  return asking;
}

async function openPasswordDialog() {
  const password = field(
    "Password",
    h("input", { type: "password", name: "password", autocomplete: "current-password" }),
  );
  const username = h("input", { name: "username", autocomplete: "username", value: auth.user?.username, hidden: true });
  const done = await openDialog("Confirm that it’s you", (/** @type {(done: boolean) => void} */ close) => {
    closePassword = close;
    return form({
      intro: [h("p", {}, "Your password is needed again for this change."), username],
      fields: [password],
      buttons: [cancelButton(), h("button", { class: "primary" }, "Confirm")],
      async send() {
        await auth.reauth(password.control.value);
        close(true);
      },
    });
  });
  return done ?? false;
}
