// What both charts share: colours of the page, axes, size.

/** A colour of the present theme. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function axis(more = {}) {
  return {
    stroke: () => colour("quiet"),
    grid: { stroke: () => colour("line"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
    gap: 4,
    ...more,
  };
}

export function sizeOf(box) {
  return { width: Math.max(80, box.clientWidth), height: Math.max(60, box.clientHeight) };
}

/** The narrow axis of prices to the right, as wide as its longest text. */
export function priceAxis(market, scale) {
  return axis({
    scale,
    side: 1,
    size: (u, values) => 14 + 6.4 * Math.max(4, ...(values ?? [""]).map((text) => text.length)),
    values: (u, splits) => splits.map((value) => value.toFixed(Math.min(market.prices.digits, 8))),
  });
}
