/** Dialogs: closed by their Cancel buttons, and the one that asks for the password. */

import { onSubmit, showErrors } from "./forms.js";

const dialog = document.getElementById("password-dialog");
const form = document.getElementById("step-up");

let entered = null;
let refusal = "";

export function startDialogs() {
  for (const button of document.querySelectorAll("[data-close]")) {
    button.addEventListener("click", () => button.closest("dialog").close());
  }
  onSubmit(form, async ({ password }) => {
    entered = password;
    dialog.close();
  });
}

export function closeDialogs() {
  for (const each of document.querySelectorAll("dialog[open]")) each.close();
}

/** Ask for the password; resolves with null if the user cancels. The client calls this. */
export function askPassword() {
  entered = null;
  form.reset();
  dialog.showModal();
  if (refusal) showErrors(form, { password: [refusal] });
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(entered), { once: true });
  });
}

/** Run what may need the password, and ask for it again while it is wrong. */
export async function withPassword(action) {
  refusal = "";
  for (;;) {
    try {
      return await action();
    } catch (error) {
      if (error.code !== "wrong_password") throw error;
      refusal = error.message;
    }
  }
}
