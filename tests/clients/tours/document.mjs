// A document for frameworks that render, in addition to page.mjs.
import "./page.mjs";
import { parseHTML } from "linkedom";

export const { window } = parseHTML("<!doctype html><html><body></body></html>");
const { document, Element } = window;
Object.assign(globalThis, { window, document, Element, SVGElement: class {} });
window.location = location;

/** Return a new element of the body. */
export const newElement = () => document.body.appendChild(document.createElement("div"));

/** Return the texts of elements once all that waits has run. */
export async function textsOf(elements) {
  await new Promise((resolve) => setTimeout(resolve));
  return elements.map((element) => element.textContent);
}
