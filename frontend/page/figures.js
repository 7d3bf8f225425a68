// The product's figures as /metrics tells them: read, and kept for a while for small charts.
import { ask } from "./rest.js";
import { Source } from "./source.js";

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([-+0-9.eE]+|NaN|\+Inf)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;
const EVERY_MS = 2_000;
const KEPT = 90;

/** The samples of a text of metrics: name, labels, value; and of which kind each name is. */
export function readMetrics(text) {
  const samples = [];
  const kinds = new Map();
  for (const line of text.split("\n")) {
    if (line.startsWith("# TYPE ")) {
      const [, , name, kind] = line.split(" ");
      kinds.set(name, kind);
    }
    const found = LINE.exec(line);
    if (!found) continue;
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(LABEL)].map(([, name, value]) => [name, value]));
    samples.push({ name: found[1], labels, value: Number(found[3]) });
  }
  return { samples, kinds };
}

/** Asks now and then while it is shown, and keeps what came. */
export class Figures extends Source {
  constructor() {
    super();
    this.series = new Map(); // "name labels" to its newest values, or rates where it is a counter
    this.before = null;
    this.samples = [];
    this.problem = "";
  }

  open() {
    this.timer = setInterval(() => document.visibilityState === "visible" && this.look(), EVERY_MS);
    this.look();
    return () => clearInterval(this.timer);
  }

  async look() {
    try {
      const { samples, kinds } = readMetrics(await ask("/metrics"));
      this.take(samples, kinds, performance.now());
      this.problem = "";
    } catch (error) {
      this.problem = error.message;
    }
    this.changed();
  }

  take(samples, kinds, nowMs) {
    const values = new Map();
    for (const { name, labels, value } of samples) {
      const key = keyOf(name, labels);
      values.set(key, value);
      const counts = kinds.get(name) === "counter";
      const old = this.before?.values.get(key);
      if (counts && old === undefined) continue;
      // A process that began anew counts from nothing: that is no negative rate.
      const shown = counts ? Math.max(0, value - old) / ((nowMs - this.before.ms) / 1000) : value;
      const kept = this.series.get(key) ?? [];
      kept.push(shown);
      if (kept.length > KEPT) kept.shift();
      this.series.set(key, kept);
    }
    for (const key of this.series.keys()) if (!values.has(key)) this.series.delete(key);
    this.before = { values, ms: nowMs };
    this.samples = samples;
    this.kinds = kinds;
  }

  of(name, labels) {
    return this.series.get(keyOf(name, labels)) ?? [];
  }
}

function keyOf(name, labels) {
  return `${name} ${Object.entries(labels).map(([label, value]) => `${label}=${value}`).join(" ")}`;
}
