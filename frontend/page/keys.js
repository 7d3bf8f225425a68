// Keys that work anywhere but in a field.
import { cancelAll } from "./acts.js";
import { INTERVALS } from "./candles.js";
import { showDialog } from "./dialogs.js";
import { settings } from "./settings.js";
import { state } from "./state.js";

const GROUPS = [1, 2, 5, 10, 25, 50, 100, 500, 1_000];

function step(list, value, by) {
  return list[Math.min(list.length - 1, Math.max(0, list.indexOf(value) + by))];
}

function neighbour(by) {
  const symbols = [...state.markets.keys()];
  state.show(symbols[(symbols.indexOf(state.symbol) + by + symbols.length) % symbols.length]);
}

/** Open the ticket at the best price of the user's own side. */
function open(side) {
  const { market } = state;
  const { bids, asks } = market.book.levels();
  const [best] = side === "buy" ? (bids.length ? bids : asks) : (asks.length ? asks : bids);
  const ticks = best?.ticks ?? market.last?.ticks;
  state.fill?.({ side, price: ticks === undefined ? "" : market.prices.text(ticks), focus: true });
}

const ladder = () => document.querySelector(`.ladder[data-symbol="${CSS.escape(state.symbol)}"] [role=grid]`);

const LETTERS = {
  "?": () => showDialog("help"),
  "/": () => {
    state.set("section", "watch");
    setTimeout(() => document.getElementById("find")?.focus(), 60);
  },
  "[": () => neighbour(-1),
  "]": () => neighbour(1),
  u: () => showDialog("user"),
  t: () => settings.set("theme", settings.get("theme") === "dark" ? "light" : "dark"),
  o: () => state.set("view", state.view === "operations" ? "trade" : "operations"),
  b: () => open("buy"),
  s: () => open("sell"),
  X: () => cancelAll(state.symbol),
  F: () => showDialog("flatten", state.symbol),
  g: () => state.showTab?.("orders"),
  f: () => state.showTab?.("fills"),
  p: () => state.showTab?.("positions"),
  a: () => state.arm(!state.armed),
  l: () => ladder()?.focus(),
  c: () => state.market?.recentre?.(),
  "+": () => settings.set("group", step(GROUPS, settings.get("group"), 1)),
  "-": () => settings.set("group", step(GROUPS, settings.get("group"), -1)),
  v: () => settings.set("interval", INTERVALS[(INTERVALS.indexOf(settings.get("interval")) + 1) % INTERVALS.length]),
};
const ALWAYS = new Set(["?"]);

function press(event) {
  if (event.key === "Escape") {
    state.arm(false);
    if (event.target.matches?.("input, select, textarea")) event.target.blur();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.defaultPrevented) return;
  if (event.target.closest?.("input, select, textarea, dialog")) return;
  if (!state.market && !"?ut".includes(event.key)) return;
  if (!settings.get("letters") && !ALWAYS.has(event.key)) return;
  if (/^[1-9]$/.test(event.key)) {
    const symbol = [...state.markets.keys()][Number(event.key) - 1];
    if (symbol) state.show(symbol, event.altKey);
  } else if (!event.altKey && Object.hasOwn(LETTERS, event.key)) {
    LETTERS[event.key]();
  } else {
    return;
  }
  event.preventDefault();
}

export function listenToKeys() {
  document.addEventListener("keydown", press);
}
