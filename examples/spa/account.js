/** The account: who is signed in, and a new password. */

import { onSubmit, say, showTime } from "./forms.js";

const $ = (id) => document.getElementById(id);

export function startAccount(auth) {
  onSubmit($("change-password"), async ({ current_password, new_password }) => {
    await auth.changePassword(current_password, new_password);
    say("Your password was changed.");
  });

  return {
    load() {
      $("account-name").textContent = auth.user.username;
      showTime($("account-since"), auth.user.created_at);
    },
  };
}
