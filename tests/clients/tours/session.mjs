// Signs in, refreshes and loses a response with each form of session.js of docs/clients.md.
import { lose, refreshes, refuse, sent } from "./page.mjs";
import assert from "node:assert/strict";

const items = {};
globalThis.sessionStorage = {
  getItem: (name) => items[name] ?? null,
  setItem: (name, value) => { items[name] = value; },
};

for (const form of ["./session.js", "./native/session.js"]) {
  sent.length = 0;
  const { call, signIn } = await import(form);
  await assert.rejects(signIn("travis", "wrong"), { code: "wrong_credentials" });
  await signIn("travis", "mypassword");
  assert.equal((await (await call("/pets")).json())[0].name, "Bunny");
  assert.equal(refreshes().length, 0);

  refuse();
  lose("/auth/refresh");
  await assert.rejects(call("/pets"), TypeError);
  refuse(2);
  const responses = await Promise.all([call("/pets"), call("/pets")]);
  assert.deepEqual(responses.map(({ status }) => status), [200, 200]);
  refuse();
  assert.equal((await call("/pets")).status, 200);
  const keys = refreshes().map(({ body }) => JSON.parse(body).retry_key);
  assert.equal(keys.length, 3);
  assert.equal(keys[0], keys[1]);
  assert.notEqual(keys[1], keys[2]);
  assert(keys.every((key) => /^[\w-]{22,64}$/.test(key)));
}
process.exit();
