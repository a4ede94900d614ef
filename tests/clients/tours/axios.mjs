// Signs in with axios and refreshes on 401 with the interceptor of docs/clients.md, which the test puts
// in; the argument is the URL.
import assert from "node:assert/strict";
import axios from "axios";

const url = process.argv[2];
const api = axios.create({ baseURL: url });
let tokens = null;
let refreshing = null;
// INTERCEPTOR

const grant = { grant_type: "password", username: "travis", password: "mypassword" };
tokens = (await axios.post(`${url}/auth/token`, new URLSearchParams(grant))).data;
const first = tokens.refresh_token;
assert.equal((await api.get("/pets")).data[0].name, "Bunny");
tokens.access_token = "expired";
assert.equal((await api.get("/pets")).data[0].name, "Bunny");
assert.notEqual(tokens.refresh_token, first);
tokens.access_token = "expired";
assert.equal((await api.post("/pets", { name: "Rex", species: "dog" })).data.name, "Rex");
tokens.access_token = "expired";
await assert.rejects(api.get("/my-pets"), (error) => error.response.status === 403);
