// Times and sales of the chosen symbol, newest first, with the side of the one who came.
import { html, useEffect } from "./vendor/preact-htm.js";
import { grouped, timeText } from "./scale.js";
import { useLive } from "./source.js";
import { state } from "./state.js";

const ROWS = 60;

export function Tape({ market }) {
  useLive(market, state.link);
  useEffect(() => market.use(), [market]);
  const rows = market.tape.slice(-ROWS).reverse();
  const old = state.link.stale || state.downShards.has(market.shard);
  return html`<section class=${`panel tape ${old ? "old" : ""}`} data-part="tape" aria-label="Tape">
    <h2>Tape <b>${market.symbol}</b>${state.link.spare ? html` <span class="tag">sampled</span>` : null}</h2>
    <div class="scroll" tabindex="0" role="group" aria-label="Trades, newest first">
      <table id="tape">
        <thead><tr><th scope="col">Time</th><th scope="col" class="num">Price</th><th scope="col" class="num">Size</th><th scope="col">Taker</th></tr></thead>
        <tbody>${rows.map((row) => html`<tr key=${row.id} data-id=${row.id} class=${row.side}>
          <td>${timeText(row.ns)}</td><td class="num">${market.prices.text(row.ticks)}</td>
          <td class="num">${grouped(market.lots.text(row.lots))}</td><td>${row.side === "buy" ? "▲ buy" : "▼ sell"}</td></tr>`)}</tbody>
      </table>
      ${rows.length ? null : html`<p class="none">No trade yet</p>`}
    </div>
  </section>`;
}
