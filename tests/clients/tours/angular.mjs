// Uses Angular's HttpClient with the interceptor of docs/clients.md, and without; the argument is the URL.
// Outside of an application it needs the compiler, which links Angular's own classes, and an injector.
import { refreshes, refuse, sent } from "./page.mjs";
import "@angular/compiler";
import assert from "node:assert/strict";
import {
  createEnvironmentInjector, Injector, provideZonelessChangeDetection, ɵINJECTOR_SCOPE as SCOPE,
} from "@angular/core";
import { HttpClient, provideHttpClient, withFetch, withInterceptors } from "@angular/common/http";
import { firstValueFrom } from "rxjs";
import { authInterceptor, user } from "./built/auth.interceptor.js";
import { auth } from "./built/auth.js";

const url = process.argv[2];
const client = (...features) => createEnvironmentInjector([
  { provide: SCOPE, useValue: "root" },
  provideZonelessChangeDetection(),
  provideHttpClient(withFetch(), ...features),
], Injector.NULL).get(HttpClient);

const stranger = client();
const credentials = { username: "travis", password: "mypassword" };
const text = await firstValueFrom(stranger.post(`${url}/auth`, credentials, { responseType: "text" }));
assert.equal(text.split(".").length, 3);
const headers = { Accept: "application/json" };
const tokens = await firstValueFrom(stranger.post(`${url}/auth`, credentials, { headers }));
assert.match(tokens.refresh_token, /^r1\./);

const http = client(withInterceptors([authInterceptor]));
const pets = () => firstValueFrom(http.get(`${url}/pets`));
await assert.rejects(pets(), { code: "signed_out" });
await auth.ready;
await auth.signIn("travis", "mypassword");
await Promise.resolve();
assert.equal(user().username, "travis");
assert.equal((await pets())[0].name, "Bunny");
refuse();
assert.equal((await pets())[0].name, "Bunny");
assert.equal(refreshes().length, 1);
await assert.rejects(firstValueFrom(http.get(`${url}/pets/0`)), { status: 404 });
assert.equal(refreshes().length, 1);
const other = url.replace("127.0.0.1", "localhost");
await firstValueFrom(http.get(`${other}/openapi.json`));
assert.equal(sent.at(-1).authorization, null);
process.exit();
