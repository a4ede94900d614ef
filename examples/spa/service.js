/** Requests to the service's own resources, which the client of /client.js sends with the token. */

/**
 * Send JSON; returns the body and the URL of the next page, if there is one.
 *
 * @param {AuthClient} auth
 * @param {string} method
 * @param {string} url
 * @param {object} [fields]
 */
export async function send(auth, method, url, fields) {
  const headers = { Accept: "application/json", "Content-Type": "application/json" };
  const body = fields && JSON.stringify(fields);
  const response = await ofUser(auth, auth.fetch(url, { method, headers, body }));
  if (response.status === 204) return { body: null, next: null };
  const content = await response.json();
  if (!response.ok) throw Object.assign(new Error(content.detail), content);
  const [, next = null] = /<([^>]+)>; rel="next"/.exec(response.headers.get("Link") ?? "") ?? [];
  return { body: content, next };
}

/**
 * Wait for a result, and reject it if another user has signed in meanwhile.
 *
 * @template T
 * @param {AuthClient} auth
 * @param {Promise<T>} result
 * @returns {Promise<T>}
 */
export async function ofUser(auth, result) {
  const id = auth.user?.id;
  const value = await result;
  if (auth.user?.id !== id) throw new Error("Someone else has signed in.");
  return value;
}
