// All that the page knows, put together: link, markets, the user's account, and what was told.
import { Account } from "./account.js";
import { Link } from "./link.js";
import { Market } from "./market.js";
import { ask, useKey } from "./rest.js";
import { settings } from "./settings.js";
import { Source } from "./source.js";

const READY_MS = 2_000;
const MAX_WATCHED = 100;
const NEWS = 60;
const ARMED_MS = 10 * 60_000;

class State extends Source {
  constructor() {
    super();
    this.link = new Link();
    this.markets = new Map();
    this.symbol = null;
    this.account = null;
    this.keyed = null; // whether this product asks for keys
    this.down = []; // what is not ready, in the product's words
    this.downShards = new Set();
    this.armed = false;
    this.view = "trade";
    this.section = "ladder";
    this.news = [];
    this.newsSource = new Source();
    this.fields = null;
    this.version_ = "";
    this.link.listeners.add(() => this.link.open || this.arm(false));
  }

  async start() {
    const spec = await ask("/openapi.json");
    this.description = spec;
    this.version_ = spec.info.version;
    this.changed();
    try {
      await this.open();
    } catch (error) {
      if (error.code !== "UNAUTHORIZED") throw error;
      this.keyed = true;
      this.changed();
    }
    setInterval(() => document.visibilityState === "visible" && this.askReady(), READY_MS);
  }

  /** Read what is traded, and connect. */
  async open(key = "") {
    const { symbols, default_symbol: first } = await ask("/symbols", { numbers: "string" });
    this.keyed ??= false;
    for (const view of symbols) this.markets.set(view.symbol, new Market(view, this.link));
    const kept = settings.get("panes").filter((symbol) => this.markets.has(symbol));
    this.symbol = kept[0] ?? first ?? symbols[0]?.symbol ?? null;
    if (!kept.length && this.symbol) settings.set("panes", [this.symbol]);
    else settings.set("panes", kept);
    this.link.connect(key);
    for (const market of [...this.markets.values()].slice(0, MAX_WATCHED)) market.watch();
    this.askReady();
    this.changed();
  }

  /** Be somebody: by a key where the product has keys, else by name alone. */
  async enter(userId, key = "") {
    if (key) {
      useKey(key);
      try {
        await this.open(key);
        userId = await this.link.user; // whose the key is
      } catch (error) {
        useKey("");
        throw error;
      }
    }
    this.account?.close();
    this.account = userId ? new Account(userId, this.link, this.markets, (kind, text) => this.tell(kind, text)) : null;
    this.arm(false);
    this.changed();
  }

  async askReady() {
    try {
      await ask("/ready");
      this.setDown([]);
    } catch (error) {
      this.setDown(error.details?.down ?? (error.code === "NOT_READY" ? [error.message] : []));
    }
  }

  setDown(down) {
    if (down.join() === this.down.join()) return;
    if (!down.length) this.tell("good", "every shard serves again");
    else this.tell("bad", `not ready: ${down.join("; ")}`);
    this.down = down;
    this.downShards = new Set(down.flatMap((text) => /^matcher (\d+):/.exec(text)?.[1] ?? []).map(Number));
    this.changed();
  }

  get market() {
    return this.markets.get(this.symbol) ?? null;
  }

  /** Show a symbol: in the first pane, or beside the others. */
  show(symbol, beside = false) {
    if (!this.markets.has(symbol)) return;
    const panes = settings.get("panes");
    if (beside && !panes.includes(symbol)) settings.set("panes", [...panes, symbol].slice(-6));
    else if (!panes.includes(symbol)) settings.set("panes", panes.map((s) => (s === this.symbol ? symbol : s)));
    this.symbol = symbol;
    this.changed();
  }

  hide(symbol) {
    const panes = settings.get("panes").filter((s) => s !== symbol);
    if (!panes.length) return;
    settings.set("panes", panes);
    if (this.symbol === symbol) this.symbol = panes[0];
    this.changed();
  }

  arm(on) {
    if (on && !this.account) {
      this.tell("bad", "trading needs a user: press u");
      return;
    }
    clearTimeout(this.disarming);
    if (on) this.disarming = setTimeout(() => this.arm(false), ARMED_MS);
    if (on !== this.armed) {
      this.armed = on;
      this.tell("plain", on ? "armed: a click on the ladder sends an order" : "not armed");
      this.changed();
    }
  }

  set(name, value) {
    this[name] = value;
    this.changed();
  }

  /** Tell the user something: shown, and read out. Kinds: good, bad, plain. */
  tell(kind, text) {
    this.news.unshift({ kind, text, ns: Date.now() * 1e6, number: (this.news[0]?.number ?? 0) + 1 });
    this.news.length = Math.min(this.news.length, NEWS);
    this.newsSource.changed();
  }
}

export const state = new State();
