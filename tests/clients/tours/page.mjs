// What client.js and the documentation's snippets need of a page, and what they send.
const events = new EventTarget();
const { fetch } = globalThis;
let lostPath = null;
let refused = 0;

export const sent = [];
export const refreshes = () => sent.filter(({ url }) => url.endsWith("/auth/refresh"));

/** Have the server refuse the next tokens. */
export const refuse = (count = 1) => { refused = count; };

/** Lose the next response to a request for a path. */
export const lose = (path) => { lostPath = path; };

globalThis.addEventListener = events.addEventListener.bind(events);
globalThis.document = new EventTarget();
globalThis.location = new URL("http://localhost/");
globalThis.navigator ??= { userAgent: "Node.js" };
globalThis.fetch = async (input, init) => {
  const request = new Request(input, init);
  if (refused > 0 && request.headers.has("Authorization")) {
    request.headers.set("Authorization", "Bearer expired");
    refused--;
  }
  const { headers, url } = request;
  sent.push({ url, authorization: headers.get("Authorization"), body: await request.clone().text() });
  const response = await fetch(request);
  if (lostPath === null || !url.endsWith(lostPath)) return response;
  lostPath = null;
  throw new TypeError("the response is lost");
};
