// The user's orders, fills and positions: as the product has them, then as its reports tell.
import { ask } from "./rest.js";
import { Source } from "./source.js";

const PAGE = 1_000;
const PAGES = 10;
const ENDED = 200;
const FILLS = 2_000;
const LOOKUPS_MS = 100;

export class Account extends Source {
  constructor(userId, link, markets, tell) {
    super();
    this.userId = userId;
    this.link = link;
    this.markets = markets;
    this.tell = tell;
    this.orders = new Map();
    this.ended = [];
    this.fills = [];
    this.seenFills = new Set();
    this.positions = new Map();
    this.unknown = new Set();
    this.waiting = null;
    this.whole = true;
    this.end = link.listen("orders", userId, (message) => this.take(message));
    this.lookups = setInterval(() => this.lookUp(), LOOKUPS_MS);
  }

  close() {
    this.end();
    clearInterval(this.lookups);
  }

  take(message) {
    if (message.type === "link") return;
    if (message.type === "subscribed") {
      this.load();
    } else if (message.type === "failed") {
      this.tell("bad", `orders: ${message.error.message}`);
      this.load();
    } else if (this.waiting) {
      this.waiting.push(message);
    } else {
      this.report(message, true);
    }
  }

  /** Take orders and fills as they are, and then what was told meanwhile. */
  async load() {
    this.loadAgain = this.waiting !== null; // what is under way was asked for before
    if (this.waiting) return;
    this.waiting = [];
    try {
      const [open, partial, fills] = await Promise.all([
        this.pages("/orders", "orders", { status: "open" }),
        this.pages("/orders", "orders", { status: "partial" }),
        this.pages("/trades", "trades", {}),
      ]);
      this.orders = new Map([...open, ...partial].map((order) => [order.order_id, this.row(order)]));
      for (const fill of fills.reverse()) this.fill(fill);
      this.failed = "";
    } catch (error) {
      this.failed = error.message;
      setTimeout(() => this.link.open && this.load(), 2_000);
    }
    const waiting = this.waiting;
    this.waiting = null;
    for (const message of waiting) this.report(message, false);
    this.changed();
    if (this.loadAgain) this.load();
  }

  async pages(path, name, more) {
    const found = [];
    let cursor;
    for (let page = 0; page < PAGES; page++) {
      const answer = await ask(path, { user_id: this.userId, limit: PAGE, cursor, ...more });
      found.push(...answer[name]);
      cursor = answer.next ?? undefined;
      if (cursor === undefined) return found;
    }
    this.whole = false;
    return found;
  }

  row(order) {
    const market = this.markets.get(order.symbol);
    const price = order.price ?? null;
    return {
      ...order,
      side: order.side.toLowerCase(),
      ticks: market && price !== null ? market.prices.of(price) : null,
      stop: market && order.stop_price != null ? market.prices.of(order.stop_price) : null,
      lots: market ? market.lots.of(order.quantity) : 0,
      filled: market ? market.lots.of(order.filled_quantity) : 0,
      left: market ? market.lots.of(order.remaining_quantity) : 0,
    };
  }

  report(event, live) {
    const before = this.orders.get(event.order_id);
    const order = { ...before, ...this.row(event) };
    order.entered = before?.entered ?? before?.timestamp ?? event.timestamp;
    if (event.status === "OPEN" || event.status === "PARTIAL") {
      this.orders.set(event.order_id, order);
      if (!order.order_type && this.unknown.size < PAGE) this.unknown.add(event.order_id);
    } else {
      this.orders.delete(event.order_id);
      this.unknown.delete(event.order_id);
      this.ended.unshift(order);
      this.ended.length = Math.min(this.ended.length, ENDED);
    }
    if (event.type === "trade") {
      this.fill({ ...event, side: order.side, price: event.last_price, quantity: event.last_quantity });
      const prices = this.markets.get(event.symbol)?.prices;
      const at = prices ? prices.text(prices.of(event.last_price)) : event.last_price;
      const word = order.side === "buy" ? "bought" : "sold";
      if (live) this.tell("good", `${word} ${event.last_quantity} ${event.symbol} at ${at}`);
    } else if (live && event.type === "cancelled") {
      this.tell("plain", `cancelled: ${order.side} ${order.remaining_quantity || order.quantity} ${event.symbol}`);
    }
    this.changed();
  }

  /** Count a fill once, whoever tells of it. */
  fill(trade) {
    const key = `${trade.trade_id} ${trade.order_id}`;
    const market = this.markets.get(trade.symbol);
    if (this.seenFills.has(key) || !market) return;
    this.seenFills.add(key);
    const fill = {
      key,
      id: trade.trade_id,
      orderId: trade.order_id,
      symbol: trade.symbol,
      side: trade.side,
      ticks: market.prices.of(trade.price),
      lots: market.lots.of(trade.quantity),
      liquidity: trade.liquidity,
      ns: trade.timestamp,
    };
    this.fills.unshift(fill);
    this.fills.length = Math.min(this.fills.length, FILLS);
    const position = this.positions.get(fill.symbol) ?? new Position();
    position.add(fill);
    this.positions.set(fill.symbol, position);
  }

  /** Ask for what a report does not tell of an order that was entered elsewhere: its type. */
  async lookUp() {
    const [id] = this.unknown;
    if (id === undefined || this.waiting) return;
    this.unknown.delete(id);
    try {
      const { order } = await ask(`/orders/${id}`, { user_id: this.userId });
      const present = this.orders.get(id);
      if (present) this.orders.set(id, { ...this.row(order), ...present, order_type: order.order_type });
      this.changed();
    } catch { /* it has ended and is forgotten */ }
  }
}

/** What was bought and sold of a symbol, at average cost. Lots, and ticks times lots, as BigInt. */
export class Position {
  constructor() {
    this.lots = 0n;
    this.cost = 0n;
    this.realised = 0n;
  }

  add({ side, lots, ticks }) {
    const change = BigInt(side === "buy" ? lots : -lots);
    const price = BigInt(ticks);
    const closes = this.lots !== 0n && this.lots > 0n !== change > 0n;
    if (!closes) {
      this.lots += change;
      this.cost += change * price;
      return;
    }
    const size = (n) => (n < 0n ? -n : n);
    const closed = size(change) < size(this.lots) ? -change : this.lots;
    const share = (this.cost * closed) / this.lots;
    this.realised += closed * price - share;
    this.cost -= share;
    this.lots -= closed;
    const rest = change + closed;
    this.lots += rest;
    this.cost += rest * price;
  }

  /** What closing it at a price would bring, in ticks times lots. */
  open(ticks) {
    return this.lots * BigInt(ticks) - this.cost;
  }
}
