// @ts-check
/** The axes of the plots: which values and times are marked, and how a time is written. */

/** The smallest distance of two labels of the time axis, in rem. */
const LABEL_REM = 4;

const DATE = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const HOUR = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const UTC_DATE = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: "UTC" });
const UTC_MONTH = new Intl.DateTimeFormat(undefined, { month: "short", timeZone: "UTC" });
const UTC_DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeZone: "UTC" });
const SPAN = new Intl.DateTimeFormat(undefined, {
  weekday: "short", day: "numeric", month: "short", hour: "numeric", minute: "2-digit",
});

/**
 * A way to mark times: which ones, and how they are written.
 *
 * @typedef {{marks: (time: Date) => boolean, write: (time: Date) => string}} Level
 */

/** @param {Date} time */
const writeHour = (time) => (time.getHours() === 0 ? DATE : HOUR).format(time);

/** The finest first. Hours are of this device's time zone. @type {Level[]} */
const HOUR_LEVELS = [1, 3, 6, 12, 24, 48].map((hours) => ({
  marks: (time) => (time.getDate() * 24 + time.getHours()) % hours === 0,
  write: writeHour,
}));

/** The finest first. Days are of UTC, as the service counts them. @type {Level[]} */
const DAY_LEVELS = [
  { marks: () => true, write: (time) => UTC_DATE.format(time) },
  { marks: (time) => time.getUTCDay() === 1, write: (time) => UTC_DATE.format(time) },
  { marks: (time) => [1, 15].includes(time.getUTCDate()), write: (time) => UTC_DATE.format(time) },
  { marks: (time) => time.getUTCDate() === 1, write: (time) => UTC_MONTH.format(time) },
  {
    marks: (time) => time.getUTCDate() === 1 && time.getUTCMonth() % 3 === 0,
    write: (time) => UTC_MONTH.format(time),
  },
];

/** Buckets of equal length, which the service counts in; the last one is still counting. */
export class Buckets {
  /** @param {{since: string, bucket_seconds: number, series: Record<string, number[]>}} stats */
  constructor({ since, bucket_seconds, series }) {
    this.start = Date.parse(since);
    this.ms = 1000 * bucket_seconds;
    this.count = Object.values(series)[0].length;
    this.isDaily = bucket_seconds >= 86_400;
  }

  /** Return the time at which a bucket begins. @param {number} index */
  at(index) {
    return new Date(this.start + index * this.ms);
  }

  /** Return the times of some buckets as the audit log's filters. @param {number} first @param {number} end */
  filters(first, end) {
    const [since, until] = [first, end].map((index) => this.at(index).toISOString().replace(".000Z", "Z"));
    return { since, until };
  }

  /** Name a bucket, such as "Tue 27 Jan, 14:00 – 15:00". @param {number} index */
  name(index) {
    const start = this.at(index);
    const text = this.isDaily ? UTC_DAY.format(start) : SPAN.formatRange(start, this.at(index + 1));
    return index === this.count - 1 ? `${text}, so far` : text;
  }

  /**
   * Return the buckets to mark on an axis, with their labels.
   *
   * @param {number} rems The length of a bucket on the axis.
   */
  ticks(rems) {
    const levels = this.isDaily ? DAY_LEVELS : HOUR_LEVELS;
    for (const level of levels) {
      const marked = [...Array(this.count).keys()].filter((index) => level.marks(this.at(index)));
      const distances = marked.slice(1).map((index, before) => index - marked[before]);
      if (level !== levels.at(-1) && Math.min(...distances) * rems < LABEL_REM) continue;
      return marked.map((index) => ({ index, label: level.write(this.at(index)) }));
    }
    return [];
  }
}

/**
 * Return the values to mark on an axis from 0 to at least `max`, which are whole numbers.
 *
 * @param {number} max
 */
export function valueTicks(max) {
  const rough = Math.max(max, 1) / 3;
  const power = 10 ** Math.max(0, Math.floor(Math.log10(rough)));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  return [...Array(Math.ceil(Math.max(max, 1) / step) + 1).keys()].map((index) => index * step);
}
