// The page: what is where, and who is told of keys.
import { html, render } from "./vendor/preact-htm.js";
import { Bar } from "./bar.js";
import { Blotter } from "./blotter.js";
import { Charts } from "./charts.js";
import { Dialogs } from "./dialogs.js";
import { listenToKeys } from "./keys.js";
import { Ladder } from "./ladder.js";
import { Announcer, News } from "./news.js";
import { Operations } from "./operations.js";
import { settings } from "./settings.js";
import { useLive } from "./source.js";
import { state } from "./state.js";
import { Tape } from "./tape.js";
import { Ticket } from "./ticket.js";
import { Watch } from "./watch.js";

const SECTIONS = [
  ["watch", "Watch"], ["ladder", "Ladder"], ["ticket", "Ticket"], ["chart", "Chart"],
  ["tape", "Tape"], ["blotter", "Orders"],
];

function Sections() {
  return html`<nav class="sections" aria-label="Parts of the page">
    ${SECTIONS.map(([name, text]) => html`<button key=${name} type="button"
      aria-pressed=${String(state.section === name)} onClick=${() => state.set("section", name)}>${text}</button>`)}
  </nav>`;
}

function Trade() {
  useLive(state, settings);
  if (state.keyed && !state.markets.size) {
    return html`<main class="empty"><h1>Shardbook</h1>
      <p>This product asks for a key: press <kbd>u</kbd>, or use Log in above.</p></main>`;
  }
  if (!state.market) return html`<main class="empty"><p>Loading what is traded</p></main>`;
  const panes = settings.get("panes").filter((symbol) => state.markets.has(symbol));
  return html`<main class="trade" data-section=${state.section}>
    <${Watch} />
    <div class="panes" data-part="ladder">
      ${panes.map((symbol) => html`<${Ladder} key=${symbol} market=${state.markets.get(symbol)} alone=${panes.length === 1} />`)}
    </div>
    <${Charts} key=${`chart ${state.symbol}`} market=${state.market} />
    <div class="side">
      <${Ticket} market=${state.market} />
      <${Tape} key=${`tape ${state.symbol}`} market=${state.market} />
    </div>
    <${Blotter} />
    <${News} />
    <${Sections} />
  </main>`;
}

function App() {
  useLive(state);
  return html`<${Bar} />
    ${state.view === "operations" ? html`<${Operations} />` : html`<${Trade} />`}
    <${Dialogs} /><${Announcer} />`;
}

render(html`<${App} />`, document.getElementById("app"));
listenToKeys();
state.start().catch((error) => state.tell("bad", `the product does not answer: ${error.message}`));
