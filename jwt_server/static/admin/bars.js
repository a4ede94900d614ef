// @ts-check
/** A drawing of bars over time, with axes, as wide as its place. */

import { s } from "./dom.js";
import { valueTicks } from "./scale.js";

/** Lengths in rem. */
const HEIGHT = 9;
const MARGIN = { left: 2.75, right: 0.75, top: 0.75, bottom: 1.5 };
const TICK = 0.25;

/** Bars that are narrower, in pixels, have no gap between them. */
const MIN_GAPPED = 3;

const NUMBER = new Intl.NumberFormat(undefined, { notation: "compact" });

/** A bar for each bucket, and a cursor. */
export class Bars {
  /** The chosen bucket, if any. @type {number | null} */
  #index = null;
  #cursor = s("rect", { class: "cursor" });
  /** In pixels: the first bar's place, and the distance of two. */
  #left = 0;
  #step = 1;

  /**
   * @param {number[]} values
   * @param {import("./scale.js").Buckets} buckets
   */
  constructor(values, buckets) {
    this.values = values;
    this.buckets = buckets;
    this.svg = s("svg", { "aria-hidden": "true" });
  }

  /**
   * Draw it in a width, in pixels.
   *
   * @param {number} width
   */
  draw(width) {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const height = HEIGHT * rem;
    const right = width - MARGIN.right * rem;
    const [top, bottom] = [MARGIN.top * rem, Math.round(height - MARGIN.bottom * rem)];
    const ticks = valueTicks(Math.max(...this.values));
    this.#left = MARGIN.left * rem;
    this.#step = (right - this.#left) / this.values.length;

    /** @param {number} value */
    const y = (value) => Math.round(bottom - (value / ticks[ticks.length - 1]) * (bottom - top));
    const lines = ticks.flatMap((value) => [
      s("path", { class: "grid", d: `M${this.#left} ${y(value) + 0.5}H${right}` }),
      s("text", { class: "value", x: this.#left - rem / 2, y: y(value), dy: "0.32em" }, NUMBER.format(value)),
    ]);
    // The label of a time near the end would be cut off.
    const times = this.buckets.ticks(this.#step / rem).filter(({ index }) => this.#x(index) < width - 1.5 * rem);
    const labels = times.flatMap(({ index, label }) => [
      s("path", { class: "tick", d: `M${Math.round(this.#x(index)) + 0.5} ${bottom}v${TICK * rem}` }),
      s("text", { class: "time", x: this.#x(index), y: height, dy: "-0.32em" }, label),
    ]);
    const last = this.values.length - 1;
    const bars = this.values.map((value, index) => this.#bar(index, y(value), y(0), index === last));
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    // Beyond the bars, which may hide it.
    this.#cursor.setAttribute("height", String(bottom + TICK * rem));
    this.svg.replaceChildren(
      this.#cursor,
      ...lines,
      s("path", { class: "bars", d: bars.slice(0, last).join("") }),
      s("path", { class: "bars current", d: bars[last] }),
      ...labels,
    );
    this.point(this.#index);
  }

  /**
   * Show the cursor at a bucket, or hide it.
   *
   * @param {number | null} index
   */
  point(index) {
    this.#index = index;
    const width = Math.max(this.#step, 2);
    this.#cursor.setAttribute("display", index === null ? "none" : "inline");
    this.#cursor.setAttribute("x", String(this.#x(index ?? 0) + (this.#step - width) / 2));
    this.#cursor.setAttribute("width", String(width));
  }

  /**
   * Return the bucket that is nearest to a place.
   *
   * @param {number} x In pixels from the left edge.
   */
  indexAt(x) {
    return this.clamp(Math.floor((x - this.#left) / this.#step));
  }

  /** @param {number} index */
  clamp(index) {
    return Math.min(Math.max(index, 0), this.values.length - 1);
  }

  /** @param {number} index */
  #x(index) {
    return this.#left + index * this.#step;
  }

  /**
   * Return the path of a bar, on whole pixels where it is wide enough.
   *
   * @param {number} index
   * @param {number} top
   * @param {number} bottom
   * @param {boolean} isOutlined
   */
  #bar(index, top, bottom, isOutlined) {
    const [left, right] = [this.#x(index), this.#x(index + 1)];
    if (top === bottom) return "";
    if (right - left < MIN_GAPPED) return `M${left} ${bottom}V${top}H${right}V${bottom}z`;
    const inset = isOutlined ? 0.5 : 0;
    return `M${Math.round(left) + inset} ${bottom - inset}V${top + inset}H${Math.round(right) - 1 - inset}V${bottom - inset}z`;
  }
}
