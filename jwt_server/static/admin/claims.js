// @ts-check
/** The field for custom claims, which is validated while it is typed. */

import { h, visibleJson } from "./dom.js";
import { field } from "./forms.js";

const MAX_BYTES = 1024;
const MAX_DEPTH = 4;
/** Registered claims, and those of the service. */
const RESERVED =
  "iss sub aud exp nbf iat jti sid admin auth_time amr acr azp scope client_id cnf act typ".split(" ");

/**
 * @param {unknown} value
 * @returns {number}
 */
function depth(value) {
  if (typeof value !== "object" || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depth));
}

/** Names and other strings, numbers, and the ends of objects in JSON. */
const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|-?\d[-+.\deE]*|[{}]/g;

/**
 * Return what JSON.parse would change without an error: digits of numbers, and members with equal names.
 *
 * @param {string} text Valid JSON.
 */
function lossOf(text) {
  /** The names of each object that is open. @type {Set<string>[]} */
  const open = [];
  for (const [token, string, colon] of text.matchAll(TOKEN)) {
    if (token === "{") open.push(new Set());
    else if (token === "}") open.pop();
    else if (string && colon) {
      const names = open.at(-1);
      if (names?.has(JSON.parse(string))) return `${string} is there twice.`;
      names?.add(JSON.parse(string));
    } else if (!string) {
      const sent = JSON.stringify(Number(token));
      if (/^-?\d{16,}$/.test(token) || sent === "null") return "Write numbers of more than 15 digits as strings.";
      if (sent !== token) return `${token} would be saved as ${sent}. Write ${sent}, or a string.`;
    }
  }
  return "";
}

/** @param {unknown} claims */
const size = (claims) => new TextEncoder().encode(JSON.stringify(claims)).length;

/**
 * Return claims, or the problem with them.
 *
 * @param {string} text
 * @returns {{claims: object, problem: string}}
 */
function parse(text) {
  let claims;
  try {
    claims = text.trim() ? JSON.parse(text) : {};
  } catch (error) {
    return { claims: {}, problem: `This is not JSON: ${error instanceof Error ? error.message : error}` };
  }
  return { claims, problem: problemOf(claims) || lossOf(text) };
}

/** @param {unknown} claims */
function problemOf(claims) {
  if (typeof claims !== "object" || claims === null || Array.isArray(claims)) return "Write a JSON object: { … }.";
  const reserved = Object.keys(claims).filter((each) => RESERVED.includes(each.toLowerCase()));
  if (reserved.length) return `Reserved for the service or by standards: ${reserved.join(", ")}.`;
  const bytes = size(claims);
  if (bytes > MAX_BYTES) return `${bytes} bytes of compact JSON; at most ${MAX_BYTES} are allowed.`;
  return depth(claims) > MAX_DEPTH ? `Nested more than ${MAX_DEPTH} deep.` : "";
}

/**
 * Make the field. `read` returns the claims, or null after it has shown what is wrong with them.
 *
 * @param {string} label
 * @param {object} claims
 */
export function claimsField(label, claims) {
  const shown = Object.keys(claims).length ? visibleJson(claims) : "";
  const attributes = { name: "claims", rows: 5, dir: "ltr", spellcheck: "false", autocapitalize: "none", autocomplete: "off" };
  const control = h("textarea", attributes, shown);
  const hint = "A JSON object, whose members go into the user’s access tokens from the next sign-in or refresh on.";
  const made = field(label, control, hint);
  control.addEventListener("input", () => made.setError(parse(control.value).problem));
  return {
    ...made,
    /** Note that what the field has is not only typed. */
    setSaved() {
      control.defaultValue = control.value;
    },
    read() {
      const { claims: read, problem } = parse(control.value);
      made.setError(problem);
      if (problem) control.focus();
      return problem ? null : read;
    },
  };
}
