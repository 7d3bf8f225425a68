// The book's depth: how much there is up to each price, bids to the left and asks to the right.
import { axis, colour, priceAxis, sizeOf } from "./plot.js";
import { short } from "./scale.js";

const DRAW_MS = 400;

export class DepthChart {
  constructor(box, market) {
    this.box = box;
    this.market = market;
    this.version = -1;
    const stepped = (align) => uPlot.paths.stepped({ align });
    const side = (name, align) => ({
      scale: "y", paths: stepped(align), points: { show: false }, width: 1.5,
      stroke: () => colour(name), fill: () => `${colour(name)}33`,
    });
    this.plot = new uPlot({
      ...sizeOf(box),
      padding: [8, 12, 0, 12],
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { show: false } },
      scales: { x: { time: false }, y: { range: (u, min, max) => [0, (max || 1) * 1.1] } },
      axes: [
        axis({ size: 22, values: priceAxis(market).values, space: 80 }),
        axis({ scale: "y", side: 1, size: 52, values: (u, splits) => splits.map((value) => short(String(value))) }),
      ],
      series: [{}, side("buy", -1), side("sell", 1)],
    }, [[], [], []], box);
    this.drawing = setInterval(() => this.draw(), DRAW_MS);
    this.draw();
  }

  draw() {
    const { market } = this;
    if (market.version === this.version || document.visibilityState !== "visible" || !this.box.clientWidth) return;
    this.version = market.version;
    const columns = [[], [], []];
    const { bids, asks } = market.book.levels();
    const sums = (levels) => {
      let sum = 0;
      return levels.map(({ ticks, lots }) => [Number(market.prices.text(ticks)), Number(market.lots.text(sum += lots))]);
    };
    for (const [price, sum] of sums(bids).reverse()) columns.forEach((column, n) => column.push([price, sum, null][n]));
    for (const [price, sum] of sums(asks)) columns.forEach((column, n) => column.push([price, null, sum][n]));
    this.plot.setData(columns);
    this.box.dataset.levels = String(bids.length + asks.length);
  }

  fit() {
    this.plot.setSize(sizeOf(this.box));
  }

  repaint() {
    this.plot.redraw(false, true);
  }

  close() {
    clearInterval(this.drawing);
    this.plot.destroy();
  }
}
