// The ladder of one symbol: prices stand still, sizes move; a click is an order once it is armed.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/preact-htm.js";
import { cancel, enter } from "./acts.js";
import { Row } from "./ladder_row.js";
import { grouped } from "./scale.js";
import { settings } from "./settings.js";
import { useLive } from "./source.js";
import { state } from "./state.js";

const ROW_PX = 19;
const GROUPS = [1, 2, 5, 10, 25, 50, 100, 500, 1_000];
const NO_ORDERS = { lots: 0, count: 0 };

/** The middle of what is known, in ticks; the last trade says it only where the book is empty. */
function middle(market) {
  const { bids, asks } = market.book.levels();
  if (bids.length && asks.length) return Math.floor((bids[0].ticks + asks[0].ticks) / 2);
  const best = bids[0]?.ticks ?? asks[0]?.ticks ?? null;
  if (best !== null || !market.book.known) return best;
  return market.last?.ticks ?? market.lastTicks ?? null;
}

/** The user's resting orders of a symbol by side and row, as what the rows show. */
function ownOrders(symbol, group) {
  const own = { buy: new Map(), sell: new Map() };
  for (const order of state.account?.orders.values() ?? []) {
    const at = order.ticks ?? order.stop;
    if (order.symbol !== symbol || at === null) continue;
    const ticks = (order.side === "buy" ? Math.floor : Math.ceil)(at / group) * group;
    const row = own[order.side].get(ticks) ?? { lots: 0, count: 0, waits: 0, orders: [] };
    row.lots += order.left;
    row.count += 1;
    row.waits += order.stop !== null && !order.triggered ? 1 : 0;
    row.orders.push(order);
    own[order.side].set(ticks, row);
  }
  return own;
}

/** What stands above the rows. */
function Head({ market, alone, quantity, setQuantity, group, recentre }) {
  const down = state.downShards.has(market.shard);
  const { bids, asks } = market.book.levels();
  const spread = bids.length && asks.length ? market.prices.text(asks[0].ticks - bids[0].ticks) : "–";
  const chosen = state.symbol === market.symbol;
  return html`<h2><button type="button" class="plain" aria-pressed=${String(chosen)} onClick=${() => state.show(market.symbol)}><b>${market.symbol}</b></button>
      <span class="quiet">spread ${spread}</span>
      ${down ? html`<span class="tag bad">shard ${market.shard} down</span>` : null}
      ${!market.book.known && !down ? html`<span class="tag warn">${state.link.open ? "waiting for the book" : "old"}</span>` : null}
      ${market.problem ? html`<span class="tag bad">${market.problem}</span>` : null}
      ${alone ? null : html`<button type="button" class="plain small end" aria-label=${`Close ${market.symbol}`} onClick=${() => state.hide(market.symbol)}>×</button>`}</h2>
    <div class="tools">
      <label>Size <input class="quantity" inputmode="decimal" autocomplete="off" value=${quantity} onInput=${(event) => setQuantity(event.target.value.trim())} /></label>
      <label>Ticks <select value=${group} onChange=${(event) => settings.set("group", Number(event.target.value))}>
        ${GROUPS.map((n) => html`<option value=${n} selected=${n === group}>${n}</option>`)}</select></label>
      <label class="check"><input type="checkbox" checked=${settings.get("cumulative")} onChange=${(event) => settings.set("cumulative", event.target.checked)} /> Sum</label>
      <button type="button" class="recentre" title="Recentre (c)" onClick=${recentre}>Centre</button>
    </div>`;
}

export function Ladder({ market, alone }) {
  useLive(market, state, state.link, settings, ...(state.account ? [state.account] : []));
  useEffect(() => market.use(), [market]);
  const box = useRef();
  const [rows, setRows] = useState(30);
  const [centre, setCentre] = useState(null);
  const [cursor, showCursor] = useState(null);
  const at = useRef(null); // where keys have gone, before it is drawn
  const [quantity, setQuantity] = useState(settings.get("quantity"));
  const group = settings.get("group");
  const mid = middle(market);
  const present = mid === null ? null : Math.round(mid / group) * group;
  const recentre = () => setCentre(present);

  useLayoutEffect(() => {
    const fit = () => setRows(Math.max(9, Math.floor((box.current.clientHeight - ROW_PX - 2) / ROW_PX)));
    const watch = new ResizeObserver(fit);
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    market.recentre = recentre;
  });

  // It stays where it is while armed, so that no price moves below the pointer.
  const half = Math.floor(rows / 2);
  const away = centre === null || centre % group !== 0 || Math.abs(present - centre) > (half - 2) * group;
  if (present !== null && away && (centre === null || centre % group !== 0 || !state.armed)) {
    setCentre(present);
  }

  const bids = market.book.grouped("bids", group);
  const asks = market.book.grouped("asks", group);
  const own = ownOrders(market.symbol, group);
  const prices = [];
  for (let n = 0; centre !== null && n < rows; n++) {
    const ticks = centre + (half - n) * group;
    if (ticks >= market.minTicks && ticks <= market.maxTicks) prices.push(ticks);
  }
  const cumulative = settings.get("cumulative");
  const size = (row) => (row ? (cumulative ? row.total : row.lots) : 0);
  const most = Math.max(1, ...prices.map((ticks) => Math.max(size(bids.get(ticks)), size(asks.get(ticks)))));
  const volumes = new Map();
  for (const [ticks, lots] of market.volumes) {
    const row = Math.round(ticks / group) * group;
    volumes.set(row, (volumes.get(row) ?? 0) + lots);
  }
  const mostVolume = Math.max(1, ...prices.map((ticks) => volumes.get(ticks) ?? 0));
  const lastRow = market.last ? Math.round(market.last.ticks / group) * group : null;

  const trade = (side, ticks) => {
    const price = market.prices.text(ticks);
    if (!state.armed) {
      state.show(market.symbol);
      state.fill?.({ side, price });
      return;
    }
    settings.set("quantity", quantity);
    enter({ symbol: market.symbol, order_type: "LIMIT", side: side.toUpperCase(), price, quantity });
  };
  const setCursor = (ticks) => {
    at.current = ticks;
    showCursor(ticks);
  };
  const cancelAt = (side, ticks) => own[side].get(ticks)?.orders.forEach(cancel);
  const click = (event) => {
    const cell = event.target.closest("td[data-act]");
    if (!cell) return;
    const ticks = Number(cell.parentNode.dataset.ticks);
    setCursor(ticks);
    const [act, side] = cell.dataset.act.split(" ");
    if (act === "trade") trade(side, ticks);
    else cancelAt(side, ticks);
  };
  const press = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const ticks = at.current ?? present ?? centre;
    const steps = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
    if (steps) setCursor(Math.min(market.maxTicks, Math.max(market.minTicks, ticks + steps * group)));
    else if (event.key === "Home") setCursor(present);
    else if (event.key === "b" || event.key === "s") trade(event.key === "b" ? "buy" : "sell", ticks);
    else if (event.key === "x" || event.key === "Delete") {
      cancelAt("buy", ticks);
      cancelAt("sell", ticks);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const old = state.link.stale || !market.book.known || state.downShards.has(market.shard);
  const id = `ladder-${market.symbol}`;
  return html`<section class=${`panel ladder ${old ? "old" : ""} ${state.armed ? "live" : ""}`} data-symbol=${market.symbol} aria-label=${`Ladder ${market.symbol}`}>
    <${Head} ...${{ market, alone, quantity, setQuantity, group, recentre }} />
    <div class="rows" ref=${box}>
      <table role="grid" aria-label=${`Prices of ${market.symbol}`} tabindex="0" onClick=${click} onKeyDown=${press}
        aria-activedescendant=${cursor === null ? undefined : `${id}-${cursor}`}
        data-sequence=${market.book.sequence} data-known=${String(market.book.known)}>
        <thead><tr><th scope="col" class="num own" title="Own buy orders: a click cancels">Mine</th><th scope="col" class="num">Bid</th><th scope="col" class="price">Price</th>
          <th scope="col" class="num">Ask</th><th scope="col" class="num own" title="Own sell orders: a click cancels">Mine</th><th scope="col" class="num volume">Traded</th></tr></thead>
        <tbody>${prices.map((ticks) => html`<${Row} key=${ticks} id=${`${id}-${ticks}`} ticks=${ticks} price=${market.prices.text(ticks)}
          bid=${text(market, size(bids.get(ticks)))} ask=${text(market, size(asks.get(ticks)))}
          bidShare=${share(size(bids.get(ticks)), most)} askShare=${share(size(asks.get(ticks)), most)}
          bidCount=${bids.get(ticks)?.count ?? 0} askCount=${asks.get(ticks)?.count ?? 0}
          ...${mine("buy", own.buy.get(ticks), market)} ...${mine("sell", own.sell.get(ticks), market)}
          volume=${text(market, volumes.get(ticks) ?? 0)} volumeShare=${share(volumes.get(ticks) ?? 0, mostVolume)}
          last=${lastRow === ticks ? market.last.side : ""} at=${cursor === ticks} armed=${state.armed} />`)}</tbody>
      </table>
      ${prices.length ? null : html`<p class="none">${market.book.known ? "The book is empty, and nothing was traded: use the ticket" : "No book yet"}</p>`}
    </div>
  </section>`;
}

function text(market, lots) {
  return lots ? grouped(market.lots.text(lots)) : "";
}

/** A bar's length in steps of a twentieth, so that a row is drawn again only where it shows. */
function share(lots, most) {
  return lots ? Math.max(1, Math.round((lots / most) * 20)) : 0;
}

function mine(side, row = NO_ORDERS, market) {
  return { [`${side}Own`]: text(market, row.lots), [`${side}Count`]: row.count, [`${side}Waits`]: row.waits ?? 0 };
}
