// One book as its stream tells it: a snapshot, then changes, each held against the one before it.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
  return c;
});
const CHECKED = 10;

function crc32(text) {
  let c = 0xffffffff;
  for (let i = 0; i < text.length; i++) c = TABLE[(c ^ text.charCodeAt(i)) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

export class Book {
  constructor(prices, lots) {
    this.prices = prices;
    this.lots = lots;
    this.clear();
  }

  clear() {
    this.sides = { bids: new Map(), asks: new Map() };
    this.sequence = 0;
    this.checksum = null;
    this.timestamp = 0;
    this.known = false;
    this.sorted = null;
  }

  /** Take a message; false where something before it was missed. */
  apply(message) {
    if (message.type === "snapshot") {
      this.clear();
      this.known = true;
    } else if (!this.known || message.previous !== this.sequence) {
      return false;
    }
    for (const name of ["bids", "asks"]) {
      const side = this.sides[name];
      for (const [price, quantity, count] of message[name]) {
        const ticks = this.prices.of(price);
        const lots = this.lots.of(quantity);
        if (lots) side.set(ticks, { ticks, lots, count });
        else side.delete(ticks);
      }
    }
    this.sequence = message.sequence;
    this.checksum = message.checksum;
    this.timestamp = message.timestamp;
    this.sorted = null;
    return true;
  }

  /** Both sides, best first. */
  levels() {
    this.sorted ??= {
      bids: [...this.sides.bids.values()].sort((a, b) => b.ticks - a.ticks),
      asks: [...this.sides.asks.values()].sort((a, b) => a.ticks - b.ticks),
    };
    return this.sorted;
  }

  /** Whether the book is what the product says it is. */
  sound() {
    if (!this.known) return true;
    const { bids, asks } = this.levels();
    const best = [...bids.slice(0, CHECKED), ...asks.slice(0, CHECKED)];
    return crc32(best.map((level) => `${level.ticks}:${level.lots}`).join(",")) === this.checksum;
  }

  /** The levels of a side in steps of `group` ticks, with what is there up to each: bids round
   * down and asks up, so that nothing looks better than it is. */
  grouped(name, group) {
    const found = new Map();
    let total = 0;
    for (const level of this.levels()[name]) {
      const ticks = (name === "bids" ? Math.floor : Math.ceil)(level.ticks / group) * group;
      total += level.lots;
      const row = found.get(ticks) ?? { ticks, lots: 0, count: 0, total: 0 };
      row.lots += level.lots;
      row.count += level.count;
      row.total = total;
      found.set(ticks, row);
    }
    return found;
  }
}
