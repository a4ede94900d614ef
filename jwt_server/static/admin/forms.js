// @ts-check
/** Forms: labelled fields, one request at a time, and each error beside the field that it is about. */

import { h } from "./dom.js";
import { AuthError, isTemporary } from "./service.js";
import { say } from "./status.js";

/**
 * @typedef {HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement} Control
 * @typedef {import("./dom.js").Child} Child
 * @typedef {object} Field
 * @property {HTMLElement} element The field with its label, hint and error.
 * @property {Control} control
 * @property {(message: string) => void} setError An empty message takes the error back.
 */

/** Fields that errors without any are about. @type {Record<string, string>} */
const FIELD_OF_CODE = { username_taken: "username", wrong_password: "password", password_weak: "password" };

let fields = 0;

/**
 * Add label, hint and error to a control with a name.
 *
 * @param {string} label
 * @param {Control} control
 * @param {Child} [hint]
 * @returns {Field}
 */
export function field(label, control, hint) {
  const id = `field-${++fields}`;
  control.id = id;
  const error = h("p", { id: `${id}-error`, class: "error" });
  const help = hint ? h("p", { id: `${id}-hint`, class: "hint" }, hint) : null;
  control.setAttribute("aria-describedby", [help?.id, error.id].filter(Boolean).join(" "));
  const isCheckbox = control.type === "checkbox";
  const text = h("label", { for: id }, label);
  const parts = isCheckbox ? [h("div", { class: "check" }, control, text)] : [text, control];
  return {
    element: h("div", { class: "field" }, parts, help, error),
    control,
    setError(message) {
      error.textContent = message;
      if (message) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    },
  };
}

/**
 * Make a form that sends its fields when it is submitted.
 *
 * @param {object} options
 * @param {Field[]} options.fields
 * @param {Child} options.buttons
 * @param {(superseded: AbortSignal) => Promise<void>} options.send
 * @param {string} [options.label] Its name for screen readers.
 * @param {Child} [options.intro]
 * @param {boolean} [options.isSuperseding] Whether a submit aborts the one that is running, instead of being ignored.
 */
export function form({ fields, buttons, send, label, intro, isSuperseding }) {
  const summary = h("div", { role: "alert" });
  const element = h(
    "form",
    { novalidate: true, "aria-label": label },
    intro,
    fields.map((each) => each.element),
    summary,
    h("div", { class: "buttons" }, buttons),
  );
  let running = new AbortController();
  const submit = async () => {
    if (element.ariaBusy === "true" && !isSuperseding) return;
    running.abort();
    running = new AbortController();
    const { signal } = running;
    element.ariaBusy = "true";
    summary.replaceChildren();
    for (const each of fields) each.setError("");
    const view = viewTitle();
    try {
      await send(signal);
    } catch (error) {
      showError(fields, summary, error, () => element.requestSubmit());
      if (!element.checkVisibility()) sayProblem(view, error);
    } finally {
      if (!signal.aborted) element.ariaBusy = "false";
    }
  };
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  return element;
}

/**
 * @param {Field[]} fields
 * @param {HTMLElement} summary
 * @param {unknown} error
 * @param {() => void} again
 */
function showError(fields, summary, error, again) {
  const { code = "", message = "", errors: byField = {} } = error instanceof AuthError ? error : {};
  const about = FIELD_OF_CODE[code];
  const errors = about ? { [about]: [message], ...byField } : byField;
  const wrong = fields.filter(({ control }) => errors[control.name]);
  for (const each of wrong) each.setError(errors[each.control.name].join(" "));
  wrong[0]?.control.focus();
  if (!wrong.length) showProblem(summary, error, again);
}

/**
 * Show the message of an error, with a button to try again if that may help. An aborted request shows nothing,
 * because its view was left, or a newer request has superseded it.
 *
 * @param {HTMLElement} place
 * @param {unknown} error
 * @param {() => void} again
 * @param {boolean} [isRetryable]
 */
export function showProblem(place, error, again, isRetryable = error instanceof AuthError && isTemporary(error)) {
  if (error instanceof DOMException && error.name === "AbortError") return;
  if (!(error instanceof AuthError)) throw error;
  const button = h("button", { type: "button", onclick: () => (place.replaceChildren(), again()) }, "Try again");
  place.replaceChildren(h("div", { class: "error summary" }, h("p", {}, error.message), isRetryable && button));
}

/** Return the heading of the view, such as the name of a user. */
const viewTitle = () => document.querySelector("main h1")?.textContent;

/**
 * Say the message of an error whose view was left, or whose dialog was closed.
 *
 * @param {string | undefined} view
 * @param {unknown} error
 */
function sayProblem(view, error) {
  if (error instanceof AuthError) say(h("bdi", {}, view), `: ${error.message}`);
}

/**
 * Make a button with an action; its error is shown beside it.
 *
 * @param {Child} label
 * @param {() => Promise<void>} act
 * @param {import("./dom.js").Attributes} [attributes]
 */
export function action(label, act, attributes = {}) {
  const problem = h("div", { role: "alert" });
  const button = h("button", { type: "button", ...attributes }, label);
  const press = async () => {
    if (button.ariaBusy === "true") return;
    button.ariaBusy = "true";
    problem.replaceChildren();
    const view = viewTitle();
    try {
      await act();
    } catch (error) {
      showProblem(problem, error, press);
      if (!button.checkVisibility()) sayProblem(view, error);
    } finally {
      button.ariaBusy = "false";
    }
  };
  button.addEventListener("click", press);
  return { element: h("div", { class: "action" }, button, problem), button };
}
