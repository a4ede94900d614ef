// Verifies tokens with each library. The argument is JSON, a list: an issuer, its audience, its algorithm, a
// leeway in seconds, and tokens. Prints a line of JSON for each: by library, the subject of each token, or "refused" with the reason.
import { argv } from "node:process";
import { createServer } from "node:http";
import express from "express";
import { auth } from "express-oauth2-jwt-bearer";
import { expressjwt } from "express-jwt";
import fastify from "fastify";
import fastifyJwt from "@fastify/jwt";
import buildGetJwks from "get-jwks";
import { createRemoteJWKSet, jwtVerify } from "jose";
import jwks from "jwks-rsa";
import Koa from "koa";
import koaJwt from "koa-jwt";
import passport from "passport";
import { ExtractJwt, Strategy } from "passport-jwt";

// Serves a Connect-style handler and returns how to ask it for the subject.
async function over(handler) {
  const server = createServer(handler).listen(0, "127.0.0.1");
  await new Promise((ready) => server.on("listening", ready));
  return async (token) => {
    const response = await fetch(`http://127.0.0.1:${server.address().port}/`, {
      headers: { Authorization: `Bearer ${token}`, Connection: "close" },
    });
    if (!response.ok) throw new Error(await response.text());
    return response.text();
  };
}

function expressWith(middleware, subject) {
  const app = express();
  app.use(middleware);
  app.get("/", (request, response) => response.send(subject(request)));
  app.use((error, request, response, next) => response.status(401).send(String(error)));
  return over(app);
}

const libraries = {
  jose({ keys, issuer, audience, algorithm, leeway }) {
    const set = createRemoteJWKSet(new URL(keys));
    return async (token) =>
      (await jwtVerify(token, set, {
        issuer, audience, algorithms: [algorithm], clockTolerance: leeway,
      })).payload.sub;
  },
  "express-jwt"({ keys, issuer, audience, algorithm, leeway }) {
    const secret = jwks.expressJwtSecret({ jwksUri: keys, cache: true });
    const check = expressjwt({
      secret, issuer, audience, algorithms: [algorithm], clockTolerance: leeway,
    });
    return expressWith(check, (request) => request.auth.sub);
  },
  "express-oauth2-jwt-bearer"({ issuer, audience, algorithm, leeway }) {
    const check = auth({
      issuerBaseURL: issuer, audience, tokenSigningAlg: algorithm, clockTolerance: leeway,
    });
    return expressWith(check, (request) => request.auth.payload.sub);
  },
  "passport-jwt"({ keys, issuer, audience, algorithm, leeway }) {
    const authenticator = new passport.Passport();
    authenticator.use(new Strategy({
      jwtFromRequest: ExtractJwt.fromAuthHeaderAsBearerToken(),
      secretOrKeyProvider: jwks.passportJwtSecret({ jwksUri: keys }),
      issuer, audience, algorithms: [algorithm], jsonWebTokenOptions: { clockTolerance: leeway },
    }, (claims, done) => done(null, claims)));
    const check = authenticator.authenticate("jwt", { session: false });
    return expressWith(check, (request) => request.user.sub);
  },
  "koa-jwt"({ keys, issuer, audience, algorithm, leeway }) {
    const app = new Koa();
    app.silent = true;
    const secret = jwks.koaJwtSecret({ jwksUri: keys });
    app.use(koaJwt({
      secret, issuer, audience, algorithms: [algorithm], clockTolerance: leeway,
    }));
    app.use((context) => { context.body = context.state.user.sub; });
    return over(app.callback());
  },
  "@fastify/jwt"({ issuer, audience, algorithm, leeway }) {
    const keys = buildGetJwks({ providerDiscovery: true });
    const app = fastify();
    app.register(fastifyJwt, {
      decode: { complete: true },
      secret: (request, { header: { kid, alg } }) => keys.getPublicKey({ kid, alg, domain: issuer }),
      verify: {
        allowedIss: issuer, allowedAud: audience, algorithms: [algorithm],
        clockTolerance: 1000 * leeway,
      },
    });
    app.get("/", async (request) => { await request.jwtVerify(); return request.user.sub; });
    return async (token) => {
      const headers = { authorization: `Bearer ${token}` };
      const response = await app.inject({ url: "/", headers });
      if (response.statusCode !== 200) throw new Error(response.body);
      return response.body;
    };
  },
};

async function verdicts(library, given) {
  const verify = await library({ ...given, keys: `${given.issuer}/.well-known/jwks.json` });
  const found = [];
  for (const token of given.tokens) {
    found.push(await verify(token).catch((error) => `refused: ${error}`));
  }
  return found;
}

for (const given of JSON.parse(argv[2])) {
  const found = {};
  for (const name in libraries) found[name] = await verdicts(libraries[name], given);
  console.log(JSON.stringify(found));
}
process.exit();  // without waiting for kept-alive connections
