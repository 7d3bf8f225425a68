// The chosen symbol's candles and depth.
import { html, useEffect, useLayoutEffect, useRef } from "./vendor/preact-htm.js";
import { CandleChart, INTERVALS } from "./candles.js";
import { DepthChart } from "./depth_chart.js";
import { settings } from "./settings.js";
import { useLive } from "./source.js";


/** A chart in an element: made, fitted and ended with it. */
function useChart(Kind, market, ...more) {
  const box = useRef();
  const chart = useRef();
  useLayoutEffect(() => {
    chart.current = new Kind(box.current, market, ...more);
    const watch = new ResizeObserver(() => chart.current?.fit());
    watch.observe(box.current);
    const theme = () => chart.current?.repaint();
    settings.listeners.add(theme);
    return () => {
      watch.disconnect();
      settings.listeners.delete(theme);
      chart.current.close();
      chart.current = null;
    };
  }, [market, ...more]);
  return [box, chart];
}

function Candles({ market, interval }) {
  const [box, chart] = useChart(CandleChart, market, interval);
  const press = (event) => {
    const by = { ArrowLeft: -0.1, ArrowRight: 0.1, PageUp: -0.8, PageDown: 0.8 }[event.key];
    if (by) chart.current.move(by);
    else if (event.key === "End") chart.current.toEnd();
    else if (event.key === "+" || event.key === "-") chart.current.zoom(event.key === "+" ? 0.8 : 1.25);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return html`<div class="plot candles" ref=${box} tabindex="0" role="img" onKeyDown=${press}
    aria-label=${`Candles of ${market.symbol}, ${interval}; arrows move in time, plus and minus zoom, End goes to now`}></div>`;
}

function Depth({ market }) {
  const [box] = useChart(DepthChart, market);
  return html`<div class="plot depth" ref=${box} role="img" aria-label=${`Depth of ${market.symbol}`}></div>`;
}

export function Charts({ market }) {
  useLive(settings);
  useEffect(() => market.use(), [market]);
  const interval = INTERVALS.includes(settings.get("interval")) ? settings.get("interval") : "1m";
  return html`<section class="panel charts" data-part="chart" aria-label="Charts">
    <h2>Candles <b>${market.symbol}</b> <span class="end group" role="group" aria-label="Interval">
      ${INTERVALS.map((name) => html`<button key=${name} type="button" class="plain small" aria-pressed=${String(name === interval)}
        onClick=${() => settings.set("interval", name)}>${name}</button>`)}</span></h2>
    <${Candles} key=${`${market.symbol} ${interval}`} market=${market} interval=${interval} />
    <h2>Depth <span class="quiet">cumulative</span></h2>
    <${Depth} key=${market.symbol} market=${market} />
  </section>`;
}
