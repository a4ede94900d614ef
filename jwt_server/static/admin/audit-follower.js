// @ts-check
/** New rows of the audit log as they are written, while the page is visible and nobody reads in the list. */

import { h } from "./dom.js";
import { AuthError, page } from "./service.js";

const POLL_MS = 5_000;

/** With more rows than this, new ones come with the first page alone. */
const MAX_ROWS = 1_000;

const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

/**
 * Make the switch that adds new rows to a list.
 *
 * @param {ReturnType<typeof import("./list.js").pagedList>} list
 * @param {AbortSignal} signal
 */
export function createFollower(list, signal) {
  const input = h("input", { type: "checkbox", role: "switch", checked: true });
  const state = h("span", { class: "quiet" });
  const news = h("span", { role: "status" });
  const element = h("div", { class: "follower", hidden: true }, h("label", {}, input, "Follow"), state, news);
  /** What is followed. @type {URLSearchParams | null} */
  let filters = null;
  let newest = 0;
  let isPolling = false;
  /** Why the last poll failed. */
  let problem = "";

  const isPaused = () => !filters || !input.checked || document.hidden || !navigator.onLine || isRead(list);

  function showState() {
    const text = problem ? "Paused." : isRead(list) ? "Paused while you are in the list." : "New rows appear here.";
    state.textContent = input.checked ? text : "";
  }

  /** @param {string} message */
  function setProblem(message) {
    // Not written again, as it would be read out again.
    if (message !== problem) news.textContent = message;
    problem = message;
    showState();
  }

  async function poll() {
    showState();
    if (isPolling || isPaused()) return;
    isPolling = true;
    const followed = filters;
    try {
      const first = await page(`/admin/audit?${followed}`, { signal });
      if (followed !== filters) return;
      setProblem("");
      if (!isPaused()) add(first);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof AuthError)) throw error;
      if (followed === filters) setProblem(error.message);
    } finally {
      isPolling = false;
    }
  }

  /** @param {{rows: {id: number}[], next: string | null}} first */
  function add(first) {
    const fresh = first.rows.filter(({ id }) => id > newest);
    if (!fresh.length) return;
    newest = Math.max(...fresh.map(({ id }) => id));
    for (const mark of list.body.querySelectorAll(".new")) mark.remove();
    // If all are new, there may be others between these and the old ones.
    const isGap = fresh.length === first.rows.length;
    list.update(first, isGap || list.body.rows.length > MAX_ROWS ? undefined : fresh);
    for (const { cells } of [...list.body.rows].slice(0, fresh.length)) {
      cells[0].append(h("span", { class: "badge new" }, "New"));
    }
    news.textContent = `${fresh.length} new ${fresh.length === 1 ? "row" : "rows"} at ${CLOCK.format(new Date())}.`;
  }

  const timer = setInterval(poll, POLL_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  input.addEventListener("change", poll);
  document.addEventListener("visibilitychange", poll, { signal });
  addEventListener("online", poll, { signal });
  for (const event of ["focusin", "focusout", "scroll"]) {
    addEventListener(event, () => requestAnimationFrame(showState), { signal, passive: true });
  }
  return {
    element,
    /**
     * Follow what has these filters, unless no row can be new.
     *
     * @param {URLSearchParams} chosen
     * @param {{id: number}[]} rows The first page.
     */
    start(chosen, rows) {
      newest = Math.max(0, ...rows.map(({ id }) => id));
      element.hidden = Date.parse(chosen.get("until") ?? "") <= Date.now();
      filters = element.hidden ? null : chosen;
      input.checked = true;
      news.textContent = "";
      setProblem("");
    },
    stop() {
      filters = null;
      element.hidden = true;
    },
  };
}

/**
 * Whether the reader is among the rows, which must not move then.
 *
 * @param {{element: HTMLElement, body: HTMLElement}} list
 */
function isRead({ element, body }) {
  const selection = getSelection();
  const isSelected = !selection?.isCollapsed && body.contains(selection?.anchorNode ?? null);
  return isSelected || body.getBoundingClientRect().top < 0 || element.contains(document.activeElement);
}
