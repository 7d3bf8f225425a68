// The operations view: processes, rates, lags, rejects, as the product's own figures tell them.
import { html, useEffect, useMemo, useState } from "./vendor/preact-htm.js";
import { Figures } from "./figures.js";
import { grouped } from "./scale.js";
import { useLive } from "./source.js";
import { state } from "./state.js";

const WIDE = 120;
const HIGH = 22;

function figure(value) {
  if (value === undefined || Number.isNaN(value)) return "–";
  if (Math.abs(value) >= 1e9) return `${(value / 1e9).toFixed(2)}G`;
  if (Math.abs(value) >= 1e7) return `${(value / 1e6).toFixed(1)}M`;
  return Number.isInteger(value) ? grouped(String(value)) : value.toFixed(value < 10 ? 2 : 0);
}

/** A small chart of the last minutes. */
function Spark({ values, label }) {
  const most = Math.max(...values, 1e-9);
  const points = values.map((value, n) => `${((n + 90 - values.length) / 89) * WIDE},${HIGH - 1 - (value / most) * (HIGH - 3)}`).join(" ");
  return html`<svg class="spark" width=${WIDE} height=${HIGH} viewBox=${`0 0 ${WIDE} ${HIGH}`} role="img" aria-label=${`${label}: at most ${figure(most)}`}><polyline points=${points} /></svg>`;
}

function uptime(seconds) {
  const days = Math.floor(seconds / 86_400);
  const text = new Date(seconds * 1000).toISOString().slice(11, 19);
  return days ? `${days} d ${text}` : text;
}

const nameOf = ({ role, shard, number }) => `${role} ${shard ?? number ?? ""}`.trim();

function Processes({ figures }) {
  const rows = figures.samples.filter(({ name }) => name === "shardbook_up").map(({ labels, value }) => {
    const began = figures.samples.find((s) => s.name === "shardbook_start_time_seconds" && nameOf(s.labels) === nameOf(labels));
    return html`<tr key=${nameOf(labels)} data-process=${nameOf(labels)}><th scope="row">${nameOf(labels)}</th>
      <td class=${value ? "good" : "bad"}>${value ? "● serves" : "✕ does not serve"}</td>
      <td class="num">${began ? uptime(Math.max(0, Date.now() / 1000 - began.value)) : "–"}</td></tr>`;
  });
  return html`<section class="panel" aria-label="Processes"><h2>Processes</h2><div class="scroll" tabindex="0" role="group" aria-label="Processes">
    <table id="processes"><thead><tr><th scope="col">Process</th><th scope="col">State</th><th scope="col" class="num">Up for</th></tr></thead><tbody>${rows}</tbody></table></div></section>`;
}

function Rejects({ figures }) {
  const byCode = new Map();
  for (const { name, labels, value } of figures.samples) {
    if (name === "shardbook_rejects_total") byCode.set(labels.code, (byCode.get(labels.code) ?? 0) + value);
  }
  const rows = [...byCode].sort((a, b) => b[1] - a[1]);
  const most = Math.max(1, ...rows.map(([, count]) => count));
  return html`<section class="panel" aria-label="Rejects"><h2>Rejects by reason</h2><div class="scroll" tabindex="0" role="group" aria-label="Rejects">
    <table id="rejects"><tbody>${rows.map(([code, count]) => html`<tr key=${code}><th scope="row">${code.replaceAll("_", " ").toLowerCase()}</th>
      <td class="num">${figure(count)}</td><td class="meter"><i class=${`bar w${Math.max(1, Math.round((count / most) * 20))}`}></i></td></tr>`)}</tbody></table>
    ${rows.length ? null : html`<p class="none">Nothing was refused</p>`}</div></section>`;
}

/** One role's figures, a row each, a column a process. */
function Role({ role, rows, figures }) {
  const processes = [...new Set(rows.map((row) => row.process))];
  const names = [...new Set(rows.map((row) => row.name))];
  const prefix = new RegExp(`^shardbook_(${role}_)?`);
  return html`<section class="panel" aria-label=${role}><h2>${role}</h2><div class="scroll" tabindex="0" role="group" aria-label=${`Figures of ${role}`}>
    <table><thead><tr><th scope="col">Figure</th>${processes.map((name) => html`<th scope="col" class="num">${name}</th>`)}<th scope="col"><span class="unseen">Course</span></th></tr></thead>
    <tbody>${names.map((name) => {
      const counts = figures.kinds.get(name) === "counter";
      const series = processes.map((process) => {
        const row = rows.find((r) => r.name === name && r.process === process);
        return { row, values: row ? figures.of(name, row.labels) : [] };
      });
      const length = Math.max(...series.map(({ values }) => values.length));
      const sums = Array.from({ length }, (_, n) => series.reduce((sum, { values }) => sum + (values[n - length + values.length] ?? 0), 0));
      const text = name.replace(prefix, "").replace(/_total$/, "").replaceAll("_", " ");
      return html`<tr key=${name}><th scope="row">${text}${counts ? html` <small>/s</small>` : null}</th>
        ${series.map(({ values, row }) => html`<td class="num" title=${counts && row ? `${figure(row.value)} in all` : undefined}>${figure(values.at(-1))}</td>`)}
        <td>${sums.some((value) => value) ? html`<${Spark} values=${sums} label=${text} />` : null}</td></tr>`;
    })}</tbody></table></div></section>`;
}

export function Operations() {
  const figures = useMemo(() => new Figures(), []);
  const [quiet, setQuiet] = useState(false);
  useEffect(() => figures.open(), [figures]);
  useLive(figures, state);
  const roles = new Map();
  for (const sample of figures.samples) {
    if (/^shardbook_(up|start_time_seconds|rejects_total|http_order_seconds.*)$/.test(sample.name)) continue;
    const role = sample.labels.role ?? "shards";
    if (!quiet && !figures.of(sample.name, sample.labels).some((value) => value) && !sample.value) continue;
    roles.set(role, [...(roles.get(role) ?? []), { ...sample, process: nameOf({ role: "shard", ...sample.labels }) }]);
  }
  return html`<main class="operations" aria-label="Operations">
    <div class="strip">${state.down.length ? html`<b class="bad">✕ ${state.down.join("; ")}</b>` : html`<b class="good">● every shard serves</b>`}
      ${figures.problem ? html`<span class="bad">${figures.problem}</span>` : null}
      <label class="check"><input type="checkbox" checked=${quiet} onChange=${(event) => setQuiet(event.target.checked)} /> Figures that are 0 too</label></div>
    <div class="cards"><${Processes} figures=${figures} /><${Rejects} figures=${figures} />
      ${[...roles].map(([role, rows]) => html`<${Role} key=${role} role=${role} rows=${rows} figures=${figures} />`)}</div>
  </main>`;
}
