// @ts-check
/** Signing in: as a page, and as a dialog when the session has ended. */

import { cancelButton, openDialog } from "./dialogs.js";
import { h } from "./dom.js";
import { field, form } from "./forms.js";
import { AuthError } from "./service.js";
import { auth, choosePassword, isKept, signIn } from "./session.js";

/**
 * Make a form to sign in, which asks for a new password if the user's is temporary.
 *
 * @param {() => void} done
 * @param {object} [options]
 * @param {boolean} [options.isDialog]
 * @param {string} [options.username] Who was signed in before.
 */
export function signInForm(done, { isDialog, username: before } = {}) {
  const username = field(
    "Username",
    h("input", { name: "username", value: before, autocomplete: "username", autocapitalize: "none", spellcheck: "false" }),
  );
  const password = field("Password", h("input", { name: "password", type: "password", autocomplete: "current-password", autofocus: Boolean(before) }));
  const keep = h("input", { name: "keep", type: "checkbox", checked: isKept() });
  const element = form({
    label: "Sign in",
    fields: [username, password, field("Keep me signed in until this tab is closed", keep)],
    buttons: [isDialog && cancelButton(), h("button", { class: "primary" }, "Sign in")],
    async send() {
      try {
        await signIn(username.control.value, password.control.value, keep.checked);
      } catch (error) {
        if (!(error instanceof AuthError && error.code === "password_change_required")) throw error;
        await askNewPassword(element, username.control.value, password.control.value, isDialog);
      }
      done();
    },
  });
  return element;
}

/**
 * Replace the form to sign in by one for a new password. For a user who is not an admin, the form to
 * sign in comes back, and the promise is rejected.
 *
 * @param {HTMLFormElement} signInElement
 * @param {string} username
 * @param {string} temporary
 * @param {boolean} [isDialog]
 * @returns {Promise<void>}
 */
function askNewPassword(signInElement, username, temporary, isDialog) {
  const chosen = field(
    "New password",
    h("input", { name: "new_password", type: "password", autocomplete: "new-password" }),
  );
  return new Promise((resolve, reject) => {
    const element = form({
      label: "Choose a new password",
      intro: [
        h("p", {}, "Your password is temporary. Choose a new one to go on."),
        h("input", { name: "username", autocomplete: "username", value: username, hidden: true }),
      ],
      fields: [chosen],
      buttons: [isDialog && cancelButton(), h("button", { class: "primary" }, "Save and go on")],
      async send() {
        try {
          resolve(await choosePassword(temporary, chosen.control.value));
        } catch (error) {
          if (!(error instanceof AuthError && error.code === "not_admin")) throw error;
          signInElement.reset();
          element.replaceWith(signInElement);
          reject(error);
        }
      },
    });
    signInElement.replaceWith(element);
    chosen.control.focus();
  });
}

/** @type {Promise<boolean> | null} */
let asking = null;
/** @type {(done: boolean) => void} */
let close = () => {};

/** Close the dialog, because an admin is signed in, perhaps in another tab. */
export const stopAsking = () => close(true);

/**
 * Ask in a dialog to sign in again; false if the user cancels.
 *
 * @param {string} reason
 * @param {string} username Who was signed in.
 */
export function signInAgain(reason, username) {
  asking ??= openSignIn(reason, username).finally(() => (asking = null));
  return asking;
}

/**
 * @param {string} reason
 * @param {string} username
 */
async function openSignIn(reason, username) {
  const fill = (/** @type {(done: boolean) => void} */ closing) => {
    close = closing;
    return [h("p", {}, reason), signInForm(stopAsking, { isDialog: true, username })];
  };
  const done = await openDialog("Sign in again", fill, { class: "stays" });
  if (!auth.user) void auth.signOut(); // the session of a temporary password, which was not replaced
  return done ?? false;
}

/**
 * Make the page that is shown while nobody is signed in.
 *
 * @param {string} reason
 */
export function signInPage(reason) {
  return h(
    "section",
    { class: "sign-in" },
    h("h1", {}, "Sign in"),
    reason ? h("p", { class: "quiet" }, reason) : null,
    h("div", { class: "card" }, signInForm(() => {})),
  );
}
