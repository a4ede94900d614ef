// @ts-check
/** The dialog that creates a user. */

import { claimsField } from "./claims.js";
import { cancelButton, closeDialogs, openDialog, showSecret } from "./dialogs.js";
import { h, name } from "./dom.js";
import { field, form } from "./forms.js";
import { AuthError, isTemporary, request } from "./service.js";
import { say } from "./status.js";

/**
 * Return a function that opens the dialog, and the hidden element of the view that keeps what was typed
 * after it was cancelled.
 *
 * @param {() => void} done
 */
export function createUser(done) {
  /** @type {(isDone: boolean) => void} */
  let close = () => {};
  const draft = newForm(async (user) => {
    close(true);
    draft.reset();
    if (user.temporary_password) await showSecret(name(user.username), user.temporary_password);
    say(h("a", { href: `#/users/${user.id}` }, name(user.username)), " was created.");
    done();
  });
  const home = h("div", { hidden: true }, draft);
  const open = async () => {
    await openDialog("Create user", (/** @type {(isDone: boolean) => void} */ closing) => {
      close = closing;
      return draft;
    });
    if (!draft.isConnected) home.append(draft); // it may be in the next dialog
  };
  return { home, open };
}

/** @param {(user: any) => Promise<void>} show Shows the user who was created. */
function newForm(show) {
  const username = field(
    "Username",
    h("input", { name: "username", autocomplete: "off", autocapitalize: "none", spellcheck: "false" }),
  );
  const password = field(
    "Temporary password (optional)",
    h("input", { name: "password", class: "code", autocomplete: "off", autocapitalize: "none", spellcheck: "false" }),
    "If you leave this empty, a password is generated and shown to you.",
  );
  const admin = h("input", { name: "admin", type: "checkbox" });
  const claims = claimsField("Custom claims (optional)", {});
  const found = h("div", { role: "alert" });
  let lost = "";
  const element = form({
    intro: found,
    fields: [username, password, field("Admin", admin), claims],
    buttons: [cancelButton(), h("button", { class: "primary" }, "Create")],
    async send() {
      const read = claims.read();
      if (!read) return;
      const chosen = password.control.value;
      const fields = { username: username.control.value, admin: admin.checked, claims: read };
      found.replaceChildren();
      try {
        void show(await request("POST", "/admin/users", chosen ? { ...fields, password: chosen } : fields));
      } catch (error) {
        if (!(error instanceof AuthError)) throw error;
        if (error.code === "username_taken" && lost === fields.username) found.replaceChildren(linkTo(lost, element));
        if (isTemporary(error)) lost = fields.username;
        throw error;
      }
    },
  });
  return element;
}

/**
 * Show where to look for a user who was created by a request whose response was lost.
 *
 * @param {string} username
 * @param {HTMLFormElement} draft Discarded by the link.
 */
function linkTo(username, draft) {
  const href = `#/users?${new URLSearchParams({ search: username })}`;
  const link = h("a", { href, onclick: () => (draft.reset(), closeDialogs()) }, "Look for ", name(username));
  return h("div", { class: "error summary" }, h("p", {}, "It may have been created by the first attempt. ", link));
}
