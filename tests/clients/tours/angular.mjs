// Signs in with Angular's HttpClient and refreshes; the argument is the URL. Outside of an application it
// needs the compiler, which links Angular's own classes, and an injector.
import "@angular/compiler";
import assert from "node:assert/strict";
import {
  createEnvironmentInjector, Injector, provideZonelessChangeDetection, ɵINJECTOR_SCOPE as SCOPE,
} from "@angular/core";
import { HttpClient, provideHttpClient, withFetch, withInterceptors } from "@angular/common/http";
import { firstValueFrom } from "rxjs";

const url = process.argv[2];
let tokens = null;
const authorize = (request, next) => next(tokens === null ? request : request.clone({
  setHeaders: { Authorization: `Bearer ${tokens.access_token}` },
}));
const injector = createEnvironmentInjector([
  { provide: SCOPE, useValue: "root" },
  provideZonelessChangeDetection(),
  provideHttpClient(withFetch(), withInterceptors([authorize])),
], Injector.NULL);
const http = injector.get(HttpClient);

const user = { username: "travis", password: "mypassword" };
const text = await firstValueFrom(http.post(`${url}/auth`, user, { responseType: "text" }));
assert.equal(text.split(".").length, 3);
tokens = await firstValueFrom(http.post(`${url}/auth`, user, { headers: { Accept: "application/json" } }));
const { refresh_token } = tokens;
assert.equal((await firstValueFrom(http.get(`${url}/pets`)))[0].name, "Bunny");
tokens = await firstValueFrom(http.post(`${url}/auth/refresh`, { refresh_token }));
assert.notEqual(tokens.refresh_token, refresh_token);
assert.equal((await firstValueFrom(http.get(`${url}/pets`)))[0].name, "Bunny");
tokens = { access_token: "expired" };
await assert.rejects(firstValueFrom(http.get(`${url}/pets`)), (error) => error.status === 401);
