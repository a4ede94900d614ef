// @ts-check
/** The active sessions of a user. */

import { confirm } from "./dialogs.js";
import { h, name, plainName, time } from "./dom.js";
import { action } from "./forms.js";
import { row, table } from "./list.js";
import { auth } from "./service.js";
import { say } from "./status.js";

/**
 * @typedef {import("../client.js").Session} Session
 * @typedef {import("./user.js").Subject} Subject
 */

const COLUMNS = [
  { label: "Device" },
  { label: "Signed in" },
  { label: "Last used" },
  { label: "Address" },
  { label: "Action", class: "end" },
];
const BROWSERS = { Edg: "Edge", OPR: "Opera", Firefox: "Firefox", Chrome: "Chrome", Safari: "Safari", curl: "curl" };
const SYSTEMS = ["Windows", "Android", "iPhone", "iPad", "Mac", "Linux"];

/**
 * Return a short name of a browser from its User-Agent header.
 *
 * @param {string} agent
 */
function deviceOf(agent) {
  const browser = Object.entries(BROWSERS).find(([key]) => agent.includes(`${key}/`))?.[1];
  const system = SYSTEMS.find((each) => agent.includes(each));
  return [browser, system].filter(Boolean).join(" on ") || agent.slice(0, 60) || "Unknown device";
}

/**
 * @param {Subject} subject
 * @param {Session[]} sessions
 */
export function sessionsCard(subject, sessions) {
  const { element, body } = table("Sessions", COLUMNS);
  const count = h("p", { class: "quiet", role: "status" });
  const all = action("End all sessions", async () => {
    const isSelf = subject.isSelf();
    if (isSelf && !(await confirm("End all your sessions?", "You are signed out here, too.", "End all sessions"))) return;
    await subject.send("DELETE", "/sessions");
    if (isSelf) await auth.signOut();
    subject.set({ ...subject.get(), sessions: 0 });
    show([]);
    say("All sessions of ", name(subject.get().username), " have ended.");
  });
  const heading = h("h2", { tabindex: -1 }, "Sessions");
  const list = h("div", { class: "card list" }, element);

  /** @param {Session[]} rows */
  function show(rows) {
    const had = element.contains(document.activeElement);
    body.replaceChildren(...rows.map(newRow));
    list.hidden = all.button.hidden = !rows.length;
    count.textContent = rows.length ? "" : "No active session.";
    if (had || document.activeElement === all.button) heading.focus();
  }

  /** @param {Session} session */
  function newRow(session) {
    const device = deviceOf(session.user_agent);
    const end = action("End", async () => {
      await subject.send("DELETE", `/sessions/${encodeURIComponent(session.id)}`);
      if (session.current) await auth.signOut();
      const nearest = added.nextElementSibling ?? added.previousElementSibling;
      /** @type {HTMLElement} */ (nearest?.querySelector("button") ?? heading).focus();
      added.remove();
      if (!body.rows.length) show([]);
      say("The session has ended.");
    }, { "aria-label": `End ${plainName(device)}` });
    const cells = [
      [h("strong", { title: session.user_agent }, name(device)), session.current && " (this session)"],
      time(session.created_at),
      time(session.last_used_at),
      name(session.address),
      end.element,
    ];
    const added = row(COLUMNS, cells);
    return added;
  }

  show(sessions);
  subject.watch((user) => user.sessions === 0 && show([]));
  return h(
    "section",
    { class: "stack" },
    h("div", { class: "head" }, heading, all.element),
    list,
    count,
  );
}
