// @ts-check
/** What was typed and is not saved. */

/** Forms with text to save; filters are kept in the address. */
const FORMS = "form:not([class*=filters])";
const CONTROLS = ":is(input:not([type=checkbox], [type=password]), textarea)";

/** Whether something was typed that is not saved. */
export function hasDraft() {
  /** @type {NodeListOf<HTMLInputElement | HTMLTextAreaElement>} */
  const controls = document.querySelectorAll(`${FORMS} ${CONTROLS}`);
  return [...controls].some(({ value, defaultValue }) => value !== defaultValue);
}

/** Ask whether to leave the view, if that discards a draft, or a password that is shown only once. */
export function mayLeave() {
  const isNeeded = hasDraft() || document.querySelector(".secret");
  return !isNeeded || window.confirm("Leave and discard what is not saved?");
}

/** Discard what was typed, because it is about something that was deleted. */
export function discardDrafts() {
  /** @type {NodeListOf<HTMLFormElement>} */
  const forms = document.querySelectorAll(FORMS);
  for (const form of forms) form.reset();
}
