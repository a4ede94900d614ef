// @ts-check
/** Elements made from text, never from HTML; names and times as readers see them. */

/**
 * @typedef {string | number | Node | null | undefined | false | Child[]} Child
 * @typedef {Record<string, string | number | boolean | null | undefined | EventListener>} Attributes
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an HTML element. Attributes that begin with `on` are listeners; true sets an attribute without a
 * value, while false, null and undefined set none.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {Child[]} children Text, elements, and lists of these; null, undefined and false are skipped.
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/**
 * Make an SVG element, as `h` does.
 *
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {Child[]} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/**
 * @template {Element} T
 * @param {T} element
 * @param {Attributes} attributes
 * @param {Child[]} children
 * @returns {T}
 */
function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, String(value));
  }
  element.append(...nodes(children));
  return element;
}

/**
 * @param {Child} child
 * @returns {(string | Node)[]}
 */
function nodes(child) {
  if (Array.isArray(child)) return child.flatMap(nodes);
  if (child === null || child === undefined || child === false) return [];
  return [child instanceof Node ? child : String(child)];
}

/** Control, format, unassigned and zero-width characters, and spaces that look like U+0020 or like nothing. */
const INVISIBLE = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u00a0\u1680\u2000-\u200a\u202f\u205f\u2800\u3000]/u;
const MARK = /\p{M}/u;
/** Combining marks on one base; more would be drawn over the lines above and below. */
const MAX_MARKS = 4;

/**
 * Split a text into visible parts and single characters that can't be seen, or not where they stand.
 *
 * @param {string} text
 * @returns {{text: string, isHidden: boolean}[]}
 */
function parts(text) {
  /** @type {{text: string, isHidden: boolean}[]} */
  const found = [];
  let marks = MAX_MARKS;
  for (const character of text) {
    const isMark = MARK.test(character);
    const isHidden = INVISIBLE.test(character) || (isMark && marks >= MAX_MARKS);
    const last = found.at(-1);
    if (isHidden || !last || last.isHidden) found.push({ text: character, isHidden });
    else last.text += character;
    if (isMark && !isHidden) marks++;
    else if (!isMark) marks = isHidden || character === " " ? MAX_MARKS : 0;
  }
  return found;
}

/** @param {string} character */
const codePoint = (character) => (character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0");

/**
 * Show a text that somebody has chosen: isolated from the direction of its surroundings, with
 * invisible characters as code points, such as `U+202E`.
 *
 * @param {string} text
 */
export function name(text) {
  const shown = parts(text).map((part) =>
    part.isHidden ? h("span", { class: "codepoint" }, `U+${codePoint(part.text)}`) : part.text,
  );
  return h("bdi", { class: "name" }, shown);
}

/**
 * Return the text of `name`, for attributes and titles.
 *
 * @param {string} text
 */
export function plainName(text) {
  return name(text).textContent ?? "";
}

/**
 * Return JSON that shows invisible characters as escapes, which JSON.parse reads.
 *
 * @param {unknown} value
 */
export function visibleJson(value) {
  const escaped = (/** @type {string} */ character) =>
    Array.from({ length: character.length }, (_, index) => character.charCodeAt(index))
      .map((unit) => `\\u${unit.toString(16).padStart(4, "0")}`)
      .join("");
  const shown = parts(JSON.stringify(value, null, 2));
  return shown.map(({ text, isHidden }) => (isHidden && text !== "\n" ? escaped(text) : text)).join("");
}

const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

/**
 * Show a time in the reader's locale and zone.
 *
 * @param {string | null | undefined} iso
 * @param {string} [otherwise] Shown without a time.
 */
export function time(iso, otherwise = "Never") {
  if (!iso) return h("span", { class: "quiet" }, otherwise);
  const date = new Date(iso);
  return h("time", { datetime: iso, title: EXACT.format(date) }, TIME.format(date));
}

/**
 * Set the title of the page.
 *
 * @param {string} text
 */
export function setTitle(text) {
  document.title = `${text} – jwt-server`;
}

/**
 * Return an element of admin.html.
 *
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`#${id} is missing`);
  return element;
}
