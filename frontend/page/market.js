// One symbol as the page knows it: its book, its tape, its ticker, and whether all of it is whole.
import { Book } from "./book.js";
import { ask } from "./rest.js";
import { Scale } from "./scale.js";
import { Source } from "./source.js";

const TAPE = 400;
const FIRST_TRADES = 500;
const SAMPLE_MS = 700;
const CHECK_MS = 1_000;
const DAY_MS = 60_000;

export class Market extends Source {
  constructor(view, link) {
    super();
    this.view = view;
    this.symbol = view.symbol;
    this.shard = view.shard;
    this.prices = new Scale(String(view.tick_size));
    this.lots = new Scale(String(view.lot_size));
    this.minTicks = this.prices.read(String(view.min_price)) ?? 1;
    this.maxTicks = this.prices.read(String(view.max_price)) ?? Number.MAX_SAFE_INTEGER;
    this.link = link;
    this.book = new Book(this.prices, this.lots);
    this.ticker = null;
    this.day = null;
    this.glance = new Source(); // what the watch list shows of it
    this.users = 0;
    this.gaps = 0;
    this.problem = "";
    this.tradeListeners = new Set();
    this.forgetTrades();
  }

  forgetTrades() {
    this.tape = [];
    this.volumes = new Map();
    this.lastId = 0;
    this.told = 0;
    this.waiting = [];
    this.last = null;
  }

  /** The value of `lots` at `ticks`, as an exact decimal; both may be BigInt products. */
  value(ticksLots) {
    const digits = this.prices.digits + this.lots.digits;
    const whole = BigInt(ticksLots) * BigInt(this.prices.mantissa) * BigInt(this.lots.mantissa);
    const sign = whole < 0n ? "-" : "";
    const text = String(whole < 0n ? -whole : whole).padStart(digits + 1, "0");
    const cut = digits ? `${text.slice(0, -digits)}.${text.slice(-digits)}` : text;
    return sign + cut.replace(/(\.\d\d\d*?)0+$/, "$1");
  }

  // Ticker: for as long as the page is open ---------------------------------------------------

  watch() {
    this.link.listen("ticker", this.symbol, (message) => {
      if (message.type === "ticker") {
        this.ticker = message;
        if (message.last_price !== null) {
          const ticks = this.prices.of(message.last_price);
          this.moved = this.lastTicks === undefined ? 0 : Math.sign(ticks - this.lastTicks) || this.moved;
          this.lastTicks = ticks;
        }
        this.glance.changed();
      }
    });
    this.readDay();
    setInterval(() => document.visibilityState === "visible" && this.readDay(), DAY_MS);
  }

  async readDay() {
    try {
      this.day = await ask("/ticker", { symbol: this.symbol });
      this.glance.changed();
    } catch { /* it is asked again */ }
  }

  /** The last 24 hours' change, in hundredths of a percent; null where that is not known. */
  get change() {
    if (!this.day || this.day.open_price === null || this.lastTicks === undefined) return null;
    const open = this.prices.of(this.day.open_price);
    return Math.round(((this.lastTicks - open) * 10_000) / open);
  }

  // Book and tape: while somebody looks -------------------------------------------------------

  /** Follow book and trades until the function returned is called. */
  use() {
    this.users += 1;
    if (this.users === 1) this.follow();
    return () => {
      this.users -= 1;
      if (this.users === 0) this.leave();
    };
  }

  follow() {
    const endDepth = this.link.listen("depth", this.symbol, (message) => this.takeDepth(message));
    let endTrades = null;
    const followTrades = () => {
      if (this.link.spare || endTrades) return;
      endTrades = this.link.listen("trades", this.symbol, (message) => this.takeTrades(message));
    };
    followTrades();
    const sampling = setInterval(() => {
      if (this.link.spare) {
        endTrades?.();
        endTrades = null;
        if (this.link.open && !this.loading && document.visibilityState === "visible") this.loadTrades();
      } else followTrades();
    }, SAMPLE_MS);
    const checking = setInterval(() => this.check(), CHECK_MS);
    this.leave = () => {
      endDepth();
      endTrades?.();
      clearInterval(sampling);
      clearInterval(checking);
      this.book.clear();
      this.forgetTrades();
    };
  }

  takeDepth(message) {
    if (message.type === "link") {
      if (message.state !== "open") this.book.known = false;
    } else if (message.type === "failed") {
      this.problem = message.error.message;
    } else if (message.type === "subscribed") {
      return; // the snapshot comes next
    } else if (!this.book.apply(message)) {
      if (!this.book.known) return; // a snapshot is on its way
      this.gap();
    } else {
      this.problem = "";
    }
    this.changed();
  }

  gap() {
    this.gaps += 1;
    this.book.known = false;
    this.link.again("depth", this.symbol);
  }

  check() {
    if (this.book.known && !this.book.sound()) {
      this.gap();
      this.changed();
    }
  }

  takeTrades(message) {
    if (message.type === "link") {
      if (message.state !== "open") this.told = 0;
      return;
    }
    if (message.type === "subscribed" || message.type === "failed") this.loadTrades();
    if (message.type !== "trades") return;
    const missed = this.told && message.previous && message.previous !== this.told;
    this.told = message.trades.at(-1).trade_id;
    if (this.loading) {
      if (this.waiting.length < TAPE) this.waiting.push(...message.trades);
    } else {
      this.addTrades(message.trades);
    }
    if (missed) {
      this.gaps += 1;
      this.loadTrades();
    }
  }

  /** Take what has been traded up to now, and what has come meanwhile. */
  async loadTrades() {
    this.loadAgain = Boolean(this.loading); // what is under way was asked for before
    if (this.loading) return;
    this.loading = true;
    this.waiting = [];
    try {
      const limit = this.lastId ? 200 : FIRST_TRADES;
      const found = (await ask("/trades", { symbol: this.symbol, limit })).trades.reverse();
      if (this.lastId && found.length && found[0].trade_id > this.lastId && !this.link.spare) {
        this.gaps += this.tape.length ? 1 : 0; // more was traded than this shows
      }
      this.addTrades(found);
    } catch { /* the stream goes on; what is older is missing */ }
    this.loading = false;
    const waiting = this.waiting;
    this.waiting = [];
    this.addTrades(waiting);
    if (this.loadAgain) this.loadTrades();
  }

  addTrades(trades) {
    const news = trades.filter((trade) => trade.trade_id > this.lastId);
    if (!news.length) return;
    for (const trade of news) {
      const row = {
        id: trade.trade_id,
        ticks: this.prices.of(trade.price),
        lots: this.lots.of(trade.quantity),
        side: trade.taker_side,
        ns: trade.timestamp,
      };
      this.tape.push(row);
      this.volumes.set(row.ticks, (this.volumes.get(row.ticks) ?? 0) + row.lots);
      this.last = row;
    }
    this.lastId = this.last.id;
    if (this.tape.length > 2 * TAPE) this.tape.splice(0, this.tape.length - TAPE);
    if (this.volumes.size > 20_000) this.volumes = new Map([...this.volumes].slice(-10_000));
    for (const listener of this.tradeListeners) listener(this.tape.slice(-news.length));
    this.changed();
  }
}
