// One row of a ladder; drawn again only where something of it has changed.
import { Component, html } from "./vendor/preact-htm.js";

export class Row extends Component {
  shouldComponentUpdate(next) {
    const now = this.props;
    for (const name in next) if (next[name] !== now[name]) return true;
    return false;
  }

  render(row) {
    const orders = (count) => `${count} order${count === 1 ? "" : "s"}`;
    const own = (side) => {
      const count = row[`${side}Count`];
      if (!count) return html`<td class="num own"></td>`;
      const waits = row[`${side}Waits`] ? ", waiting for a stop price" : "";
      return html`<td class=${`num own ${side}`} data-act=${`cancel ${side}`} title=${`${orders(count)}${waits}: a click cancels`}>
        ${row[`${side}Waits`] ? "◷" : ""}${row[`${side}Own`]}${count > 1 ? html`<sup>${count}</sup>` : null}</td>`;
    };
    const mark = row.last ? (row.last === "buy" ? "▲" : "▼") : "";
    return html`<tr id=${row.id} data-ticks=${row.ticks} class=${`${row.at ? "at" : ""} ${row.last ? `last ${row.last}` : ""}`} aria-selected=${String(row.at)}>
      ${own("buy")}
      <td class="num bid" data-act="trade buy" title=${row.bidCount ? orders(row.bidCount) : undefined}>${row.bidShare ? html`<i class=${`bar w${row.bidShare}`}></i>` : null}<span>${row.bid}</span></td>
      <td class="price"><span class="mark" aria-hidden="true">${mark}</span>${row.price}${row.last ? html`<span class="unseen"> last</span>` : null}</td>
      <td class="num ask" data-act="trade sell" title=${row.askCount ? orders(row.askCount) : undefined}>${row.askShare ? html`<i class=${`bar w${row.askShare}`}></i>` : null}<span>${row.ask}</span></td>
      ${own("sell")}
      <td class="num volume">${row.volumeShare ? html`<i class=${`bar w${row.volumeShare}`}></i>` : null}<span>${row.volume}</span></td>
    </tr>`;
  }
}
