// Decimals as whole steps: prices are ticks and quantities are lots, as inside of the product.
// Exact up to 2^51 steps, since that is what a JSON number carries.

export class Scale {
  /** @param {string} text one step as an exact decimal such as "0.01" */
  constructor(text) {
    const [whole, fraction = ""] = text.split(".");
    this.digits = fraction.length;
    this.mantissa = Number(whole + fraction);
    this.factor = 10 ** this.digits;
  }

  /** How many steps a number is. */
  of(value) {
    return Math.round((value * this.factor) / this.mantissa);
  }

  /** The exact decimal of steps; BigInt too. */
  text(steps) {
    return decimal(BigInt(steps) * BigInt(this.mantissa), this.digits);
  }

  /** The steps of a text that somebody typed; null where it is none, or no whole number of them. */
  read(text) {
    if (!/^\d{1,15}(\.\d{1,18})?$/.test(text)) return null;
    const [whole, fraction = ""] = text.split(".");
    if (fraction.length > this.digits && /[1-9]/.test(fraction.slice(this.digits))) return null;
    const value = BigInt(whole + fraction.padEnd(this.digits, "0").slice(0, this.digits));
    const mantissa = BigInt(this.mantissa);
    return value % mantissa === 0n ? Number(value / mantissa) : null;
  }
}

/** Write an integer with so many of its digits behind the point. */
export function decimal(value, digits) {
  const sign = value < 0n ? "-" : "";
  const text = String(value < 0n ? -value : value).padStart(digits + 1, "0");
  if (!digits) return sign + text;
  return `${sign}${text.slice(0, -digits)}.${text.slice(-digits)}`;
}

/** Put blanks between thousands of the whole part, as they are easier to read so. */
export function grouped(text) {
  const [whole, fraction] = text.split(".");
  const spaced = whole.replace(/\B(?=(\d{3})+$)/g, "\u202f");
  return fraction === undefined ? spaced : `${spaced}.${fraction}`;
}

/** A short form of a count, for narrow columns: 12 345 678 is 12.3M. */
export function short(text) {
  const value = Number(text);
  if (value < 100_000) return text;
  if (value < 1e6) return `${(value / 1e3).toFixed(0)}k`;
  if (value < 1e9) return `${(value / 1e6).toFixed(value < 1e8 ? 1 : 0)}M`;
  return `${(value / 1e9).toFixed(1)}G`;
}

const clock = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false,
});

/** The time of day of nanoseconds since the epoch, to the millisecond. */
export function timeText(ns) {
  const ms = Math.floor(ns / 1e6);
  return `${clock.format(ms)}.${String(ms % 1000).padStart(3, "0")}`;
}
