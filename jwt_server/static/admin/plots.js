// @ts-check
/** The plots of the overview: one for each action that is counted, with one cursor for all. */

import { Bars } from "./bars.js";
import { h } from "./dom.js";
import { Buckets } from "./scale.js";

/** What is counted, by the action of the audit log. */
export const SERIES = {
  signed_in: "Sign-ins",
  sign_in_failed: "Failed sign-ins",
  locked_out: "Lockouts",
  signed_up: "Sign-ups",
  refresh_token_reused: "Reused refresh tokens",
};

export const ACTIONS = /** @type {Action[]} */ (Object.keys(SERIES));

export const NUMBER = new Intl.NumberFormat();

/**
 * @typedef {keyof typeof SERIES} Action
 * @typedef {{since: string, bucket_seconds: number, series: Record<Action, number[]>}} Stats
 * @typedef {(index: number | null) => void} Select Chooses a bucket in all plots, or none.
 */

/**
 * Make the plots.
 *
 * @param {Stats} stats
 * @param {AbortSignal} signal Ends them.
 */
export function createPlots(stats, signal) {
  const buckets = new Buckets(stats);
  /** @type {number | null} */
  let chosen = null;
  /** @type {Select} */
  const select = (index) => {
    if (index !== chosen) plots.forEach((plot) => plot.select(index));
    chosen = index;
  };
  const plots = ACTIONS.map((action) => new Plot(action, stats.series[action], buckets, select));
  const observer = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      plots.find(({ slider }) => slider === target)?.bars.draw(contentRect.width);
    }
  });
  for (const { slider } of plots) observer.observe(slider);
  signal.addEventListener("abort", () => observer.disconnect());
  const grid = h("div", { class: "plots" }, ...plots.map(({ figure }) => figure));
  grid.addEventListener("pointerleave", ({ pointerType }) => pointerType === "mouse" && select(null));
  return grid;
}

/** A plot is a slider, so that screen readers say the value that the arrow keys choose. */
class Plot {
  /** @type {number | null} */
  #index = null;
  #link = h("a");

  /**
   * @param {Action} action
   * @param {number[]} values
   * @param {Buckets} buckets
   * @param {Select} select
   */
  constructor(action, values, buckets, select) {
    this.action = action;
    this.values = values;
    this.buckets = buckets;
    this.sum = NUMBER.format(values.reduce((sum, value) => sum + value, 0));
    this.bars = new Bars(values, buckets);
    const attributes = {
      class: `plot ${action}`,
      role: "slider",
      tabindex: 0,
      "aria-label": SERIES[action],
      "aria-describedby": "plots-hint",
      "aria-valuemin": 0,
      "aria-valuemax": values.length - 1,
    };
    this.slider = h("div", attributes, this.bars.svg);
    this.slider.addEventListener("pointermove", (event) => select(this.#indexAt(event)));
    this.slider.addEventListener("click", (event) => this.#click(event, select));
    this.slider.addEventListener("keydown", (event) => this.#press(event, select));
    const title = h("figcaption", {}, h("h3", {}, SERIES[action]), h("span", {}, this.sum));
    this.figure = h("figure", { class: "card" }, title, this.slider, h("p", { class: "readout" }, this.#link));
    this.select(null);
  }

  /** @type {Select} */
  select(index) {
    this.#index = index;
    const { count } = this.buckets;
    const [first, end] = index === null ? [0, count] : [index, index + 1];
    const query = new URLSearchParams({ action: this.action, ...this.buckets.filters(first, end) });
    const text = index === null ? null : `${this.buckets.name(index)}: ${NUMBER.format(this.values[index])}`;
    this.#link.textContent = text ?? "List in the audit log";
    this.#link.ariaLabel = `${SERIES[this.action]}: ${this.#link.textContent}`;
    this.#link.href = `#/audit?${query}`;
    this.slider.ariaValueNow = String(index ?? count - 1);
    this.slider.ariaValueText = text ?? `${this.sum} in all`;
    this.bars.point(index);
  }

  /** @param {MouseEvent} event @param {Select} select */
  #click(event, select) {
    const isTouch = event instanceof PointerEvent && event.pointerType === "touch";
    // A finger has not shown the value before.
    if (isTouch) select(this.#indexAt(event));
    else this.#link.click();
  }

  /** @param {MouseEvent} event */
  #indexAt({ clientX }) {
    return this.bars.indexAt(clientX - this.slider.getBoundingClientRect().left);
  }

  /** @param {KeyboardEvent} event @param {Select} select */
  #press(event, select) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Enter") this.#link.click();
    const { count, isDaily } = this.buckets;
    const before = this.#index ?? count;
    const page = isDaily ? 7 : 24;
    /** @type {Record<string, number>} */
    const targets = {
      ArrowLeft: before - 1,
      ArrowDown: before - 1,
      ArrowRight: before + 1,
      ArrowUp: before + 1,
      PageDown: before - page,
      PageUp: before + page,
      Home: 0,
      End: count - 1,
    };
    if (event.key === "Escape") select(null);
    if (!(event.key in targets)) return;
    event.preventDefault();
    select(this.bars.clamp(targets[event.key]));
  }
}
