// Who trades, what the keys are, and whether something is really meant.
import { html, useEffect, useRef, useState } from "./vendor/preact-htm.js";
import { cancelAll, flatten } from "./acts.js";
import { KEYS } from "./key_list.js";
import { settings } from "./settings.js";
import { Source, useLive } from "./source.js";
import { state } from "./state.js";

const shown = new Source();
let current = null;

/** Show a dialog: user, help, cancel, or flatten with a symbol. */
export function showDialog(name, about = null) {
  current = name && { name, about };
  shown.changed();
}

function Dialog({ label, children }) {
  const box = useRef();
  useEffect(() => {
    box.current.showModal();
    return () => box.current?.close();
  }, []);
  return html`<dialog ref=${box} aria-label=${label} onClose=${() => showDialog(null)} onCancel=${() => showDialog(null)}
    onClick=${(event) => event.target === box.current && showDialog(null)}><div class="inner"><h2>${label}</h2>${children}</div></dialog>`;
}

function User() {
  const [text, setText] = useState("");
  const [problem, setProblem] = useState("");
  const [userId, setUserId] = useState(state.account?.userId ?? "");
  const keyed = state.keyed && !state.account;
  if (state.keyed && state.account) {
    return html`<${Dialog} label="Who trades"><p>${state.account.userId}, by a key. To be somebody else, open the page anew.</p>
      <div class="acts"><button type="button" class="main" autofocus onClick=${() => showDialog(null)}>Close</button></div></${Dialog}>`;
  }
  const enter = async (event) => {
    event.preventDefault();
    try {
      if (state.keyed) await state.enter(userId, text);
      else await state.enter(userId);
      showDialog(null);
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<${Dialog} label="Who trades">
    <form onSubmit=${enter}>
      ${keyed ? html`<div class="field"><label for="key">Key</label>
        <input id="key" type="password" autofocus autocomplete="off" value=${text} onInput=${(event) => setText(event.target.value.trim())} /></div>
        <p class="quiet">It stays in this page's memory, and is gone when the page is closed.</p>` : html`<div class="field"><label for="user-id">User</label>
        <input id="user-id" type="text" autofocus autocomplete="off" maxlength="64" value=${userId} onInput=${(event) => setUserId(event.target.value)} /></div>
        <p class="quiet">This product asks for no key: who is named is believed. Empty: read-only.</p>`}
      ${problem ? html`<p class="error" role="alert">${problem}</p>` : null}
      <div class="acts"><button type="button" onClick=${() => showDialog(null)}>Close</button><button type="submit" class="main">Go on</button></div>
    </form></${Dialog}>`;
}

function Help() {
  useLive(settings);
  return html`<${Dialog} label="Keys">
    <div class="keys">${KEYS.map(([title, rows]) => html`<section key=${title}><h3>${title}</h3><dl>
      ${rows.map(([keys, text]) => html`<div key=${keys}><dt>${keys.split(" ").map((key) => html`<kbd>${key}</kbd>`)}</dt><dd>${text}</dd></div>`)}</dl></section>`)}</div>
    <label class="check"><input type="checkbox" checked=${settings.get("letters")} onChange=${(event) => settings.set("letters", event.target.checked)} /> Single letters are keys</label>
    <p class="quiet">Shardbook ${state.version_}. <a href="docs/tutorial">Manual</a> · <a href="docs">REST</a> · <a href="page/vendor/LICENSES.txt">Licences</a></p>
    <div class="acts"><button type="button" class="main" onClick=${() => showDialog(null)}>Close</button></div></${Dialog}>`;
}

function Sure({ label, text, act }) {
  const go = () => {
    act();
    showDialog(null);
  };
  return html`<${Dialog} label=${label}><p>${text}</p>
    <div class="acts"><button type="button" onClick=${() => showDialog(null)}>No</button><button type="button" class="main" autofocus onClick=${go}>Yes</button></div></${Dialog}>`;
}

export function Dialogs() {
  useLive(shown);
  if (current?.name === "user") return html`<${User} key="user" />`;
  if (current?.name === "help") return html`<${Help} key="help" />`;
  if (current?.name === "cancel") {
    return html`<${Sure} key="cancel" label="Cancel all orders" text="All open orders in all symbols are cancelled." act=${() => cancelAll()} />`;
  }
  if (current?.name === "flatten") {
    const symbol = current.about;
    return html`<${Sure} key="flatten" label=${`Flatten ${symbol}`} text=${`The open orders in ${symbol} are cancelled and the position is traded away at the market.`} act=${() => flatten(symbol)} />`;
  }
  return null;
}
