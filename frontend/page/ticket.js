// The ticket: an order of any type that the product has, its refusal shown at the field.
import { html, useEffect, useMemo, useRef, useState } from "./vendor/preact-htm.js";
import { enter } from "./acts.js";
import { fieldsOf, orderOf } from "./order_form.js";
import { settings } from "./settings.js";
import { useLive } from "./source.js";
import { state } from "./state.js";

/** A text moved by some steps of a scale. */
function stepped(scale, text, steps) {
  const now = scale.read(text);
  return now === null ? text : scale.text(Math.max(1, now + steps));
}

function Field({ field, value, set, error, market }) {
  const id = `ticket-${field.name}`;
  const described = error ? `${id}-error` : undefined;
  const common = {
    id, name: field.name, "aria-invalid": error ? "true" : undefined, "aria-describedby": described,
    title: field.about || undefined,
  };
  const scale = field.name.includes("price") ? market.prices : field.name.includes("quantity") ? market.lots : null;
  const step = (event) => {
    const steps = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!steps || !scale || event.altKey || event.ctrlKey) return;
    set(stepped(scale, event.target.value, event.shiftKey ? steps * 10 : steps));
    event.preventDefault();
  };
  const input = () => {
    if (field.kind === "words") {
      return html`<select ...${common} onChange=${(event) => set(event.target.value)}>
        ${field.required ? null : html`<option value="" selected=${!value}>default</option>`}
        ${field.words.map((word) => html`<option value=${word} selected=${word === value}>${word.replaceAll("_", " ").toLowerCase()}</option>`)}
      </select>`;
    }
    if (field.kind === "switch") {
      return html`<input ...${common} type="checkbox" checked=${Boolean(value)} onChange=${(event) => set(event.target.checked)} />`;
    }
    if (field.kind === "moment") {
      return html`<input ...${common} type="datetime-local" step="1" value=${value ?? ""} onInput=${(event) => set(event.target.value)} />`;
    }
    return html`<input ...${common} type="text" autocomplete="off" inputmode=${field.kind === "text" ? "text" : "decimal"}
      class="num" placeholder=${field.required ? undefined : "none"} value=${value ?? ""} required=${field.required} onInput=${(event) => set(event.target.value.trim())} onKeyDown=${step} />`;
  };
  return html`<div class=${`field ${field.kind} ${error ? "wrong" : ""}`}>
    <label for=${id}>${field.label}</label>
    ${input()}
    ${error ? html`<p class="error" id=${`${id}-error`}>${error}</p>` : null}
  </div>`;
}

export function Ticket({ market }) {
  useLive(state, state.link);
  const form = useRef();
  const [side, setSide] = useState("BUY");
  const [values, setValues] = useState({ order_type: "LIMIT", quantity: settings.get("quantity") });
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const described = useMemo(() => (state.description ? fieldsOf(state.description) : null), [state.description]);
  const set = (name) => (value) => {
    setValues((before) => ({ ...before, [name]: value }));
    setError(null);
  };

  useEffect(() => {
    // How keys and the ladder fill it: `focus` then takes the user there.
    state.fill = ({ side: word, price, focus = false }) => {
      setSide(word.toUpperCase());
      setValues((before) => ({ ...before, order_type: price === undefined ? before.order_type : "LIMIT", price: price ?? before.price }));
      setError(null);
      if (focus) {
        state.set("section", "ticket");
        setTimeout(() => {
          const field = form.current?.elements.namedItem("price") ?? form.current?.elements.namedItem("quantity");
          field?.focus();
          field?.select?.();
        }, 60);
      }
    };
    return () => { state.fill = undefined; };
  }, []);

  if (!described) return html`<section class="panel ticket" data-part="ticket" aria-label="Ticket"><h2>Ticket</h2></section>`;
  const fields = described.forType(values.order_type);
  const send = async (event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    settings.set("quantity", values.quantity ?? "1");
    setError(await enter(orderOf(fields, values, side, market.symbol)));
    setBusy(false);
  };
  const at = error?.details?.field ?? "";
  const shown = fields.some(({ name }) => name === at);
  const why = error?.details?.rule ?? error?.message;
  const buys = side === "BUY";
  const known = described.sides.map((word) => html`<button key=${word} type="button" class=${word.toLowerCase()} aria-pressed=${String(side === word)}
    onClick=${() => setSide(word)}>${word === "BUY" ? "Buy" : word === "SELL" ? "Sell" : word}</button>`);
  return html`<section class="panel ticket" data-part="ticket" aria-label="Ticket">
    <h2>Ticket <b>${market.symbol}</b></h2>
    <form id="ticket" ref=${form} onSubmit=${send} noValidate autocomplete="off">
      <div class="sides" role="group" aria-label="Side">${known}</div>
      <div class="fields">
        ${fields.map((field) => html`<${Field} key=${field.name} field=${field} market=${market} value=${values[field.name]}
          set=${set(field.name)} error=${at === field.name ? why : ""} />`)}
      </div>
      ${error && !shown ? html`<p class="error" id="ticket-error">${error.message}</p>` : null}
      <button type="submit" class=${`send ${buys ? "buy" : "sell"}`} disabled=${busy || !state.account || !state.link.open}>
        ${state.account ? `${buys ? "Buy" : "Sell"} ${values.quantity || "?"} ${market.symbol}` : "Read-only"}</button>
    </form>
  </section>`;
}
