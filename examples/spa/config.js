/** The service's URL. If you change it, change it in the policy at the top of index.html, too. */
const SERVICE = "http://localhost:3000";

// Only to another port of this machine, so that a link can't send a password elsewhere.
const given = new URLSearchParams(location.search).get("api") ?? "";
const isAllowed = location.hostname === "localhost" && /^http:\/\/localhost:\d+$/.test(given);

export const API = isAllowed ? given : SERVICE;
