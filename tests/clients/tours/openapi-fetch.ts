// A tour with openapi-fetch and the types of openapi-typescript; the argument is the URL.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const client = createClient<paths>({ baseUrl: process.argv[2] });
const signedIn = await client.POST("/auth/token", {
  body: { grant_type: "password", username: "travis", password: "mypassword" },
  bodySerializer: (body) => new URLSearchParams(body as Record<string, string>),
  headers: { "Content-Type": "application/x-www-form-urlencoded" },
});
assert(signedIn.data);
const refreshed = await client.POST("/auth/refresh", {
  body: { refresh_token: signedIn.data.refresh_token },
});
assert(refreshed.data);
const token: string = refreshed.data.access_token;
client.use({
  onRequest({ request }) {
    request.headers.set("Authorization", `Bearer ${token}`);
    return request;
  },
});

const pet = await client.POST("/pets", { body: { name: "Tom", species: null } });
assert.equal(pet.data?.name, "Tom");
const page = await client.GET("/pets", { params: { query: { limit: 1 } } });
assert.equal(page.data?.length, 1);
assert.match(page.response.headers.get("Link") ?? "", /rel="next"/);
const unknown = await client.GET("/pets/{pet_id}", {
  params: { path: { pet_id: 1_000_000_000 } },
  headers: { Accept: "application/problem+json" },
});
assert.equal(unknown.response.status, 404);
assert.equal((unknown.error as { code: string }).code, "not_found");
const signedOut = await client.POST("/auth/logout", { body: {} });
assert.equal(signedOut.response.status, 204);
assert.equal((await client.GET("/pets")).response.status, 401);
