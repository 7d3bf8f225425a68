// The WebSocket: made again when it is lost, subscribed again, and measured by pings of ours.
import { Source } from "./source.js";
import { Refused } from "./rest.js";

const PING_MS = 2_000;
const STALE_MS = 5_000;
const RETRY_MS = [250, 500, 1_000, 2_000, 4_000];
const MAX_UNANSWERED = 256;
/** After it was cut off for reading too slowly, trades are sampled for so long. */
const SPARE_MS = 20_000;

export class Link extends Source {
  constructor() {
    super();
    this.state = "connecting"; // open, waiting, refused
    this.latencyMs = null;
    this.heardMs = performance.now();
    this.drops = 0;
    this.reason = "";
    this.spareUntilMs = 0;
    this.key = "";
    this.channels = new Map();
    this.answers = new Map();
    this.nextId = 1;
    this.tries = 0;
    setInterval(() => this.beat(), PING_MS);
    setInterval(() => this.watch(), 500);
  }

  get open() {
    return this.state === "open";
  }

  /** Whether what is shown may be old: nothing has been heard for a while. */
  get stale() {
    return !this.open || performance.now() - this.heardMs > STALE_MS;
  }

  /** Whether trades come faster than this page can take them all. */
  get spare() {
    return performance.now() < this.spareUntilMs;
  }

  connect(key = this.key) {
    this.key = key;
    this.leave();
    this.become("connecting");
    this.user = new Promise((done, fail) => Object.assign(this, { named: done, refuse: fail }));
    this.user.catch(() => {}); // who waits for it is told
    const address = new URL("ws", new URL(".", document.baseURI));
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    this.socket = socket;
    socket.onopen = () => this.begin(socket);
    socket.onmessage = (event) => socket === this.socket && this.take(JSON.parse(event.data));
    socket.onclose = (event) => socket === this.socket && this.lost(event);
  }

  leave() {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    this.fail();
  }

  async begin(socket) {
    this.heardMs = performance.now();
    if (this.key) {
      try {
        this.named((await this.ask({ op: "login", key: this.key })).user_id);
      } catch (error) {
        if (socket !== this.socket) return;
        this.refuse(error);
        this.reason = error.message;
        this.leave();
        this.become("refused");
        return;
      }
    }
    this.tries = 0;
    this.reason = "";
    this.become("open");
    for (const channel of this.channels.values()) this.subscribe(channel);
    this.beat();
  }

  lost(event) {
    this.socket = null;
    this.drops += this.open ? 1 : 0;
    this.reason = event.reason || "the connection was lost";
    if (/^(SLOW_READER|TRADES_LOST)/.test(event.reason)) this.spareUntilMs = performance.now() + SPARE_MS;
    this.fail();
    if (event.reason.startsWith("UNAUTHORIZED")) return this.become("refused");
    this.become("waiting");
    const wait = RETRY_MS[Math.min(this.tries, RETRY_MS.length - 1)];
    this.tries += 1;
    return setTimeout(() => this.state === "waiting" && this.connect(), wait);
  }

  fail() {
    const lost = [...this.answers.values()];
    this.answers.clear();
    for (const answer of lost) answer.fail(new Refused({ code: "LOST", message: "the connection was lost before the answer came: look at the orders" }, 0));
  }

  become(state) {
    this.state = state;
    this.changed();
    for (const channel of this.channels.values()) channel.handler({ type: "link", state });
  }

  take(message) {
    this.heardMs = performance.now();
    const answer = message.id === undefined ? undefined : this.answers.get(message.id);
    if (answer) {
      this.answers.delete(message.id);
      if (message.type === "error") answer.fail(new Refused(message.error, 0));
      else answer.done(message);
    } else if (message.channel) {
      this.channels.get(`${message.channel} ${message.user_id ?? message.symbol}`)?.handler(message);
    }
  }

  /** Send an operation; its answer is what the promise comes to. */
  ask(op) {
    return new Promise((done, fail) => {
      if (this.socket?.readyState !== WebSocket.OPEN) {
        fail(new Refused({ code: "LOST", message: "there is no connection" }, 0));
      } else if (this.answers.size >= MAX_UNANSWERED) {
        fail(new Refused({ code: "BUSY", message: `${MAX_UNANSWERED} requests are unanswered` }, 0));
      } else {
        const id = this.nextId++;
        this.answers.set(id, { done, fail });
        this.socket.send(JSON.stringify({ ...op, id }));
      }
    });
  }

  /** Have a channel's messages handled, over every connection, until the function returned is called. */
  listen(channel, name, handler) {
    const key = `${channel} ${name}`;
    const entry = { channel, name, handler };
    this.channels.set(key, entry);
    if (this.open) this.subscribe(entry);
    return () => {
      this.channels.delete(key);
      if (this.open) this.ask(operation("unsubscribe", entry)).catch(() => {});
    };
  }

  /** Have a channel begin anew, with a snapshot. */
  async again(channel, name) {
    const entry = this.channels.get(`${channel} ${name}`);
    if (!entry || !this.open) return;
    await this.ask(operation("unsubscribe", entry)).catch(() => {});
    this.subscribe(entry);
  }

  subscribe(entry) {
    this.ask(operation("subscribe", entry)).then(
      () => entry.handler({ type: "subscribed" }), // what is read from now on and what is told leave no gap
      (error) => error.code === "LOST" || entry.handler({ type: "failed", error }),
    );
  }

  async beat() {
    if (!this.open) return;
    const begun = performance.now();
    try {
      await this.ask({ op: "ping" });
      this.latencyMs = performance.now() - begun;
      this.changed();
    } catch { /* what is lost is told elsewhere */ }
  }

  /** Tell when what is shown has become old, and give up a connection that says nothing. */
  watch() {
    const stale = this.stale;
    if (stale !== this.wasStale) {
      this.wasStale = stale;
      this.changed();
    }
    if (this.open && performance.now() - this.heardMs > 3 * STALE_MS) {
      this.leave();
      this.lost({ reason: "nothing was heard any more" });
    }
  }
}

function operation(op, { channel, name }) {
  return channel === "orders" ? { op, channel, user_id: name } : { op, channel, symbol: name };
}
