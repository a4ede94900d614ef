// @ts-check
/** Messages outside of the views: one that stays while something is wrong, and one that goes away. */

import { byId, h } from "./dom.js";

/**
 * @typedef {object} Notice
 * @property {string} text
 * @property {string} label Of the button.
 * @property {() => void} act
 */

/** What is wrong, by the code that found it; the newest is shown. @type {Map<unknown, Notice>} */
const notices = new Map();
const SAID_MS = 8000;
let hiding = 0;

/**
 * Say at the top of the page what is wrong, with a button to do something about it, until it is
 * taken back with null.
 *
 * @param {unknown} key Who says it.
 * @param {Notice | null} notice
 */
export function setNotice(key, notice) {
  notices.delete(key);
  if (notice) notices.set(key, notice);
  const place = byId("notice");
  const shown = [...notices.values()].at(-1);
  // Not written again, as it would be read out again.
  if (place.querySelector("p")?.textContent === shown?.text) return;
  const press = () => [...notices.values()].at(-1)?.act();
  const button = () => h("button", { type: "button", onclick: press }, shown?.label);
  place.replaceChildren(...(shown ? [h("p", {}, shown.text), button()] : []));
}

/**
 * Show a message for some seconds, which screen readers read out.
 *
 * @param {import("./dom.js").Child[]} message
 */
export function say(...message) {
  clearTimeout(hiding);
  byId("said").replaceChildren(h("p", {}, message));
  hiding = setTimeout(() => byId("said").replaceChildren(), SAID_MS);
}
