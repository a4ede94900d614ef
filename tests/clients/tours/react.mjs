// Shows the component of docs/clients.md twice under StrictMode, while a user signs in and out.
import { newElement, textsOf, window } from "./document.mjs";
import assert from "node:assert/strict";
import { StrictMode, createElement } from "react";
import { flushSync } from "react-dom";
import { createRoot } from "react-dom/client";
import { auth } from "./built/auth.js";
import { Account } from "./built/useAuth.js";

const complaints = [];
console.error = (...complaint) => complaints.push(complaint);

const elements = [newElement(), newElement()];
const roots = elements.map((element) => createRoot(element));
for (const root of roots) {
  flushSync(() => root.render(createElement(StrictMode, null, createElement(Account))));
}
assert.equal(document.body.textContent, ""); // the session is not read yet
await auth.ready;
assert.deepEqual(await textsOf(elements), ["Please sign in", "Please sign in"]);
await auth.signIn("travis", "mypassword");
assert.deepEqual(await textsOf(elements), ["Sign out travis", "Sign out travis"]);
roots[1].unmount();
document.querySelector("button").dispatchEvent(new window.Event("click", { bubbles: true }));
assert.deepEqual(await textsOf(elements), ["Please sign in", ""]);
assert.deepEqual(complaints, []);
process.exit();
