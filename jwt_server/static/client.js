// @ts-check
/**
 * The browser client of jwt-server: signs in, keeps the session, and sends the token.
 *
 * A refresh that races or loses its response signs nobody out: the server returns the same successor
 * for the same `retry_key`. The lock and the channel between tabs only save requests.
 */

/**
 * @typedef {{id: number, username: string, admin: boolean, claims: Record<string, unknown>, created_at: string}} User
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
 * The tokens of a session. Times are in milliseconds of this device's clock: only differences of
 * that clock count, so that it may be wrong.
 *
 * @typedef {object} Pair
 * @property {string} access
 * @property {string} refresh
 * @property {number} got
 * @property {number} until
 * @property {string} sid The session.
 * @property {string} sub The user.
 * @property {number} rev Counts the refreshes.
 * @property {number} edit Counts the changes since the last refresh.
 * @property {string} retry Empty until a refresh is about to be sent.
 * @property {User | null} user Null while a temporary password must be changed.
 *
 * @typedef {{access_token: string, expires_in: number, refresh_token: string}} Tokens
 * @typedef {{ask?: string, pair?: Pair, isFull?: boolean, out?: string, reason?: Reason}} Message
 * @typedef {{token?: string, retries?: boolean, keepalive?: boolean}} RequestOptions
 */

/**
 * The codes with which the server ends a session.
 *
 * @type {Record<string, Reason | undefined>}
 */
const ENDS = {
  refresh_token_invalid: "ended",
  refresh_token_reused: "stolen",
  session_expired: "expired",
  session_ended: "ended",
};

const REFRESH_MS = 9_000;
/** Longer, as a password may wait 10 s for its hash. */
const REQUEST_MS = 30_000;
const RETRY_MS = [300, 900, 2700];
const LOCK_MS = 4_000;
const ANSWER_MS = 150;
const KEY_LENGTH = 24;
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
  /** Whether the shared store has refused a pair, so that the tabs must keep it. */
  #isFull = false;
  /** The newest pair that this tab has had; `#read` tells whether it counts. @type {Pair | null} */
  #pair = null;
  /** Sessions that have ended in this tab, which a late message must not bring back. */
  #ended = new Set();
  /** Their number: a sign-in that began before the last one is not kept. */
  #signOuts = 0;
  /** @type {Promise<string> | null} */
  #refreshing = null;
  /** @type {Promise<boolean> | null} */
  #steppingUp = null;
  /** Until when a refresh is not tried again. @type {{refresh: string, until: number, error: AuthError} | null} */
  #cooling = null;
  #failures = 0;
  /** @type {Set<(change: Change) => void>} */
  #listeners = new Set();
  /** The user that the listeners have seen; undefined before the start. @type {User | null | undefined} */
  #shown;
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
    this.#origins = new Set([this.#base, ...origins].map((each) => new URL(each).origin));
    this.#onStepUp = onStepUp;
    this.#store = openStore(storage);
    this.#isShared = storage === "local" && this.#store !== null;
    this.#connect();
    const { signal } = this.#closing;
    const look = () => this.#notify("elsewhere");
    for (const event of ["visibilitychange", "resume"]) document.addEventListener(event, look, { signal });
    // What another process has stored can show later than its message. A removal shows earlier than the
    // message that says why.
    addEventListener("storage", ({ newValue }) => newValue && look(), { signal });
    addEventListener("online", () => ((this.#cooling = null), look()), { signal });
    // The browser keeps no page with an open channel for its back button.
    addEventListener("pagehide", () => this.#disconnect(), { signal });
    addEventListener("pageshow", (event) => event.persisted && (this.#connect(), this.#ask().then(look)), { signal });
    /** Resolves when the session that is stored, or that another tab has, is read. */
    this.ready = this.#start();
  }

  /** The signed-in user, as `GET /me` returns it; null if nobody is signed in. The same object until it changes. */
  get user() {
    return this.#shown ?? null;
  }

  /**
   * Sign in. This and the methods below reject with an AuthError.
   *
   * With the code `password_change_required`, `changePassword` is all that this session may do.
   *
   * @param {string} username
   * @param {string} password
   */
  async signIn(username, password) {
    const signOuts = this.#signOuts;
    await this.ready;
    const pair = toPair(await this.#json("POST", "/auth", { username, password }));
    /** @type {AuthError | undefined} */
    let error;
    try {
      pair.user = await this.#json("GET", "/me", undefined, { token: pair.access, retries: true });
    } catch (cause) {
      error = toError(cause);
    }
    const isTemporary = error?.code === "password_change_required";
    if ((error && !isTemporary) || signOuts !== this.#signOuts) {
      void this.#end(pair);
      throw error ?? signedOut();
    }
    const before = this.#read();
    // Newer than the pairs of the user's former session, which other tabs may still have.
    if (before?.sub === pair.sub) pair.rev += before.rev;
    this.#keep(pair);
    this.#notify("signed_in");
    if (error) throw error;
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
    this.#signOuts++;
    await this.ready;
    const pair = this.#read();
    if (!pair) return;
    this.#forget(pair.sid, "elsewhere");
    this.#notify("signed_out");
    await this.#end({ ...pair, retry: pair.retry || randomKey() }, scope);
  }

  /**
   * Return a valid access token, refreshed if need be.
   *
   * @param {string} [rejected] One that a server has refused.
   * @returns {Promise<string>}
   */
  async token(rejected = "") {
    await this.ready;
    const pair = this.#read();
    if (!pair) {
      this.#notify("elsewhere");
      throw signedOut();
    }
    if (isFresh(pair, rejected)) return pair.access;
    this.#refreshing ??= this.#refresh(pair, rejected).finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  /**
   * Fetch with the token, as `window.fetch`; a path is the service's.
   *
   * @param {RequestInfo | URL} input
   * @param {RequestInit} [init]
   * @returns {Promise<Response>}
   */
  async fetch(input, init) {
    const url = typeof input === "string" ? input.replace(/^\//, "./") : input;
    const request = new Request(url instanceof Request ? url : new URL(url, `${this.#base}/`), init);
    const { origin } = new URL(request.url);
    if (!this.#origins.has(origin)) {
      throw new AuthError("origin", `Add ${origin} to the option "origins", or use window.fetch.`);
    }
    const response = await this.#send(request);
    if (response.ok && request.url === `${this.#base}/me`) this.#follow(request.method);
    return response;
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
    await this.token(); // a refresh within the lock would wait for itself
    const fields = { current_password: current, new_password: changed };
    // The lock lets no other tab refresh the session that ends before it gets the new one.
    const { user } = await this.#locked(async () => {
      const before = this.#read();
      if (!before) throw signedOut();
      return this.#replace(before, toPair(await this.#call("PUT", "/me/password", fields)));
    });
    if (!user) await this.#reload();
  }

  /**
   * Call a function now, and when the user signs in or out, or changes.
   *
   * @param {(change: Change) => void} listener
   * @returns {() => void} A function that ends this.
   */
  onChange(listener) {
    /** @param {Change} change */
    const call = (change) => this.#listeners.has(call) && listener(change);
    const ending = new AbortController();
    this.ready.then(() => {
      if (ending.signal.aborted || this.#closing.signal.aborted) return;
      this.#notify("elsewhere");
      this.#listeners.add(call);
      const { user } = this;
      queueMicrotask(() => call({ user, reason: "start" }));
    });
    return () => {
      ending.abort();
      this.#listeners.delete(call);
    };
  }

  /** Stop listening, to the other tabs too; the session goes on. */
  close() {
    this.#closing.abort();
    this.#listeners.clear();
    this.#disconnect();
  }

  async #start() {
    if (!this.#isShared) this.#pair = load(this.#store, this.#name);
    const answers = this.#ask();
    if (!this.#read()) await answers;
    this.#shown = this.#read()?.user ?? null;
  }

  /** @returns {Pair | null} */
  #read() {
    const kept = this.#pair;
    if (!this.#isShared) return kept;
    const stored = load(this.#store, this.#name);
    if (!stored || this.#ended.has(stored.sid)) return this.#isFull ? kept : null;
    return kept?.sid === stored.sid && isNewer(kept, stored) ? kept : stored;
  }

  /** @param {Pair} pair */
  #save(pair) {
    this.#pair = pair;
    // Room for the key, which must be stored though the store may be full by then.
    const room = " ".repeat(KEY_LENGTH - pair.retry.length);
    try {
      this.#store?.setItem(this.#name, JSON.stringify(pair) + room);
    } catch {
      this.#isFull = true;
      // A refresh token that was used would count as stolen.
      this.#store?.removeItem(this.#name);
    }
  }

  /**
   * Save a pair, here and in the other tabs.
   *
   * @param {Pair} pair
   */
  #keep(pair) {
    this.#save(pair);
    this.#tell({ pair, isFull: this.#isFull });
  }

  /**
   * Keep the successor of a pair, unless the session has ended, or went on without this tab while it
   * was frozen. Returns the pair that counts.
   *
   * @param {Pair} before
   * @param {Pair} fresh
   * @returns {Pair}
   */
  #replace(before, fresh) {
    const now = this.#read();
    if (now?.sid !== before.sid) {
      void this.#end(fresh);
      return sameUser(before, now);
    }
    if (fresh.sid === now.sid && now.refresh !== before.refresh) return now;
    const pair = { ...fresh, user: now.user, rev: now.rev + 1 };
    this.#keep(pair);
    return pair;
  }

  /**
   * Forget a session, here and in the other tabs.
   *
   * @param {string} sid
   * @param {Reason} reason What the other tabs are told.
   */
  #forget(sid, reason) {
    if (load(this.#store, this.#name)?.sid === sid) this.#store?.removeItem(this.#name);
    this.#drop(sid);
    this.#tell({ out: sid, reason });
  }

  /** @param {string} sid */
  #drop(sid) {
    this.#ended.add(sid);
    if (this.#pair?.sid !== sid) return;
    this.#pair = null;
    if (!this.#isShared) this.#store?.removeItem(this.#name);
  }

  /**
   * End a session at the server, now or when the network is back.
   *
   * @param {Pair} pair
   * @param {"local" | "global"} [scope]
   */
  async #end(pair, scope = "local") {
    try {
      await (scope === "local" ? this.#endOne(pair) : this.#endAll(pair));
    } catch (cause) {
      // Without "global", the session is forgotten here anyway, and expires there.
      if (scope === "global" && toError(cause).status) throw cause;
      addEventListener("online", () => this.#end(pair, scope).catch(() => {}), { once: true });
    }
  }

  /** @param {Pair} pair */
  async #endOne({ refresh }) {
    await this.#json("POST", "/auth/logout", { refresh_token: refresh }, { keepalive: true, retries: true });
  }

  /** @param {Pair} pair */
  async #endAll({ access, refresh, retry }) {
    const options = { keepalive: true, retries: true };
    /** @param {string} token */
    const logout = (token) => this.#json("POST", "/auth/logout?scope=global", undefined, { ...options, token });
    try {
      await logout(access);
    } catch (cause) {
      if (toError(cause).status !== 401) throw cause;
      const fields = { refresh_token: refresh, retry_key: retry };
      const { access_token } = await this.#json("POST", "/auth/refresh", fields, options);
      await logout(access_token);
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
    if (cooling?.refresh === pair.refresh && performance.now() < cooling.until) {
      return usable(pair, rejected, cooling.error).access;
    }
    /** @type {Reason} */
    let reason = "elsewhere";
    try {
      const { access } = await this.#locked(() => this.#rotate(pair, rejected));
      if (claimsOf(access) !== claimsOf(pair.access)) this.#reload().catch(() => {});
      return access;
    } catch (cause) {
      reason = ENDS[toError(cause).code] ?? reason;
      throw cause;
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
   * @returns {Promise<Pair>}
   */
  async #rotate(before, rejected) {
    let pair = await this.#newest(before);
    if (pair.refresh !== before.refresh && isFresh(pair, rejected)) return pair;
    if (!pair.retry) {
      // Before it is sent, so that every tab, and every later try, shows the same key.
      pair = { ...pair, retry: randomKey(), edit: pair.edit + 1 };
      this.#keep(pair);
    }
    const fields = { refresh_token: pair.refresh, retry_key: pair.retry };
    /** @type {Pair} */
    let fresh;
    try {
      fresh = toPair(await this.#json("POST", "/auth/refresh", fields, { retries: true }), pair.sid);
    } catch (cause) {
      return this.#failed(pair, rejected, toError(cause));
    }
    this.#failures = 0;
    return this.#replace(pair, fresh);
  }

  /**
   * End the session only if the server says so, and no other tab has a newer pair. Returns the pair
   * to go on with.
   *
   * @param {Pair} pair
   * @param {string} rejected
   * @param {AuthError} error
   * @returns {Promise<Pair>}
   */
  async #failed(pair, rejected, error) {
    const reason = error.status === 401 ? ENDS[error.code] : undefined;
    if (!reason) {
      const backoff = Math.min(30, 2 ** this.#failures++) * (0.5 + Math.random() / 2);
      const until = performance.now() + 1000 * (error.retryAfter || backoff);
      this.#cooling = { refresh: pair.refresh, until, error };
      return usable(pair, rejected, error);
    }
    const newer = await this.#newest(pair);
    if (newer.refresh !== pair.refresh) return newer;
    this.#forget(pair.sid, reason);
    // The session may go on with a thief who has just used the token elsewhere.
    if (error.code === "refresh_token_invalid") void this.#end(pair);
    throw error;
  }

  /**
   * Return the newest pair of a user that any tab has.
   *
   * @param {Pair} pair
   * @returns {Promise<Pair>}
   */
  async #newest(pair) {
    await this.#ask();
    return sameUser(pair, this.#read());
  }

  /** Read the user again. */
  async #reload() {
    const before = this.#read();
    if (!before) return;
    const user = await this.#json("GET", "/me", undefined, { token: before.access });
    const pair = this.#read();
    if (pair?.sid !== before.sid) return;
    this.#keep({ ...pair, user, edit: pair.edit + 1 });
    this.#notify("signed_in");
  }

  /**
   * Show what a request has done to the account, without waiting for it.
   *
   * @param {string} method
   */
  #follow(method) {
    if (method === "PATCH") this.#reload().catch(() => {});
    if (method === "DELETE") void this.signOut();
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

  /** Ask the other tabs for their pairs, and wait for them unless all read one store. */
  async #ask() {
    this.#tell({ ask: this.#read()?.sid ?? "" });
    if (this.#channel && !this.#isShared) await sleep(ANSWER_MS);
  }

  /** @param {Message} message */
  #receive({ ask, pair, isFull, out, reason = "elsewhere" }) {
    const mine = this.#read();
    if (ask !== undefined) {
      if (mine) this.#tell({ pair: mine, isFull: this.#isFull });
      if (this.#ended.has(ask)) this.#tell({ out: ask });
      return;
    }
    const isForMe = !mine || (pair?.sub === mine.sub && isNewer(pair, mine));
    if (pair && isForMe && !this.#ended.has(pair.sid)) this.#adopt(pair, isFull);
    if (out) this.#drop(out);
    // If an older message finds the store empty, the one that says why is still to come.
    if (out || this.#read()) this.#notify(reason);
  }

  /**
   * Keep a pair of another tab. Only that tab writes it to a shared store: this one may see late what
   * is there, and would overwrite a newer pair.
   *
   * @param {Pair} pair
   * @param {boolean} [isFull]
   */
  #adopt(pair, isFull = false) {
    this.#isFull ||= isFull;
    if (this.#isShared) this.#pair = pair;
    else this.#save(pair);
  }

  /** @param {Reason} reason Unless the same user has changed. */
  #notify(reason) {
    const before = this.#shown;
    const user = this.#read()?.user ?? null;
    if (before === undefined || JSON.stringify(before) === JSON.stringify(user)) return;
    this.#shown = user;
    /** @type {Change} */
    const change = { user, reason: user && before?.id === user.id ? "updated" : reason };
    for (const call of this.#listeners) queueMicrotask(() => call(change));
  }

  /**
   * Send a request with the token, and again if a new token or the password is needed. One user's
   * request is never sent as another's.
   *
   * @param {Request} request
   * @param {number} [ms] The time limit, each time.
   */
  async #send(request, ms) {
    const used = await this.token();
    const again = async (rejected = "") => {
      const token = await this.token(rejected);
      if (payloadOf(token).sub !== payloadOf(used).sub) throw signedOut();
      return send(request.clone(), token, ms);
    };
    let response = await send(request.clone(), used, ms);
    const isRefused = response.status === 401 && !isChallenge(response, STEP_UP);
    if (isRefused || isChallenge(response, "invalid_token")) response = await again(used);
    if (isChallenge(response, STEP_UP) && (await this.#stepUp())) response = await again();
    return response;
  }

  /** Ask for the password, once for all requests that wait for it; false without one. */
  async #stepUp() {
    const ask = async () => {
      const password = (await this.#onStepUp?.()) ?? null;
      if (password !== null) await this.reauth(password);
      return password !== null;
    };
    this.#steppingUp ??= ask().finally(() => (this.#steppingUp = null));
    return this.#steppingUp;
  }

  /**
   * Send a form and return JSON. Rejects with an AuthError.
   *
   * @param {string} method
   * @param {string} path
   * @param {Record<string, string>} [fields]
   * @param {RequestOptions} [options]
   */
  async #json(method, path, fields, { token, retries = false, keepalive = false } = {}) {
    const signal = AbortSignal.timeout(retries ? REFRESH_MS : REQUEST_MS);
    const request = new Request(this.#base + path, { ...toInit(method, fields), keepalive, signal });
    for (const pause of [...(retries ? RETRY_MS : []), 0]) {
      try {
        return await parse(await send(request.clone(), token));
      } catch (cause) {
        const error = toError(cause);
        const isLost = error.code === "offline" && navigator.onLine;
        if (!pause || !(isLost || (error.status >= 500 && !error.retryAfter))) throw error;
      }
      await sleep(pause);
    }
  }

  /**
   * Send a form with the token and return JSON. Rejects with an AuthError.
   *
   * @param {string} method
   * @param {string} path
   * @param {Record<string, string>} [fields]
   */
  async #call(method, path, fields) {
    try {
      return await parse(await this.#send(new Request(this.#base + path, toInit(method, fields)), REQUEST_MS));
    } catch (cause) {
      throw toError(cause);
    }
  }
}

const signedOut = () => new AuthError("signed_out", "Nobody is signed in.");

/** @param {number} ms */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {unknown} cause */
function toError(cause) {
  if (cause instanceof AuthError) return cause;
  const isTimeout = cause instanceof DOMException && /^(Timeout|Abort)Error$/.test(cause.name);
  return new AuthError(isTimeout ? "timeout" : "offline", "The service can't be reached.", { cause });
}

const randomKey = () =>
  btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array((KEY_LENGTH / 4) * 3))))
    .replace(/\+/g, "-")
    .replace(/\//g, "_");

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

/** @param {Pair} theirs @param {Pair} mine */
const isNewer = (theirs, mine) => (theirs.rev - mine.rev || theirs.edit - mine.edit) > 0;

/**
 * Return a user's pair of now; one user's request is never sent as another's.
 *
 * @param {Pair} before
 * @param {Pair | null} now
 * @returns {Pair}
 */
function sameUser(before, now) {
  if (now?.sub !== before.sub) throw signedOut();
  return now;
}

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
 * Return the pair while its access token is valid, though it can't be refreshed.
 *
 * @param {Pair} pair
 * @param {string} rejected
 * @param {AuthError} error
 * @returns {Pair}
 */
function usable(pair, rejected, error) {
  const now = Date.now();
  if (pair.access === rejected || now < pair.got || now >= pair.until) throw error;
  return pair;
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

/**
 * @param {Tokens} tokens
 * @param {string} [session] The one that they must be of.
 * @returns {Pair}
 */
function toPair(tokens, session) {
  try {
    const { access_token: access, refresh_token: refresh, expires_in: seconds } = tokens;
    const { sid, sub } = payloadOf(access);
    const isWhole = typeof sid === "string" && typeof sub === "string" && typeof refresh === "string" && seconds > 0;
    if (isWhole && sid === (session ?? sid)) {
      const got = Date.now();
      return { access, refresh, got, until: got + 1000 * seconds, sid, sub, rev: 1, edit: 0, retry: "", user: null };
    }
  } catch {
    // They are no tokens.
  }
  throw new AuthError("bad_response", "The service sent no tokens.", { status: 200 });
}

/**
 * A form needs no preflight, which would cost time, and might be lost when the page is closed.
 *
 * @param {string} method
 * @param {Record<string, string>} [fields]
 * @returns {RequestInit}
 */
const toInit = (method, fields) => ({
  method,
  headers: { Accept: "application/json" },
  body: fields && new URLSearchParams(fields),
  cache: "no-store",
  credentials: "omit",
  redirect: "error",
});

/** @param {Request} request @param {string} [token] @param {number} [ms] */
function send(request, token, ms) {
  if (token) request.headers.set("Authorization", `Bearer ${token}`);
  return fetch(request, ms ? { signal: AbortSignal.timeout(ms) } : {});
}

/** @param {Response} response @param {string} error */
const isChallenge = ({ status, headers }, error) =>
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
