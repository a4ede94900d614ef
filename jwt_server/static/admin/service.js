// @ts-check
/** Requests to the service, as the admin who is signed in. */

import { AuthError } from "../client.js";
import { auth, lastUserId } from "./session.js";
import { setNotice } from "./status.js";

export { auth, AuthError };

/** @typedef {{signal?: AbortSignal}} RequestOptions */

const REQUEST_MS = 30_000;
const MAX_PAUSE_S = 30;

/**
 * How the password or a new session is asked for; false if the user cancels. Set by app.js.
 *
 * @type {{password: () => Promise<boolean>, session: (isRead: boolean, code: string) => Promise<boolean>}}
 */
export const prompts = { password: async () => false, session: async () => false };

/** Lets requests that wait for the service try again at once. */
const retry = new EventTarget();
addEventListener("online", () => retry.dispatchEvent(new Event("now")));

/**
 * Send a request and return the JSON of its response, or null for 204. Rejects with an AuthError, whose
 * `errors` has messages by field, or with the reason of the signal.
 *
 * A GET is repeated while the service can't be reached. If the password or a new session is needed, a
 * dialog asks for it, and the request goes on.
 *
 * @param {string} method
 * @param {string} path Such as `/admin/users`.
 * @param {unknown} [body]
 * @param {RequestOptions} [options]
 * @returns {Promise<any>}
 */
export async function request(method, path, body, options) {
  return (await exchange(method, path, body, options)).body;
}

/**
 * Return a page of a list, and the path of the next one, or null.
 *
 * @param {string} path
 * @param {RequestOptions} [options]
 * @returns {Promise<{rows: any[], next: string | null}>}
 */
export async function page(path, options) {
  const { body, next } = await exchange("GET", path, undefined, options);
  return { rows: body, next };
}

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} body
 * @param {RequestOptions} [options]
 */
async function exchange(method, path, body, { signal } = {}) {
  const key = {};
  const actor = lastUserId;
  try {
    for (let failures = 0; ; failures++) {
      try {
        return await send(method, path, body, signal);
      } catch (cause) {
        signal?.throwIfAborted();
        await recover(method, toError(cause), key, failures, signal);
        // Another admin has signed in, who was not asked whether to do this to their own account.
        if (method !== "GET" && auth.user?.id !== actor && isAbout(path, auth.user?.id)) throw cancelled();
      }
    }
  } finally {
    setNotice(key, null);
  }
}

/**
 * @param {string} path Such as `/admin/users/5/password`.
 * @param {number | undefined} userId
 */
const isAbout = (path, userId) => path.split("/")[3] === String(userId);

/**
 * Do what lets a request be repeated, or throw its error.
 *
 * @param {string} method
 * @param {AuthError} error
 * @param {object} key
 * @param {number} failures
 * @param {AbortSignal} [signal]
 */
async function recover(method, error, key, failures, signal) {
  const isRead = method === "GET";
  if (error.code === "insufficient_user_authentication") {
    if (!(await prompts.password())) throw cancelled();
  } else if (error.status === 401 || error.code === "signed_out" || error.code === "admin_required") {
    if (!(await prompts.session(isRead, error.code))) throw isRead ? error : cancelled();
  } else if (isRead && isTemporary(error)) {
    await pause(error, key, failures, signal);
  } else {
    throw error;
  }
}

/**
 * Whether the same request may succeed later.
 *
 * @param {AuthError} error
 */
export function isTemporary({ code, status, retryAfter }) {
  return code === "offline" || code === "timeout" || isUnavailable(status) || (status === 429 && retryAfter > 0);
}

/** Whether the service, or the proxy before it, says that it can't be used now. @param {number} status */
const isUnavailable = (status) => status === 502 || status === 503 || status === 504;

const cancelled = () => new AuthError("cancelled", "Nothing was changed.");

/**
 * Say why a request waits, and wait: for as long as the service says, or until the network is back, or
 * somebody presses the button.
 *
 * @param {AuthError} error
 * @param {object} key
 * @param {number} failures
 * @param {AbortSignal} [signal]
 */
async function pause({ message, retryAfter }, key, failures, signal) {
  const seconds = retryAfter || Math.min(MAX_PAUSE_S, 2 ** failures);
  const problem = message.replace(/ Try again in [^.]+\.$/, "");
  const text = navigator.onLine ? `${problem} Retrying in ${seconds} s.` : "You are offline. It will retry when you are online.";
  setNotice(key, { text, label: "Try now", act: () => retry.dispatchEvent(new Event("now")) });
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, 1000 * seconds, undefined);
    const stop = () => (clearTimeout(timer), resolve(undefined));
    retry.addEventListener("now", stop, { once: true });
    signal?.addEventListener("abort", stop, { once: true });
  });
  signal?.throwIfAborted();
}

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} body
 * @param {AbortSignal} [signal]
 */
async function send(method, path, body, signal) {
  const limit = AbortSignal.timeout(REQUEST_MS);
  const response = await auth.fetch(path, {
    method,
    headers: { Accept: "application/json", "Content-Type": "application/json" },
    body: body === undefined ? null : JSON.stringify(body),
    cache: "no-store",
    signal: signal ? AbortSignal.any([signal, limit]) : limit,
  });
  const [, link] = /<([^>]+)>; rel="next"/.exec(response.headers.get("Link") ?? "") ?? [];
  return { body: await parse(response), next: link ? new URL(link, response.url).href : null };
}

/** @param {Response} response */
async function parse(response) {
  if (response.status === 204) return null;
  const body = await response.json().catch((error) => {
    if (!(error instanceof SyntaxError)) throw error;
  });
  if (response.ok && body && typeof body === "object") return body;
  const { status } = response;
  const otherwise = isUnavailable(status) ? "The service is unavailable." : "Unexpected response from the server.";
  throw new AuthError(body?.code ?? "bad_response", body?.detail ?? otherwise, {
    status,
    errors: body?.errors,
    retryAfter: Number(response.headers.get("Retry-After")) || 0,
    requestId: response.headers.get("X-Request-ID") ?? "",
  });
}

/** @param {unknown} cause */
function toError(cause) {
  if (cause instanceof AuthError) return cause;
  const isTimeout = cause instanceof DOMException && cause.name === "TimeoutError";
  return new AuthError(isTimeout ? "timeout" : "offline", "The service can’t be reached.", { cause });
}
