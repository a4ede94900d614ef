// What tests/helpers/tabs.py calls in a page.
const api = new URLSearchParams(location.search).get("api");
const { AuthClient } = await import(`${api}/client.js`);

// How far the device's clock is ahead, in milliseconds.
window.ahead = 0;
const now = Date.now.bind(Date);
const timeout = AbortSignal.timeout;
Date.now = () => now() + window.ahead;

const key = `jwt-server default ${api}`;

Object.assign(window, {
  AuthClient,
  api,
  key,
  open_client(options) {
    window.auth?.close();
    // What onChange has told, how often the password was asked for, and what it is.
    Object.assign(window, { changes: [], asked: 0, password: null });
    window.auth = new AuthClient(api, {
      ...options,
      onStepUp: async () => {
        window.asked += 1;
        return window.password;
      },
    });
    auth.onChange(({ user, reason }) => changes.push([user && user.username, reason]));
    return auth.ready;
  },
  reset() {
    window.auth?.close();
    window.ahead = 0;
    delete navigator.locks;
    AbortSignal.timeout = timeout;
    localStorage.clear();
    sessionStorage.clear();
  },
  // The value of a promise, or the error's code, status and Retry-After.
  outcome: (promise) =>
    promise.then(
      (value) => value ?? null,
      ({ code, name, status, retryAfter }) => [code || name, status, retryAfter],
    ),
  stored: () => JSON.parse(localStorage[key]),
  // Have the service refuse the access token that is stored, while the client believes in it.
  forge: () => (localStorage[key] = JSON.stringify({ ...stored(), access: stored().access.slice(0, -9) + "AAAAAAAAA" })),
});
