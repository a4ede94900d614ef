// @ts-check
/** The name and the custom claims of a user. */

import { claimsField } from "./claims.js";
import { byId, h, name, plainName } from "./dom.js";
import { field, form } from "./forms.js";
import { say } from "./status.js";

/** @typedef {import("./user.js").Subject} Subject */

/** @param {Subject} subject */
export function nameCard(subject) {
  const control = h("input", {
    name: "username", value: subject.get().username, autocomplete: "off", autocapitalize: "none", spellcheck: "false",
  });
  const hint = h("span");
  const showInvisible = () => {
    const isVisible = plainName(control.value) === control.value;
    hint.replaceChildren(...(isVisible ? [] : ["With invisible characters: ", name(control.value)]));
  };
  control.addEventListener("input", showInvisible);
  showInvisible();
  const element = form({
    label: "Name",
    fields: [field("Username", control, hint)],
    buttons: h("button", {}, "Rename"),
    async send() {
      const user = await subject.send("PATCH", "", { username: control.value });
      subject.set(user);
      control.value = control.defaultValue = user.username;
      showInvisible();
      if (subject.isSelf()) byId("who").replaceChildren(name(user.username));
      say("Renamed to ", name(user.username), ".");
    },
  });
  return h("section", { class: "card" }, h("h2", {}, "Name"), element);
}

/** @param {Subject} subject */
export function claimsCard(subject) {
  const claims = claimsField("Claims as JSON", subject.get().claims);
  const element = form({
    label: "Custom claims",
    fields: [claims],
    buttons: h("button", {}, "Save claims"),
    async send() {
      const read = claims.read();
      if (!read) return;
      subject.set(await subject.send("PATCH", "", { claims: read }));
      claims.setSaved();
      say("The claims of ", name(subject.get().username), " were saved.");
    },
  });
  return h("section", { class: "card" }, h("h2", {}, "Custom claims"), element);
}
