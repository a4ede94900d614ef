// Uses axios with the interceptors of docs/clients.md, and without; the argument is the URL.
import { refreshes, refuse, sent } from "./page.mjs";
import assert from "node:assert/strict";
import axios from "axios";
import { api } from "./api.js";
import { auth } from "./auth.js";

const url = process.argv[2];
api.defaults.adapter = "fetch"; // which page.mjs sees

await assert.rejects(api.get("/pets"), { code: "signed_out" });
await auth.signIn("travis", "mypassword");
assert.equal((await api.get("/pets")).data[0].name, "Bunny");
refuse();
assert.equal((await api.post("/pets", { name: "Rex", species: "dog" })).data.name, "Rex");
assert.equal(refreshes().length, 1);
const before = sent.length;
await assert.rejects(api.post("/auth/reauth", { password: 1 }), { status: 422 });
await assert.rejects(api.get("http://localhost:9/"), { status: 404 });
assert(sent.slice(before).every((request) => request.url.startsWith(`${url}/`)));
await auth.signOut();

const form = { grant_type: "password", username: "travis", password: "mypassword" };
const tokens = (await axios.post(`${url}/auth/token`, new URLSearchParams(form))).data;
assert.match(tokens.refresh_token, /^r1\./);
process.exit();
