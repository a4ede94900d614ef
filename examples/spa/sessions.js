/** The list of the user's sessions, and the ways to end them. */

import { withPassword } from "./dialogs.js";
import { onPress, removeRow, say, showTime } from "./forms.js";
import { ofUser } from "./service.js";

const $ = (id) => document.getElementById(id);
const list = $("session-list");
const BROWSERS = { Edg: "Edge", OPR: "Opera", Firefox: "Firefox", Chrome: "Chrome", Safari: "Safari", curl: "curl" };
const SYSTEMS = ["Windows", "Android", "iPhone", "iPad", "Mac", "Linux"];

export function startSessions(auth) {
  async function load() {
    const sessions = await ofUser(auth, auth.sessions());
    list.replaceChildren(...sessions.map(newRow));
    list.hidden = false;
  }

  function newRow(session) {
    const row = $("session-row").content.firstElementChild.cloneNode(true);
    const device = nameOf(session.user_agent);
    const end = row.querySelector(".end");
    row.querySelector("strong").textContent = device;
    showTime(row.querySelector(".created"), session.created_at);
    row.querySelector(".address").textContent = session.address;
    row.querySelector(".badge").hidden = !session.current;
    end.hidden = session.current;
    end.ariaLabel = `End ${device}`;
    onPress(end, async () => {
      await withPassword(() => auth.endSession(session.id));
      removeRow(row, $("sign-out-others"));
      say("The session has ended.");
    });
    return row;
  }

  onPress($("sign-out-others"), async () => {
    await auth.signOut("others");
    await load();
    say("All other devices are signed out.");
  });
  onPress($("sign-out-everywhere"), () => auth.signOut("global"));

  return { load, clear: () => (list.hidden = true) };
}

/** Return a short name of a browser from its User-Agent header. */
function nameOf(userAgent) {
  const browser = Object.keys(BROWSERS).find((each) => userAgent.includes(`${each}/`));
  const system = SYSTEMS.find((each) => userAgent.includes(each));
  const names = [BROWSERS[browser], system].filter(Boolean);
  return names.join(" on ") || userAgent.slice(0, 60) || "Unknown device";
}
