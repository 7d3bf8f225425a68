// What was told: a short list, and the newest read out by screen readers.
import { html } from "./vendor/preact-htm.js";
import { timeText } from "./scale.js";
import { useLive } from "./source.js";
import { state } from "./state.js";

const MARKS = { good: "✓", bad: "!", plain: "·" };

export function News() {
  useLive(state.newsSource);
  return html`<section class="panel news" aria-label="Messages">
    <h2>Messages</h2>
    <div class="scroll" tabindex="0" role="group" aria-label="Messages, newest first">
      <ol>${state.news.map((news) => html`<li key=${news.number} class=${news.kind}>
        <span class="mark" aria-hidden="true">${MARKS[news.kind]}</span>
        <time>${timeText(news.ns).slice(0, 8)}</time> <span>${news.text}</span></li>`)}</ol>
    </div>
  </section>`;
}

export function Announcer() {
  useLive(state.newsSource);
  const [newest] = state.news;
  const bad = newest?.kind === "bad" ? newest.text : "";
  const other = newest && newest.kind !== "bad" ? newest.text : "";
  return html`<div class="unseen">
    <div role="alert">${bad}</div><div role="status" aria-live="polite">${other}</div></div>`;
}
