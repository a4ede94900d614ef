// @ts-check
/** What a user may do: role, state, lockout, password, and the end of the account. */

import { cancelButton, confirm, openDialog, showSecret } from "./dialogs.js";
import { h, name, plainName } from "./dom.js";
import { discardDrafts } from "./drafts.js";
import { action, field, form } from "./forms.js";
import { auth, AuthError } from "./service.js";
import { say } from "./status.js";

/** @typedef {import("./user.js").Subject} Subject */

/** @param {Subject} subject */
export function accessCard(subject) {
  const change = async (/** @type {object} */ changes) => subject.set(await subject.send("PATCH", "", changes));
  const shown = () => name(subject.get().username);
  const changeSelf = async (/** @type {string} */ verb, /** @type {string} */ text, /** @type {object} */ changes) => {
    if (await confirm(`${verb} yourself?`, text, verb, () => change(changes))) await auth.signOut();
  };

  const role = action("", async () => {
    const admin = !subject.get().admin;
    if (!admin && subject.isSelf()) {
      const text = "You give up your own admin rights, and are signed out here. Another admin can give them back.";
      return changeSelf("Demote", text, { admin });
    }
    await change({ admin });
    say(shown(), admin ? " is an admin now." : " is not an admin any more.");
  });
  const state = action("", async () => {
    const disabled = !subject.get().disabled;
    if (disabled && subject.isSelf()) {
      return changeSelf("Disable", "You can't sign in any more until another admin enables you.", { disabled });
    }
    await change({ disabled });
    say(shown(), disabled ? " is disabled, and signed out everywhere." : " is enabled.");
  });
  const unlock = action("Unlock", async () => {
    await subject.send("DELETE", "/lockout");
    subject.set({ ...subject.get(), locked_until: null });
    say("Cleared the failed attempts of ", shown(), ".");
  });
  subject.watch(({ admin, disabled }) => {
    role.button.textContent = admin ? "Demote" : "Promote to admin";
    state.button.textContent = disabled ? "Enable" : "Disable";
  });
  return h(
    "section",
    { class: "card stack" },
    h("h2", {}, "Access"),
    h("p", { class: "hint" }, "A disabled user can’t sign in. Unlock forgets failed attempts to sign in."),
    h("div", { class: "buttons" }, role.element, state.element, unlock.element),
  );
}

/** @param {Subject} subject */
export function passwordCard(subject) {
  const password = field(
    "Temporary password (optional)",
    h("input", { name: "password", class: "code", autocomplete: "off", autocapitalize: "none", spellcheck: "false" }),
    "If you leave this empty, a password is generated and shown to you. The user’s sessions end.",
  );
  const element = form({
    label: "Password",
    fields: [password],
    buttons: h("button", {}, "Reset password"),
    async send() {
      const chosen = password.control.value;
      if (subject.isSelf() || !chosen) {
        const text = ["All sessions of ", name(subject.get().username), subject.isSelf() && ", this one too,", " end."];
        if (!(await confirm("Reset the password?", text, "Reset password"))) return;
      }
      const user = await subject.send("PUT", "/password", chosen ? { password: chosen } : {});
      element.reset();
      subject.set(user);
      if (user.temporary_password) await showSecret(name(user.username), user.temporary_password);
      if (subject.isSelf()) await auth.signOut();
      say("The password of ", name(user.username), " is temporary now.");
    },
  });
  return h("section", { class: "card" }, h("h2", {}, "Password"), element);
}

/** @param {Subject} subject */
export function deletionCard(subject) {
  const remove = action("Delete user …", () => askDeletion(subject), { class: "danger" });
  return h(
    "section",
    { class: "card stack" },
    h("h2", {}, "Delete"),
    h("p", { class: "hint" }, "Deletes the account with everything that belongs to it. Nobody can undo this."),
    h("div", { class: "buttons" }, remove.element),
  );
}

/** @param {Subject} subject */
async function askDeletion(subject) {
  const { username } = subject.get();
  const typed = field("Type the name to confirm", h("input", { name: "confirmation", autocomplete: "off", autocapitalize: "none", spellcheck: "false" }));
  const isDone = await openDialog(["Delete ", name(username), "?"], (/** @type {(done: boolean) => void} */ close) =>
    form({
      intro: h("p", {}, "The account is deleted with everything that belongs to it."),
      fields: [typed],
      buttons: [cancelButton(), h("button", { class: "primary danger" }, "Delete")],
      async send() {
        const folded = (/** @type {string} */ text) => text.normalize("NFKC").trim();
        // As it is shown, too, because invisible characters can't be typed.
        const names = [username, plainName(username)].map(folded);
        if (!names.includes(folded(typed.control.value))) {
          const message = "This is not the user’s name.";
          throw new AuthError("not_confirmed", message, { errors: { confirmation: [message] } });
        }
        await subject.send("DELETE");
        close(true);
      },
    }),
  );
  if (!isDone) return;
  if (subject.isSelf()) await auth.signOut();
  discardDrafts();
  location.replace("#/users");
  say(name(username), " was deleted.");
}
