// What the user has: orders, fills, positions.
import { html, useState } from "./vendor/preact-htm.js";
import { cancel, cancelAll } from "./acts.js";
import { showDialog } from "./dialogs.js";
import { grouped, timeText } from "./scale.js";
import { useCalm, useLive } from "./source.js";
import { state } from "./state.js";

const SHOWN = 200;
const SIDES = { buy: "▲ buy", sell: "▼ sell" };

const words = (text) => (text ?? "").replaceAll("_", " ").toLowerCase();

function Table({ name, heads, rows, none }) {
  return html`<div class="scroll" tabindex="0" role="group" aria-label=${name}>
    <table id=${name.toLowerCase()}>
      <thead><tr>${heads.map(([text, kind]) => html`<th scope="col" class=${kind ?? ""}>${text || html`<span class="unseen">Act</span>`}</th>`)}</tr></thead>
      <tbody>${rows}</tbody></table>
    ${rows.length ? null : html`<p class="none">${none}</p>`}</div>`;
}

function Orders({ account }) {
  const open = [...account.orders.values()].sort((a, b) => b.order_id - a.order_id).slice(0, SHOWN);
  const price = (order, ticks) => (ticks === null || ticks === undefined ? "–" : state.markets.get(order.symbol)?.prices.text(ticks));
  const row = (order, ended) => html`<tr key=${`${order.order_id} ${ended}`} data-id=${order.order_id} class=${`${order.side} ${ended ? "past" : ""}`}>
    <td>${timeText(order.timestamp)}</td><td>${order.symbol}</td><td>${SIDES[order.side]}</td><td>${words(order.order_type) || (ended ? "–" : "…")}</td>
    <td class="num">${grouped(String(order.quantity))}</td><td class="num">${price(order, order.ticks)}</td><td class="num">${price(order, order.stop)}</td>
    <td class="num">${grouped(String(order.filled_quantity))}</td><td class="num">${ended ? "–" : grouped(String(order.remaining_quantity))}</td><td>${words(order.status)}</td>
    <td>${ended ? null : html`<button type="button" class="plain small" aria-label=${`Cancel order ${order.order_id}`} onClick=${() => cancel(order)}>✕</button>`}</td></tr>`;
  const rows = [...open.map((order) => row(order, false)), ...account.ended.slice(0, 50).map((order) => row(order, true))];
  return html`<${Table} name="Orders" none="No order is open" rows=${rows} heads=${[["Time"], ["Symbol"], ["Side"], ["Type"], ["Quantity", "num"], ["Price", "num"],
    ["Stop", "num"], ["Filled", "num"], ["Open", "num"], ["State"], [""]]} />`;
}

function Fills({ account }) {
  const rows = account.fills.slice(0, SHOWN).map((fill) => {
    const market = state.markets.get(fill.symbol);
    return html`<tr key=${fill.key} data-id=${fill.id} class=${fill.side}><td>${timeText(fill.ns)}</td><td>${fill.symbol}</td><td>${SIDES[fill.side]}</td>
      <td class="num">${grouped(market.lots.text(fill.lots))}</td><td class="num">${market.prices.text(fill.ticks)}</td>
      <td>${fill.liquidity ?? ""}</td><td class="num">${fill.id}</td><td class="num">${fill.orderId}</td></tr>`;
  });
  return html`<${Table} name="Fills" none="Nothing was traded" rows=${rows}
    heads=${[["Time"], ["Symbol"], ["Side"], ["Quantity", "num"], ["Price", "num"], ["As"], ["Trade", "num"], ["Order", "num"]]} />`;
}

function Positions({ account }) {
  useCalm(...[...account.positions.keys()].map((symbol) => state.markets.get(symbol).glance));
  const rows = [...account.positions].map(([symbol, position]) => {
    const market = state.markets.get(symbol);
    const { lots } = position;
    const size = lots < 0n ? -lots : lots;
    const average = size ? market.prices.text((position.cost * 2n + lots) / (lots * 2n)) : "–";
    const open = market.lastTicks === undefined ? null : position.open(market.lastTicks);
    const money = (value) => (value === null ? "–" : `${value > 0n ? "+" : ""}${market.value(value)}`);
    const way = (value) => (value > 0n ? "up" : value < 0n ? "down" : "");
    return html`<tr key=${symbol} data-symbol=${symbol}><td>${symbol}</td><td>${lots > 0n ? "long" : lots < 0n ? "short" : "flat"}</td>
      <td class="num">${grouped(market.lots.text(size))}</td><td class="num">${average}</td>
      <td class="num">${market.lastTicks === undefined ? "–" : market.prices.text(market.lastTicks)}</td>
      <td class=${`num ${way(open)}`}>${money(open)}</td><td class=${`num ${way(position.realised)}`}>${money(position.realised)}</td>
      <td>${size ? html`<button type="button" class="small" onClick=${() => showDialog("flatten", symbol)}>Flatten</button>` : null}</td></tr>`;
  });
  return html`<${Table} name="Positions" none="No position" rows=${rows}
    heads=${[["Symbol"], ["Way"], ["Quantity", "num"], ["Average", "num"], ["Last", "num"], ["Open profit", "num"], ["Realised", "num"], [""]]} />`;
}

const TABS = [["orders", "Orders"], ["fills", "Fills"], ["positions", "Positions"]];

export function Blotter() {
  const [tab, setTab] = useState("orders");
  const { account } = state;
  useLive(state, ...(account ? [account] : []));
  state.showTab = setTab;
  const count = { orders: account?.orders.size ?? 0, fills: account?.fills.length ?? 0, positions: account?.positions.size ?? 0 };
  const { symbol } = state;
  return html`<section class=${`panel blotter ${state.link.stale ? "old" : ""}`} data-part="blotter" aria-label="Orders, fills, positions">
    <h2 class="tabs">${TABS.map(([name, text]) => html`<button key=${name} type="button" class="plain" aria-pressed=${String(tab === name)} onClick=${() => setTab(name)}>${text} <small>${count[name]}</small></button>`)}
      ${account && !account.whole ? html`<span class="tag warn">older ones are not shown</span>` : null}
      ${account?.failed ? html`<span class="tag bad">${account.failed}</span>` : null}
      ${account ? html`<span class="end group" role="group" aria-label="Cancel">
        <button type="button" class="small" onClick=${() => cancelAll(symbol, "buy")} title=${`All buy orders of ${symbol}`}>✕ buys</button>
        <button type="button" class="small" onClick=${() => cancelAll(symbol, "sell")} title=${`All sell orders of ${symbol}`}>✕ sells</button>
        <button type="button" class="small" onClick=${() => cancelAll(symbol)} title="Shift+X">✕ ${symbol}</button>
        <button type="button" class="small" onClick=${() => showDialog("cancel")}>✕ all</button></span>` : null}
    </h2>
    ${account ? (tab === "orders" ? html`<${Orders} account=${account} />` : tab === "fills" ? html`<${Fills} account=${account} />` : html`<${Positions} account=${account} />`)
      : html`<p class="none">Read-only: press <kbd>u</kbd> to say who trades</p>`}
  </section>`;
}
