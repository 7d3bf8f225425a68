// The bar on top: whether what is shown is live, who trades, and what may be pressed.
import { html } from "./vendor/preact-htm.js";
import { settings } from "./settings.js";
import { useLive } from "./source.js";
import { state } from "./state.js";
import { showDialog } from "./dialogs.js";

/** How the connection is, in a word, a mark and a sentence. */
function connection(link) {
  if (state.keyed && !state.markets.size) return ["warn", "○", "no key", "nothing is shown without a key"];
  if (link.state === "refused") return ["bad", "✕", "refused", link.reason];
  if (link.state === "connecting") return ["warn", "…", "connecting", "a connection is being made"];
  if (!link.open) return ["bad", "✕", "offline", `${link.reason}; it is tried again`];
  if (link.stale) return ["warn", "!", "stale", "nothing has been heard for 5 seconds"];
  if (link.spare) return ["warn", "≈", "sampled", "trades come faster than this page takes them: the tape is sampled"];
  return ["good", "●", "live", "connected"];
}

function Connection() {
  const { link } = state;
  useLive(link, state);
  const [kind, mark, word, text] = connection(link);
  const latency = link.open && link.latencyMs !== null ? `${link.latencyMs.toFixed(link.latencyMs < 10 ? 1 : 0)} ms` : "–";
  const gaps = [...state.markets.values()].reduce((sum, market) => sum + market.gaps, 0);
  return html`<div class="facts">
    <span class=${`fact ${kind}`} id="connection" data-state=${word} title=${text}><span aria-hidden="true">${mark}</span> ${word}</span>
    <span class="fact" title="From a ping to its answer"><small>rtt</small> ${latency}</span>
    <span class=${`fact ${gaps ? "warn" : ""}`} title="Sequence gaps seen, and made good, since the page was opened"><small>gaps</small> ${gaps}</span>
    <span class=${`fact ${link.drops ? "warn" : ""}`} title="Connections lost since the page was opened"><small>drops</small> ${link.drops}</span>
    ${state.down.length ? html`<span class="fact bad" id="down" title=${state.down.join("\n")}><span aria-hidden="true">✕</span> ${state.down[0]}${state.down.length > 1 ? ` and ${state.down.length - 1} more` : ""}</span>` : null}
  </div>`;
}

export function Bar() {
  useLive(state, settings);
  const user = state.account?.userId;
  const dark = settings.get("theme") === "dark";
  const operations = state.view === "operations";
  return html`<header class="topbar">
    <span class="brand"><img src="page/icon.svg" alt="" width="16" height="16" /> Shardbook</span>
    <${Connection} />
    <div class="acts">
      <button type="button" id="arm" class=${state.armed ? "armed" : ""} aria-pressed=${String(state.armed)} title="One-click trading (a)"
        onClick=${() => state.arm(!state.armed)}>${state.armed ? "ARMED" : "Arm"}</button>
      <button type="button" id="who" title="Who trades (u)" onClick=${() => showDialog("user")}>
        ${user ? html`<small>user</small> <b>${user}</b>` : state.keyed ? "Log in" : "Read-only: choose a user"}</button>
      <button type="button" id="operations" aria-pressed=${String(operations)} title="Operations (o)"
        onClick=${() => state.set("view", operations ? "trade" : "operations")}>Operations</button>
      <button type="button" id="theme" title="Dark or light (t)" aria-label=${dark ? "Light colours" : "Dark colours"}
        onClick=${() => settings.set("theme", dark ? "light" : "dark")}>${dark ? "☀" : "☾"}</button>
      <button type="button" id="help" title="Keys (?)" aria-label="Help" onClick=${() => showDialog("help")}>?</button>
    </div>
  </header>`;
}
