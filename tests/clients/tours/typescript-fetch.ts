// A tour with the client that openapi-generator's typescript-fetch generates; the argument is the URL.
import assert from "node:assert/strict";
import { AuthApi, Configuration, OauthApi, PetsApi, ResponseError } from "./generated/index.js";

const basePath = process.argv[2];
const stranger = new Configuration({ basePath });
const tokens = await new OauthApi(stranger).issueTokens({
  grantType: "password", username: "travis", password: "mypassword",
});
const fresh = await new AuthApi(stranger).refresh({ refresh: { refreshToken: tokens.refreshToken } });
const signedIn = new Configuration({ basePath, accessToken: fresh.accessToken });
const pets = new PetsApi(signedIn);

const pet = await pets.addPet({ petFields: { name: "Tom", species: "cat" } });
assert.equal((await pets.showPet({ petId: pet.id })).name, "Tom");
const page = await pets.listPetsRaw({ limit: 1 });
assert.equal((await page.value()).length, 1);
assert.match(page.raw.headers.get("Link") ?? "", /rel="next"/);
await assert.rejects(pets.showPet({ petId: 1_000_000_000 }), (error: unknown) =>
  error instanceof ResponseError && error.response.status === 404);
await new AuthApi(signedIn).logout({ logout: {} });
await assert.rejects(pets.listPets({}), (error: unknown) =>
  error instanceof ResponseError && error.response.status === 401);
