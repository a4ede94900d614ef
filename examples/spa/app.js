/** The page: which view is shown, and who is signed in. */

import { startAccount } from "./account.js";
import { API } from "./config.js";
import { askPassword, closeDialogs, startDialogs } from "./dialogs.js";
import { messageOf, onPress, onSubmit, say } from "./forms.js";
import { startPets } from "./pets.js";
import { startSessions } from "./sessions.js";

const SIGNED_OUT = ["sign-in", "sign-up"];
const CHOOSE_PASSWORD = "choose-password";
const SIGNED_IN = ["pets", "sessions", "account"];

/** What is said when the user is signed out, by the client's reason. */
const REASONS = {
  signed_out: "You are signed out.",
  elsewhere: "You have signed out in another tab.",
  expired: "Your session has expired.",
  ended: "Your session was ended.",
  stolen: "Your session was ended, because someone else has used it. Change your password.",
};

const $ = (id) => document.getElementById(id);
const all = (selector) => document.querySelectorAll(selector);
const problem = $("problem");

function start(AuthClient) {
  // "session" keeps the user signed in when the tab is reloaded; docs/clients.md weighs the options.
  const auth = new AuthClient(API, { storage: "session", onStepUp: askPassword });
  const views = { pets: startPets(auth), sessions: startSessions(auth), account: startAccount(auth) };
  let user = null;
  let shown = "";
  /** The password of a user who has to choose another one first. */
  let temporary = "";

  async function route() {
    const names = user ? SIGNED_IN : temporary ? [...SIGNED_OUT, CHOOSE_PASSWORD] : SIGNED_OUT;
    const asked = location.hash.slice(1);
    const name = names.includes(asked) ? asked : names[0];
    for (const section of all("[data-view]")) section.hidden = section.dataset.view !== name;
    for (const link of all("nav a")) link.ariaCurrent = link.hash === `#${name}` ? "page" : null;
    const heading = document.querySelector(`[data-view="${name}"] h1`);
    document.title = `${heading.textContent} – Pets`;
    // Not at the start: the page is read from its top.
    if (shown) heading.focus();
    shown = name;
    await load();
  }

  async function load() {
    const name = shown;
    problem.hidden = true;
    try {
      await views[name]?.load();
    } catch (error) {
      if (name === shown) report(messageOf(error));
    }
  }

  onSubmit($("sign-in"), async ({ username, password }) => {
    try {
      await auth.signIn(username, password);
    } catch (error) {
      if (error.code !== "password_change_required") throw error;
      temporary = password;
      location.hash = CHOOSE_PASSWORD;
    }
  });
  onSubmit($(CHOOSE_PASSWORD), ({ new_password }) => auth.changePassword(temporary, new_password));
  onSubmit($("sign-up"), ({ username, password }) => auth.signUp(username, password));
  onPress($("sign-out"), () => auth.signOut());
  onPress(problem.querySelector("button"), load);
  addEventListener("hashchange", () => (say(""), route()));

  auth.onChange((change) => {
    const isSameUser = user?.id === change.user?.id;
    user = change.user;
    temporary = "";
    for (const part of all("[data-signed-in]")) part.hidden = !user;
    for (const input of all("input[name=username][hidden]")) input.defaultValue = user?.username ?? "";
    $("username").textContent = user?.username ?? "";
    if (isSameUser && shown) return;
    closeDialogs();
    for (const form of document.forms) form.reset();
    for (const view of Object.values(views)) view.clear?.();
    if (shown) say(user ? "" : REASONS[change.reason]);
    route();
  });
}

function report(message) {
  problem.querySelector(".error").textContent = message;
  problem.hidden = false;
}

startDialogs();
const client = await import(`${API}/client.js`).catch(() => null);
if (client) {
  start(client.AuthClient);
} else {
  report(`The service at ${API} can’t be reached.`);
  onPress(problem.querySelector("button"), () => location.reload());
}
