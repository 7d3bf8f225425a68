// Candles with volume: live from the tape, and older ones as they are scrolled to. Those of less than
// a minute are made here of trades, since the product has none.
import { axis, colour, priceAxis, sizeOf } from "./plot.js";
import { ask } from "./rest.js";

export const INTERVALS = ["1s", "5s", "15s", "1m", "5m", "15m", "30m", "1h", "4h", "1d"];

const SECONDS = { "1s": 1, "5s": 5, "15s": 15, "1m": 60, "5m": 300, "15m": 900, "30m": 1_800, "1h": 3_600, "4h": 14_400, "1d": 86_400 };
const PAGE = 300;
const MOST = 5_000;
const SHOWN = 90;
const DRAW_MS = 400;

export class CandleChart {
  constructor(box, market, interval) {
    this.box = box;
    this.market = market;
    this.interval = interval;
    this.step = SECONDS[interval];
    this.candles = []; // time in s, open, high, low, close, volume
    this.follows = true;
    this.width = SHOWN;
    this.listener = (rows) => this.add(rows);
    market.tradeListeners.add(this.listener);
    this.plot = new uPlot(this.options(), [[], [], [], [], [], []], box);
    this.load();
    this.drawing = setInterval(() => this.changed && this.draw(), DRAW_MS);
    this.listen();
  }

  options() {
    return {
      ...sizeOf(this.box),
      padding: [8, 0, 0, 0],
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, y: true, points: { show: false } },
      scales: {
        x: { time: true, range: () => this.range() },
        y: { range: (u, min, max) => padded(min, max, this.market) },
        v: { range: (u, min, max) => [0, (max || 1) * 4] },
      },
      axes: [axis({ size: 22, values: (u, splits, n, space, step) => timeTexts(splits, step) }), priceAxis(this.market, "y")],
      series: [{}, ...["open", "high", "low", "close"].map(() => ({ scale: "y", paths: () => null, points: { show: false } })),
        { scale: "v", paths: () => null, points: { show: false } }],
      hooks: { drawAxes: [(u) => this.paint(u)], setCursor: [(u) => this.tell(u)] },
    };
  }

  /** How many candles wide it is: as far as there are some. */
  get shown() {
    return Math.min(this.width, Math.max(24, this.candles.length + 4));
  }

  /** From when to when candles are shown. */
  range() {
    const last = this.candles.at(-1)?.[0] ?? Math.floor(Date.now() / 1000);
    if (this.follows || this.right === undefined) this.right = last + 3 * this.step;
    return [this.right - this.shown * this.step, this.right];
  }

  async load(to) {
    if (this.loading || this.whole) return;
    this.loading = true;
    try {
      const rows = await (this.step < 60 ? this.ofTrades(to) : this.ofCandles(to));
      if (to) {
        const first = this.candles[0]?.[0] ?? Infinity;
        const older = rows.filter((row) => row[0] < first);
        this.whole = !older.length || this.candles.length + older.length > MOST;
        this.candles = [...older, ...this.candles];
      } else {
        const [begin, end] = [rows[0]?.[0] ?? Infinity, rows.at(-1)?.[0] ?? 0];
        this.candles = [...this.candles.filter((row) => row[0] < begin), ...rows, ...this.candles.filter((row) => row[0] > end && row[0] >= begin)];
      }
      this.changed = true;
    } catch { /* it is asked again when one scrolls */ }
    this.loading = false;
  }

  async ofCandles(to) {
    const query = { symbol: this.market.symbol, interval: this.interval, limit: PAGE, to };
    const { candles } = await ask("/candles", query);
    return candles.map((c) => [c.timestamp / 1e9, c.open, c.high, c.low, c.close, c.volume]);
  }

  /** Candles of a page of trades; the oldest one may lack some that the next page has. */
  async ofTrades(to) {
    const query = { symbol: this.market.symbol, limit: 1_000, to };
    const { trades } = await ask("/trades", query);
    const rows = [];
    for (const trade of trades.reverse()) {
      this.put(rows, Math.floor(trade.timestamp / 1e9 / this.step) * this.step, trade.price, trade.quantity);
    }
    if (trades.length === 1_000 && rows.length > 1) rows.shift();
    return rows;
  }

  /** Take a trade into the newest of some candles. */
  put(candles, time, price, size) {
    const last = candles.at(-1);
    if (last && last[0] === time) {
      last[2] = Math.max(last[2], price);
      last[3] = Math.min(last[3], price);
      last[4] = price;
      last[5] += size;
    } else if (!last || time > last[0]) {
      candles.push([time, price, price, price, price, size]);
    }
  }

  /** Take trades into the newest candle; what was loaded may have the first of them already. */
  add(rows) {
    for (const { ns, ticks, lots } of rows) {
      const time = Math.floor(ns / 1e9 / this.step) * this.step;
      const price = Number(this.market.prices.text(ticks));
      const size = Number(this.market.lots.text(lots));
      const last = this.candles.at(-1);
      if (last && time > last[0] && this.step >= 60) this.settle();
      this.put(this.candles, time, price, size);
    }
    if (this.candles.length > 2 * MOST) this.candles.splice(0, MOST);
    this.changed = true;
  }

  /** When a candle has ended it is read once more, as the product has it. */
  settle() {
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.load(), 1_500);
  }

  draw() {
    this.changed = false;
    if (document.visibilityState !== "visible" || !this.box.clientWidth) {
      this.changed = true;
      return;
    }
    const columns = [0, 1, 2, 3, 4, 5].map((n) => this.candles.map((row) => row[n]));
    this.plot.setData(columns);
    const { length } = this.candles;
    this.box.dataset.candles = String(length);
    this.box.dataset.close = length ? String(this.candles[length - 1][4]) : "";
  }

  paint(u) {
    const { ctx } = u;
    const [first, last] = u.series[0].idxs ?? [];
    if (first == null) return; // nothing of it is in view
    const wide = Math.max(1, (u.bbox.width / this.shown) * 0.7);
    const base = u.valToPos(0, "v", true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    ctx.clip();
    const [up, down] = [colour("buy"), colour("sell")];
    for (let n = first; n <= last && n < this.candles.length; n++) {
      const [time, open, high, low, close, volume] = this.candles[n];
      const x = u.valToPos(time + this.step / 2, "x", true);
      const y = (value) => u.valToPos(value, "y", true);
      ctx.fillStyle = close >= open ? up : down;
      ctx.globalAlpha = 0.3;
      const top = u.valToPos(volume, "v", true);
      ctx.fillRect(x - wide / 2, top, wide, base - top);
      ctx.globalAlpha = 1;
      ctx.fillRect(Math.round(x) - 0.5, y(high), 1, Math.max(1, y(low) - y(high)));
      const [above, below] = [y(Math.max(open, close)), y(Math.min(open, close))];
      // What rose is hollow, as far as there is room: colour is not all that tells it.
      if (close >= open && below - above > 4 && wide > 4) {
        ctx.clearRect(x - wide / 2 + 1, above + 1, wide - 2, below - above - 2);
        ctx.strokeStyle = up;
        ctx.strokeRect(x - wide / 2 + 0.5, above + 0.5, wide - 1, below - above - 1);
      } else {
        ctx.fillRect(x - wide / 2, above, wide, Math.max(1, below - above));
      }
    }
    ctx.restore();
  }

  tell(u) {
    const row = this.candles[u.cursor.idx ?? -1];
    const digits = Math.min(this.market.prices.digits, 8);
    this.box.title = row ? `O ${row[1].toFixed(digits)} H ${row[2].toFixed(digits)} L ${row[3].toFixed(digits)} C ${row[4].toFixed(digits)} volume ${row[5]}` : "";
  }

  // In time -------------------------------------------------------------------------------------

  move(share) {
    this.range();
    const last = this.candles.at(-1)?.[0] ?? 0;
    this.right = Math.min(this.right + share * this.shown * this.step, last + 3 * this.step);
    this.follows = this.right >= last + 3 * this.step;
    const left = this.right - this.shown * this.step;
    if (this.candles.length && left < this.candles[0][0]) this.load(Math.round(this.candles[0][0] * 1e9));
    this.changed = true;
  }

  toEnd() {
    this.follows = true;
    this.changed = true;
  }

  zoom(by) {
    this.width = Math.min(1_000, Math.max(10, this.shown * by));
    this.move(0);
  }

  listen() {
    const { over } = this.plot;
    over.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.move((event.deltaX || event.deltaY) / 800);
      else this.zoom(event.deltaY > 0 ? 1.15 : 0.87);
    }, { passive: false });
    over.addEventListener("pointerdown", (event) => {
      over.setPointerCapture(event.pointerId);
      let x = event.clientX;
      const drag = (next) => {
        this.move((x - next.clientX) / over.clientWidth);
        x = next.clientX;
      };
      over.addEventListener("pointermove", drag);
      over.addEventListener("pointerup", () => over.removeEventListener("pointermove", drag), { once: true });
    });
  }

  fit() {
    this.plot.setSize(sizeOf(this.box));
  }

  repaint() {
    this.plot.redraw(false, true);
  }

  close() {
    clearInterval(this.drawing);
    clearTimeout(this.settling);
    this.market.tradeListeners.delete(this.listener);
    this.plot.destroy();
  }
}

/** Times on one line: a day where one begins, else hours and minutes, and seconds where they differ. */
function timeTexts(splits, step) {
  return splits.map((time) => {
    const date = new Date(time * 1000);
    const two = (n) => String(n).padStart(2, "0");
    if (step >= 86_400 || (date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0)) return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
    const text = `${two(date.getHours())}:${two(date.getMinutes())}`;
    return step < 60 ? `${text}:${two(date.getSeconds())}` : text;
  });
}

function padded(min, max, market) {
  if (min === null || max === null) return [0, 1];
  const tick = Number(market.prices.text(1));
  const room = Math.max((max - min) * 0.08, tick * 2);
  return [min - room - (max - min) * 0.2, max + room];
}
