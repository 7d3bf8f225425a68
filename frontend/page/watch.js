// The watch list: every symbol with its last price, best prices and the day's change.
import { html, useState } from "./vendor/preact-htm.js";
import { settings } from "./settings.js";
import { short } from "./scale.js";
import { useCalm, useLive } from "./source.js";
import { state } from "./state.js";

const SHOWN = 100;
const ARROWS = { 1: "▲", "-1": "▼" };

function changeText(hundredths) {
  if (hundredths === null) return "–";
  const sign = hundredths > 0 ? "+" : hundredths < 0 ? "−" : "";
  return `${sign}${(Math.abs(hundredths) / 100).toFixed(2)}%`;
}

function Row({ market, number, shown, chosen }) {
  useCalm(market.glance);
  const { ticker, prices, lots } = market;
  const price = (value) => (value ? prices.text(prices.of(value.price)) : "–");
  const last = market.lastTicks === undefined ? "–" : prices.text(market.lastTicks);
  const { change } = market;
  const way = market.moved > 0 ? "up" : market.moved < 0 ? "down" : "";
  const volume = market.day ? short(String(Math.round(Number(lots.text(lots.of(market.day.volume)))))) : "–";
  return html`<tr data-symbol=${market.symbol} class=${`${chosen ? "chosen" : ""} ${state.downShards.has(market.shard) ? "old" : ""}`}>
    <th scope="row"><button type="button" class="plain" aria-pressed=${String(chosen)} title=${`${number <= 9 ? `Key ${number}. ` : ""}Shift: beside the others`}
      onClick=${(event) => state.show(market.symbol, event.shiftKey)}>${market.symbol}</button></th>
    <td class=${`num ${way}`}><span class="arrow" aria-hidden="true">${ARROWS[Math.sign(market.moved ?? 0)] ?? ""}</span>${last}</td>
    <td class=${`num ${change > 0 ? "up" : change < 0 ? "down" : ""}`}>${changeText(change)}</td>
    <td class="num wide">${price(ticker?.best_bid)}</td>
    <td class="num wide">${price(ticker?.best_ask)}</td>
    <td class="num wide">${volume}</td>
    <td><button type="button" class="plain small" aria-label=${shown ? `Close ${market.symbol}` : `${market.symbol} beside the others`} title=${shown ? "Close this one" : "Beside the others"}
      onClick=${() => (shown ? state.hide(market.symbol) : state.show(market.symbol, true))}>${shown ? "−" : "+"}</button></td>
  </tr>`;
}

export function Watch() {
  const [wanted, want] = useState("");
  useLive(state, settings);
  const all = [...state.markets.values()];
  const found = all.filter((market) => market.symbol.toLowerCase().includes(wanted.toLowerCase())).slice(0, SHOWN);
  const panes = settings.get("panes");
  const enter = (event) => {
    if (event.key === "Enter" && found.length) {
      state.show(found[0].symbol, event.shiftKey);
      want("");
      event.target.blur();
    }
  };
  return html`<section class="panel watch" data-part="watch" aria-label="Watch list">
    <h2>Symbols</h2>
    <input id="find" type="search" placeholder="find ( / )" aria-label="Find a symbol" value=${wanted}
      onInput=${(event) => want(event.target.value)} onKeyDown=${enter} />
    <div class="scroll" tabindex="0" role="group" aria-label="Symbols">
      <table>
        <thead><tr><th scope="col">Symbol</th><th scope="col" class="num">Last</th><th scope="col" class="num">24 h</th>
          <th scope="col" class="num wide">Bid</th><th scope="col" class="num wide">Ask</th><th scope="col" class="num wide">Volume</th><th scope="col"><span class="unseen">Beside</span></th></tr></thead>
        <tbody>${found.map((market) => html`<${Row} key=${market.symbol} market=${market} number=${all.indexOf(market) + 1}
          shown=${panes.includes(market.symbol)} chosen=${market.symbol === state.symbol} />`)}</tbody>
      </table>
    </div>
  </section>`;
}
