// Uses the composable of docs/clients.md in a component, while a user signs in and out.
import { newElement, textsOf } from "./document.mjs";
import assert from "node:assert/strict";
import { createApp } from "vue";
import { auth } from "./auth.js";
import { useAuth } from "./useAuth.js";

const template = '<p v-if="ready">{{ user ? user.username : "Please sign in" }}</p>';
const element = newElement();
createApp({ setup: useAuth, template }).mount(element);
assert.equal(element.textContent, ""); // the session is not read yet
await auth.ready;
assert.deepEqual(await textsOf([element]), ["Please sign in"]);
await auth.signIn("travis", "mypassword");
assert.deepEqual(await textsOf([element]), ["travis"]);
await auth.signOut();
assert.deepEqual(await textsOf([element]), ["Please sign in"]);
process.exit();
