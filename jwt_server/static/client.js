// @ts-check
/**
 * The browser client of jwt-server: signs in, keeps the session, and sends the token.
 *
 * A refresh that races or loses its response signs nobody out: the server returns the same successor
 * for the same `retry_key`. The lock and the channel between tabs only save requests.
 */

/**
 * @typedef {{id: number, username: string, admin: boolean, created_at: string}} User
 * @typedef {"start" | "signed_in" | "signed_out" | "elsewhere" | "expired" | "ended" | "stolen" | "updated"} Reason
 * @typedef {{user: User | null, reason: Reason}} Change
 * @typedef {{id: string, created_at: string, last_used_at: string, address: string, user_agent: string, current: boolean}} Session
 * @typedef {object} Options
 * @property {"memory" | "session" | "local"} [storage] "memory" (the default) forgets the session with
 *   the last tab, "session" keeps it for a reload of this tab, "local" for all tabs until it expires.
 *   What is stored can be read by every script of the page's origin.
 * @property {string[]} [origins] Other origins that `fetch` may send the token to.
 * @property {() => Promise<string | null>} [onStepUp] Asks for the password, which a change of the
 *   account needs once in 15 minutes.
 * @property {string} [name] Tells several clients of one page apart.
 */

/**
 * The tokens of a session. Times are in milliseconds of this device's clock.
 *
 * @typedef {object} Pair
 * @property {string} access
 * @property {string} refresh
 * @property {number} got
 * @property {number} until
 * @property {string} sid
 * @property {number} rev Counts the refreshes.
 * @property {string} retry Empty until a refresh is about to be sent.
 * @property {User | null} user
 *
 * @typedef {{access_token: string, expires_in: number, refresh_token: string}} Tokens
 * @typedef {{ask?: true, pair?: Pair, was?: string, out?: string, reason?: Reason}} Message
 * @typedef {{token?: string, retries?: boolean, keepalive?: boolean}} RequestOptions
 */

/** @type {Record<string, Reason>} */
const ENDS = {
  refresh_token_invalid: "ended",
  refresh_token_reused: "stolen",
  session_expired: "expired",
  session_ended: "ended",
};

const REQUEST_MS = 9000;
const RETRY_MS = [300, 900, 2700];
const LOCK_MS = 4000;
const ANSWER_MS = 150;
const STEP_UP = "insufficient_user_authentication";

/** An error with the service's code, or `offline`, `timeout`, `signed_out`, `bad_response`, `origin`. */
export class AuthError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{status?: number, errors?: Record<string, string[]>, retryAfter?: number, requestId?: string, cause?: unknown}} [more]
   */
  constructor(code, message, { cause, ...more } = {}) {
    super(message, { cause });
    this.name = "AuthError";
    this.code = code;
    /** The HTTP status; 0 without a response. */
    this.status = more.status ?? 0;
    /** Messages by field. */
    this.errors = more.errors ?? {};
    /** Seconds to wait; 0 if the server names none. */
    this.retryAfter = more.retryAfter ?? 0;
    this.requestId = more.requestId ?? "";
  }
}

/** The session of one user at one service, shared by all tabs of an origin. */
export class AuthClient {
  #base;
  /** Of the lock, the channel, and what is stored. */
  #name;
  #origins;
  #onStepUp;
  /** @type {Storage | null} */
  #store;
  /** Whether all tabs read the same store. */
  #isShared;
  /** @type {Pair | null} */
  #pair = null;
  /** Sessions that have ended in this tab, which a late message must not bring back. */
  #ended = new Set();
  /** Counts sign-ins and sign-outs: what was begun before one is not kept after it. */
  #epoch = 0;
  /** @type {Promise<string> | null} */
  #refreshing = null;
  /** @type {{refresh: string, until: number, error: AuthError} | null} */
  #cooling = null;
  #failures = 0;
  /** @type {Set<(change: Change) => void>} */
  #listeners = new Set();
  /** What the listeners have seen; null before the start. @type {string | null} */
  #shown = null;
  /** @type {BroadcastChannel | null} */
  #channel = null;
  #closing = new AbortController();

  /**
   * @param {string} baseUrl The service's address, such as `https://login.example.com`.
   * @param {Options} [options]
   */
  constructor(baseUrl, { storage = "memory", origins = [], onStepUp, name = "default" } = {}) {
    this.#base = new URL(baseUrl, location.href).href.replace(/\/+$/, "");
    this.#name = `jwt-server ${name} ${this.#base}`;
    this.#origins = new Set([new URL(this.#base).origin, ...origins]);
    this.#onStepUp = onStepUp;
    this.#store = openStore(storage);
    this.#isShared = storage === "local" && this.#store !== null;
    this.#connect();
    const { signal } = this.#closing;
    const look = () => this.#notify("elsewhere");
    for (const event of ["visibilitychange", "resume"]) document.addEventListener(event, look, { signal });
    addEventListener("online", () => ((this.#cooling = null), look()), { signal });
    // The browser keeps no page with an open channel for its back button.
    addEventListener("pagehide", () => this.#disconnect(), { signal });
    addEventListener("pageshow", (event) => event.persisted && (this.#connect(), this.#ask().then(look)), { signal });
    /** Resolves when the session that is stored, or that another tab has, is read. */
    this.ready = this.#start();
  }

  /** The signed-in user, as `GET /me` returns it; null if nobody is signed in. */
  get user() {
    return this.#read()?.user ?? null;
  }

  /**
   * Sign in. This and the methods below reject with an AuthError.
   *
   * @param {string} username
   * @param {string} password
   */
  async signIn(username, password) {
    const epoch = this.#epoch;
    const tokens = await this.#json("POST", "/auth", { username, password });
    await this.#open(tokens, epoch, "signed_in");
  }

  /**
   * Create an account, and sign in.
   *
   * @param {string} username
   * @param {string} password
   */
  async signUp(username, password) {
    await this.#json("POST", "/users", { username, password });
    await this.signIn(username, password);
  }

  /**
   * Sign out at once, in all tabs; without a network the server is told later.
   *
   * @param {"local" | "others" | "global"} [scope] This session, all others of the user, or all.
   */
  async signOut(scope = "local") {
    if (scope === "others") {
      await this.#call("POST", "/auth/logout?scope=others");
      return;
    }
    const pair = this.#read();
    this.#epoch++;
    if (!pair) return;
    this.#forget(pair.sid, "elsewhere");
    this.#notify("signed_out");
    await this.#end(pair, scope);
  }

  /**
   * Return a valid access token, refreshed if need be.
   *
   * @param {string} [rejected] One that a server has refused.
   * @returns {Promise<string>}
   */
  async token(rejected = "") {
    const pair = this.#read();
    if (!pair) throw signedOut();
    if (isFresh(pair, rejected)) return pair.access;
    this.#refreshing ??= this.#refresh(pair, rejected).finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  /**
   * Fetch with the token, as `window.fetch`; a relative URL is the service's.
   *
   * @param {RequestInfo | URL} input
   * @param {RequestInit} [init]
   * @returns {Promise<Response>}
   */
  async fetch(input, init) {
    const request = new Request(input instanceof Request ? input : new URL(input, `${this.#base}/`), init);
    const { origin } = new URL(request.url);
    if (!this.#origins.has(origin)) {
      throw new AuthError("origin", `Add ${origin} to the option "origins", or use window.fetch.`);
    }
    const used = await this.token();
    let response = await send(request.clone(), used);
    const refused = challenge(response, "invalid_token");
    if (refused || (response.status === 401 && !challenge(response, STEP_UP))) {
      response = await send(request.clone(), await this.token(used));
    }
    if (!challenge(response, STEP_UP)) return response;
    const password = await this.#onStepUp?.();
    if (password == null) return response;
    await this.reauth(password);
    return send(request, await this.token());
  }

  /**
   * Give the password again, which a change of the account needs.
   *
   * @param {string} password
   */
  async reauth(password) {
    await this.#call("POST", "/auth/reauth", { password });
  }

  /** @returns {Promise<Session[]>} The user's active sessions, oldest first. */
  async sessions() {
    return this.#call("GET", "/auth/sessions");
  }

  /**
   * End one of the user's sessions.
   *
   * @param {string} id
   */
  async endSession(id) {
    await this.#call("DELETE", `/auth/sessions/${encodeURIComponent(id)}`);
  }

  /**
   * Change the password, which ends all other sessions.
   *
   * @param {string} current
   * @param {string} changed
   */
  async changePassword(current, changed) {
    const epoch = this.#epoch;
    const fields = { current_password: current, new_password: changed };
    await this.#open(await this.#call("PUT", "/me/password", fields), epoch, "updated");
  }

  /**
   * Call a function now, and when the user signs in or out, or changes.
   *
   * @param {(change: Change) => void} listener
   * @returns {() => void} A function that ends this.
   */
  onChange(listener) {
    this.#listeners.add(listener);
    this.ready.then(() => this.#listeners.has(listener) && listener({ user: this.user, reason: "start" }));
    return () => void this.#listeners.delete(listener);
  }

  /** Stop listening, to the other tabs too; the session goes on. */
  close() {
    this.#closing.abort();
    this.#listeners.clear();
    this.#disconnect();
  }

  async #start() {
    if (!this.#isShared) this.#pair = load(this.#store, this.#name);
    if (!this.#read()) await this.#ask();
    this.#shown = stateOf(this.#read());
  }

  /** @returns {Pair | null} */
  #read() {
    const stored = this.#isShared ? load(this.#store, this.#name) : null;
    const kept = this.#pair;
    // With a shared store, a pair is kept here only if the store is full.
    return stored && !(kept?.sid === stored.sid && kept.rev > stored.rev) ? stored : kept;
  }

  /** @param {Pair} pair */
  #save(pair) {
    this.#pair = pair;
    try {
      this.#store?.setItem(this.#name, JSON.stringify(pair));
      if (this.#isShared) this.#pair = null;
    } catch {
      // The store is full: this tab goes on, and the others get the pair by the channel.
    }
  }

  /**
   * Forget a session, here and in the other tabs.
   *
   * @param {string} sid
   * @param {Reason} reason What the other tabs are told.
   */
  #forget(sid, reason) {
    this.#drop(sid);
    this.#tell({ out: sid, reason });
  }

  /** @param {string} sid */
  #drop(sid) {
    this.#ended.add(sid);
    this.#cooling = null;
    if (this.#read()?.sid === sid) this.#store?.removeItem(this.#name);
    if (this.#pair?.sid === sid) this.#pair = null;
  }

  /**
   * Keep the session of new tokens.
   *
   * @param {Tokens} tokens
   * @param {number} epoch When they were asked for.
   * @param {Reason} reason
   */
  async #open(tokens, epoch, reason) {
    const pair = toPair(tokens);
    const user = await this.#json("GET", "/me", undefined, { token: pair.access, retries: true });
    if (epoch !== this.#epoch) {
      await this.#end(pair, "local");
      throw signedOut();
    }
    this.#epoch++;
    const was = reason === "updated" ? this.#read()?.sid : undefined;
    this.#save({ ...pair, user });
    this.#tell({ pair: { ...pair, user }, was });
    this.#notify(reason);
  }

  /**
   * End a session at the server, now or when the network is back.
   *
   * @param {Pair} pair
   * @param {"local" | "global"} scope
   */
  async #end(pair, scope) {
    const { access, refresh, retry, until } = pair;
    const fields = { refresh_token: refresh, ...(retry && { retry_key: retry }) };
    try {
      if (scope === "local") {
        await this.#json("POST", "/auth/logout", { refresh_token: refresh }, { keepalive: true, retries: true });
        return;
      }
      const isValid = Date.now() < until;
      const token = isValid ? access : (await this.#json("POST", "/auth/refresh", fields, { retries: true })).access_token;
      await this.#json("POST", "/auth/logout?scope=global", undefined, { token, keepalive: true, retries: true });
    } catch (error) {
      const isOffline = error instanceof AuthError && error.status === 0;
      if (isOffline) addEventListener("online", () => this.#end(pair, scope), { once: true });
      // With another error the session has ended, or it expires.
    }
  }

  /**
   * Refresh the pair, and tell the listeners once the lock is free.
   *
   * @param {Pair} pair
   * @param {string} rejected
   * @returns {Promise<string>}
   */
  async #refresh(pair, rejected) {
    const cooling = this.#cooling;
    if (cooling?.refresh === pair.refresh && Date.now() < cooling.until) return usable(pair, rejected, cooling.error);
    const epoch = this.#epoch;
    /** @type {Reason} */
    let reason = "updated";
    try {
      const { pair: next, error } = await this.#locked(() => this.#rotate(pair, rejected, epoch));
      if (error) {
        reason = ENDS[error.code] ?? reason;
        if (error.code in ENDS) throw error;
        return usable(next, rejected, error);
      }
      if (claimsOf(next.access) !== claimsOf(pair.access)) this.#reload(next).catch(() => {});
      return next.access;
    } finally {
      this.#notify(reason);
    }
  }

  /**
   * Run once, alone among the tabs; but go on without the lock where there is none, or a tab that
   * holds it is frozen.
   *
   * @template T
   * @param {() => Promise<T>} run
   * @returns {Promise<T>}
   */
  async #locked(run) {
    /** @type {Promise<T> | undefined} */
    let running;
    const once = () => (running ??= run());
    try {
      await navigator.locks?.request(this.#name, { signal: AbortSignal.timeout(LOCK_MS) }, once);
    } catch (error) {
      if (running) throw error;
    }
    return once();
  }

  /**
   * @param {Pair} before
   * @param {string} rejected
   * @param {number} epoch
   * @returns {Promise<{pair: Pair, error?: AuthError}>}
   */
  async #rotate(before, rejected, epoch) {
    let pair = await this.#newest(before);
    if (pair.rev > before.rev && isFresh(pair, rejected)) return { pair };
    if (!pair.retry) {
      // Before it is sent, so that every tab, and every later try, shows the same key.
      pair = { ...pair, retry: randomKey() };
      this.#save(pair);
      this.#tell({ pair });
    }
    /** @type {Pair} */
    let fresh;
    try {
      const fields = { refresh_token: pair.refresh, retry_key: pair.retry };
      fresh = toPair(await this.#json("POST", "/auth/refresh", fields, { retries: true }));
    } catch (error) {
      return this.#failed(pair, /** @type {AuthError} */ (error));
    }
    if (epoch !== this.#epoch || this.#read()?.sid !== pair.sid) {
      await this.#end(fresh, "local");
      throw signedOut();
    }
    fresh = { ...fresh, user: pair.user, rev: pair.rev + 1 };
    this.#failures = 0;
    this.#cooling = null;
    this.#save(fresh);
    this.#tell({ pair: fresh });
    return { pair: fresh };
  }

  /**
   * End the session only if the server says so, and no other tab has a newer pair.
   *
   * @param {Pair} pair
   * @param {AuthError} error
   * @returns {Promise<{pair: Pair, error?: AuthError}>}
   */
  async #failed(pair, error) {
    if (error.status === 401 && error.code in ENDS) {
      const newer = await this.#newest(pair);
      if (newer.refresh !== pair.refresh) return { pair: newer };
      this.#forget(pair.sid, ENDS[error.code]);
      return { pair, error };
    }
    const backoff = Math.min(30, 2 ** this.#failures++) * (0.5 + Math.random() / 2);
    this.#cooling = { refresh: pair.refresh, until: Date.now() + 1000 * (error.retryAfter || backoff), error };
    return { pair, error };
  }

  /**
   * Return the newest pair of a session that any tab has.
   *
   * @param {Pair} pair
   * @returns {Promise<Pair>}
   */
  async #newest(pair) {
    await this.#ask();
    const newest = this.#read();
    // One user's request is never sent as another's.
    if (newest?.sid !== pair.sid) throw signedOut();
    return newest;
  }

  /** @param {Pair} pair */
  async #reload({ access, sid }) {
    const user = await this.#json("GET", "/me", undefined, { token: access });
    const pair = this.#read();
    if (pair?.sid !== sid) return;
    this.#save({ ...pair, user });
    this.#tell({ pair: { ...pair, user } });
    this.#notify("updated");
  }

  #connect() {
    if (typeof BroadcastChannel === "undefined" || this.#closing.signal.aborted) return;
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#receive(data);
  }

  #disconnect() {
    this.#channel?.close();
    this.#channel = null;
  }

  /** @param {Message} message */
  #tell(message) {
    this.#channel?.postMessage(message);
  }

  /** Let the other tabs send their pairs, unless all read one store. */
  async #ask() {
    if (this.#isShared || !this.#channel) return;
    this.#tell({ ask: true });
    await sleep(ANSWER_MS);
  }

  /** @param {Message} message */
  #receive({ ask, pair, was, out, reason = "elsewhere" }) {
    const mine = this.#read();
    if (ask && mine) this.#tell({ pair: mine });
    if (out) {
      if (mine?.sid === out) this.#epoch++;
      this.#drop(out);
    }
    if (pair && !this.#ended.has(pair.sid) && isNewer(pair, mine, was)) this.#save(pair);
    if (out || pair) this.#notify(reason);
  }

  /** @param {Reason} reason */
  #notify(reason) {
    const pair = this.#read();
    const state = stateOf(pair);
    if (this.#shown === null || this.#shown === state) return;
    const isSameSession = pair && this.#shown.startsWith(pair.sid);
    this.#shown = state;
    const change = { user: pair?.user ?? null, reason: isSameSession ? /** @type {const} */ ("updated") : reason };
    for (const listener of this.#listeners) queueMicrotask(() => listener(change));
  }

  /**
   * Send JSON and return JSON. Rejects with an AuthError.
   *
   * @param {string} method
   * @param {string} path
   * @param {object} [fields]
   * @param {RequestOptions} [options]
   */
  async #json(method, path, fields, { token, retries = false, keepalive = false } = {}) {
    const signal = AbortSignal.timeout(REQUEST_MS);
    const request = new Request(this.#base + path, {
      ...jsonInit(method, fields),
      cache: "no-store",
      credentials: "omit",
      keepalive,
      redirect: "error",
      signal,
    });
    for (const pause of [...(retries ? RETRY_MS : []), 0]) {
      try {
        return await parse(await send(request.clone(), token));
      } catch (cause) {
        const error = toError(cause, signal.aborted ? "timeout" : "offline");
        const isPassing = error.code === "offline" || (error.status >= 500 && !error.retryAfter);
        if (!pause || !isPassing) throw error;
      }
      await sleep(pause);
    }
  }

  /**
   * Send JSON with the token and return JSON. Rejects with an AuthError.
   *
   * @param {string} method
   * @param {string} path
   * @param {object} [fields]
   */
  async #call(method, path, fields) {
    try {
      return await parse(await this.fetch(this.#base + path, jsonInit(method, fields)));
    } catch (cause) {
      throw toError(cause, "offline");
    }
  }
}

const signedOut = () => new AuthError("signed_out", "Nobody is signed in.");

/** @param {number} ms */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {unknown} cause @param {string} code */
const toError = (cause, code) =>
  cause instanceof AuthError ? cause : new AuthError(code, "The service can't be reached.", { cause });

const randomKey = () =>
  btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(18)))).replace(/\+/g, "-").replace(/\//g, "_");

/** @param {Options["storage"]} storage */
function openStore(storage) {
  try {
    return storage === "local" ? localStorage : storage === "session" ? sessionStorage : null;
  } catch {
    return null; // closed to this page
  }
}

/**
 * @param {Storage | null} store
 * @param {string} name
 * @returns {Pair | null}
 */
function load(store, name) {
  try {
    const pair = JSON.parse(store?.getItem(name) ?? "null");
    return typeof pair?.refresh === "string" ? pair : null;
  } catch {
    return null;
  }
}

/** @param {Pair | null} pair */
const stateOf = (pair) => (pair ? pair.sid + JSON.stringify(pair.user) : "");

/**
 * Whether the access token need not be refreshed. A clock that was set back makes it stale, too.
 *
 * @param {Pair} pair
 * @param {string} rejected
 */
function isFresh({ access, got, until }, rejected) {
  const now = Date.now();
  return access !== rejected && now >= got && until - now > Math.min(60_000, (until - got) / 10);
}

/**
 * Return the access token while it is valid, though it can't be refreshed.
 *
 * @param {Pair} pair
 * @param {string} rejected
 * @param {AuthError} error
 */
function usable({ access, got, until }, rejected, error) {
  const now = Date.now();
  if (access !== rejected && now >= got && now < until) return access;
  throw error;
}

/**
 * Whether a tab should take another's pair.
 *
 * @param {Pair} theirs
 * @param {Pair | null} mine
 * @param {string} [was] The session that theirs has replaced.
 */
function isNewer(theirs, mine, was) {
  if (!mine || mine.sid === was) return true;
  if (mine.sid !== theirs.sid || theirs.rev < mine.rev) return false;
  return theirs.rev > mine.rev || (theirs.retry !== "" && mine.retry === "") || stateOf(theirs) !== stateOf(mine);
}

/** @param {string} token @returns {Record<string, unknown>} */
function payloadOf(token) {
  const text = atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"));
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (char) => char.charCodeAt(0))));
}

/** What a token says of its user. @param {string} token */
function claimsOf(token) {
  const { iat, exp, jti, ...claims } = payloadOf(token);
  return JSON.stringify(claims);
}

/** @param {Tokens} tokens @returns {Pair} */
function toPair({ access_token: access, refresh_token: refresh, expires_in: seconds }) {
  try {
    const { sid } = payloadOf(access);
    if (typeof sid === "string" && typeof refresh === "string" && seconds > 0) {
      const got = Date.now();
      return { access, refresh, got, until: got + 1000 * seconds, sid, rev: 1, retry: "", user: null };
    }
  } catch {
    // It is no token.
  }
  throw new AuthError("bad_response", "The service sent no tokens.", { status: 200 });
}

/** @param {string} method @param {object} [fields] @returns {RequestInit} */
function jsonInit(method, fields) {
  const headers = { Accept: "application/json", ...(fields && { "Content-Type": "application/json" }) };
  return { method, headers, body: fields && JSON.stringify(fields) };
}

/** @param {Request} request @param {string} [token] */
function send(request, token) {
  if (token) request.headers.set("Authorization", `Bearer ${token}`);
  return fetch(request);
}

/** @param {Response} response @param {string} error */
const challenge = ({ status, headers }, error) =>
  (status === 401 || status === 403) && (headers.get("WWW-Authenticate") ?? "").includes(`error="${error}"`);

/** @param {Response} response */
async function parse(response) {
  if (response.status === 204) return null;
  const body = await response.json().catch((error) => {
    if (!(error instanceof SyntaxError)) throw error;
  });
  if (response.ok && body && typeof body === "object") return body;
  throw new AuthError((!response.ok && body?.code) || "bad_response", body?.detail ?? "The response is not the service's.", {
    status: response.status,
    errors: body?.errors,
    retryAfter: Number(response.headers.get("Retry-After")) || 0,
    requestId: response.headers.get("X-Request-ID") ?? "",
  });
}
