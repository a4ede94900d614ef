// Verifies tokens with each library. The argument is JSON: the issuer, the audience, the algorithm and the
// tokens. Prints JSON: for each library the subject of each token, or "refused" with the reason.
import { argv } from "node:process";
import { createServer } from "node:http";

const { issuer, audience, algorithm, tokens } = JSON.parse(argv[2]);
const jwksUri = `${issuer}/.well-known/jwks.json`;
const algorithms = [algorithm];

// Serves a Connect-style handler and returns how to ask it for the subject.
async function over(handler) {
  const server = createServer(handler).listen(0, "127.0.0.1");
  await new Promise((ready) => server.on("listening", ready));
  server.unref();
  return async (token) => {
    const response = await fetch(`http://127.0.0.1:${server.address().port}/`, {
      headers: { Authorization: `Bearer ${token}`, Connection: "close" },
    });
    if (!response.ok) throw new Error(await response.text());
    return response.text();
  };
}

async function expressWith(middleware, subject) {
  const { default: express } = await import("express");
  const app = express();
  app.use(middleware);
  app.get("/", (request, response) => response.send(subject(request)));
  app.use((error, request, response, next) => response.status(401).send(String(error)));
  return over(app);
}

const libraries = {
  async jose() {
    const { createRemoteJWKSet, jwtVerify } = await import("jose");
    const keys = createRemoteJWKSet(new URL(jwksUri));
    return async (token) =>
      (await jwtVerify(token, keys, { issuer, audience, algorithms })).payload.sub;
  },
  async "express-jwt"() {
    const { expressjwt } = await import("express-jwt");
    const { default: jwks } = await import("jwks-rsa");
    const secret = jwks.expressJwtSecret({ jwksUri, cache: true });
    return expressWith(expressjwt({ secret, issuer, audience, algorithms }), (r) => r.auth.sub);
  },
  async "express-oauth2-jwt-bearer"() {
    const { auth } = await import("express-oauth2-jwt-bearer");
    const check = auth({ issuerBaseURL: issuer, audience, tokenSigningAlg: algorithm });
    return expressWith(check, (r) => r.auth.payload.sub);
  },
  async "passport-jwt"() {
    const { default: passport } = await import("passport");
    const { Strategy, ExtractJwt } = await import("passport-jwt");
    const { default: jwks } = await import("jwks-rsa");
    const secretOrKeyProvider = jwks.passportJwtSecret({ jwksUri, cache: true });
    const jwtFromRequest = ExtractJwt.fromAuthHeaderAsBearerToken();
    const options = { jwtFromRequest, secretOrKeyProvider, issuer, audience, algorithms };
    passport.use(new Strategy(options, (claims, done) => done(null, claims)));
    return expressWith(passport.authenticate("jwt", { session: false }), (r) => r.user.sub);
  },
  async "koa-jwt"() {
    const { default: Koa } = await import("koa");
    const { default: koaJwt } = await import("koa-jwt");
    const { default: jwks } = await import("jwks-rsa");
    const secret = jwks.koaJwtSecret({ jwksUri, cache: true });
    const app = new Koa();
    app.silent = true;
    app.use(koaJwt({ secret, issuer, audience, algorithms }));
    app.use((context) => { context.body = context.state.user.sub; });
    return over(app.callback());
  },
  async "@fastify/jwt"() {
    const { default: fastify } = await import("fastify");
    const { default: fastifyJwt } = await import("@fastify/jwt");
    const { default: buildGetJwks } = await import("get-jwks");
    const keys = buildGetJwks({ providerDiscovery: true });
    const app = fastify();
    app.register(fastifyJwt, {
      decode: { complete: true },
      secret: (request, { header: { kid, alg } }) => keys.getPublicKey({ kid, alg, domain: issuer }),
      verify: { allowedIss: issuer, allowedAud: audience, algorithms },
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

async function verdicts(makeVerifier) {
  const verify = await makeVerifier();
  const found = [];
  for (const token of tokens) {
    found.push(await verify(token).catch((error) => `refused: ${error}`));
  }
  return found;
}

const found = {};
for (const [name, makeVerifier] of Object.entries(libraries)) {
  found[name] = await verdicts(makeVerifier);
}
console.log(JSON.stringify(found));
process.exit();  // without waiting for kept-alive connections
