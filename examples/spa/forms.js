/** Forms and messages: each error is shown beside the field that it is about, and read out. */

/**
 * Send a form's fields when it is submitted, one request at a time.
 *
 * @param {HTMLFormElement} form
 * @param {(fields: Record<string, string>) => Promise<void>} send
 */
export function onSubmit(form, send) {
  addErrorLines(form);
  form.addEventListener("reset", () => showErrors(form, {}));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.getAttribute("aria-busy") === "true") return;
    form.setAttribute("aria-busy", "true");
    try {
      await send(Object.fromEntries(new FormData(form)));
      form.reset();
    } catch (error) {
      // The user may have been signed out meanwhile.
      if (form.getClientRects().length) showErrors(form, error.errors ?? {}, messageOf(error));
      else say(messageOf(error));
    } finally {
      form.setAttribute("aria-busy", "false");
    }
  });
}

/** @param {Error} error */
export function messageOf(error) {
  return error instanceof TypeError ? "The service can’t be reached." : error.message;
}

const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

let hiding = 0;

/**
 * Show a message at the bottom of the page, which screen readers read out.
 *
 * @param {string} text
 */
export function say(text) {
  clearTimeout(hiding);
  document.getElementById("status").textContent = text;
  hiding = setTimeout(say, 8000, "");
}

/**
 * Run a button's action when it is pressed, and show its error.
 *
 * @param {HTMLElement} button
 * @param {() => Promise<void>} action
 */
export function onPress(button, action) {
  let isRunning = false;
  button.addEventListener("click", async () => {
    if (isRunning) return;
    isRunning = true;
    try {
      await action();
    } catch (error) {
      say(messageOf(error));
    } finally {
      isRunning = false;
    }
  });
}

/**
 * Remove a row, and move the focus that was in it to the nearest one.
 *
 * @param {HTMLElement} row
 * @param {HTMLElement} otherwise What gets the focus if there is no other row.
 */
export function removeRow(row, otherwise) {
  const nearest = row.nextElementSibling ?? row.previousElementSibling;
  row.remove();
  (nearest?.querySelector("button:not([hidden])") ?? otherwise).focus();
}

/**
 * @param {HTMLTimeElement} element
 * @param {string} time In ISO 8601.
 */
export function showTime(element, time) {
  element.dateTime = time;
  element.textContent = TIME.format(new Date(time));
}

const fieldsOf = (form) => form.querySelectorAll("input:not([hidden])");

function addErrorLines(form) {
  const summary = errorLine(form, "alert");
  form.querySelector(":scope > button, :scope > .buttons").before(summary);
  for (const field of fieldsOf(form)) {
    const line = errorLine(field);
    field.after(line);
    field.setAttribute("aria-describedby", `${line.id} ${summary.id}`);
  }
}

function errorLine({ id }, role = null) {
  const line = document.createElement("p");
  line.id = `${id}-error`;
  line.className = "error";
  line.role = role;
  return line;
}

/**
 * Show messages by field, or one for the whole form, and focus the first invalid field.
 *
 * @param {HTMLFormElement} form
 * @param {Record<string, string[]>} errors
 * @param {string} [message]
 */
export function showErrors(form, errors, message = "") {
  const invalid = [...fieldsOf(form)].filter(({ name }) => errors[name]);
  for (const field of fieldsOf(form)) {
    field.setAttribute("aria-invalid", String(invalid.includes(field)));
    document.getElementById(`${field.id}-error`).textContent = (errors[field.name] ?? []).join(" ");
  }
  document.getElementById(`${form.id}-error`).textContent = invalid.length ? "" : message;
  invalid[0]?.focus();
}
