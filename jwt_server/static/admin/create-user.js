// @ts-check
/** The dialog that creates a user. */

import { claimsField } from "./claims.js";
import { cancelButton, openDialog, showSecret } from "./dialogs.js";
import { h, name } from "./dom.js";
import { field, form } from "./forms.js";
import { request } from "./service.js";
import { say } from "./status.js";

/**
 * Return a function that opens the dialog. What was typed is still there if it is opened again after
 * it was cancelled.
 *
 * @param {() => void} done
 */
export function createUser(done) {
  /** @type {(user: any) => void} */
  let close = () => {};
  const draft = newForm((user) => close(user));
  return async () => {
    const user = await openDialog("Create user", (/** @type {(user: any) => void} */ closing) => {
      close = closing;
      return draft;
    });
    if (!user) return;
    draft.reset();
    if (user.temporary_password) await showSecret(name(user.username), user.temporary_password);
    say(h("a", { href: `#/users/${user.id}` }, name(user.username)), " was created.");
    done();
  };
}

/** @param {(user: any) => void} close */
function newForm(close) {
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
  return form({
    fields: [username, password, field("Admin", admin), claims],
    buttons: [cancelButton(), h("button", { class: "primary" }, "Create")],
    async send() {
      const read = claims.read();
      if (!read) return;
      const chosen = password.control.value;
      const fields = { username: username.control.value, admin: admin.checked, claims: read };
      close(await request("POST", "/admin/users", chosen ? { ...fields, password: chosen } : fields));
    },
  });
}
