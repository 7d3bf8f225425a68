// The keys, as the help shows them; keys.js and ladder.js carry them out.
export const KEYS = [
  ["Anywhere", [
    ["?", "these keys"],
    ["/", "find a symbol; Enter shows it, Shift Enter beside the others"],
    ["1 … 9", "a symbol of the watch list; with Alt beside the others"],
    ["[ ]", "the symbol before, the next one"],
    ["u", "who trades"],
    ["t", "dark or light"],
    ["o", "operations, and back"],
    ["Esc", "disarm; close; leave a field"],
  ]],
  ["Orders", [
    ["b Enter", "buy at the best bid: b opens the ticket, Enter sends it"],
    ["s Enter", "sell at the best ask"],
    ["↑ ↓", "in a field: a tick or a lot; with Shift ten"],
    ["Shift X", "cancel all orders of the symbol"],
    ["Shift F", "flatten the symbol"],
    ["g f p", "show orders, fills, positions"],
  ]],
  ["Ladder", [
    ["a", "arm, disarm: armed, a click or key is an order"],
    ["l", "to the ladder"],
    ["↑ ↓ PgUp PgDn", "move over the prices"],
    ["b s", "there: buy, sell at that price"],
    ["x", "there: cancel own orders at that price"],
    ["Home", "to the middle"],
    ["c", "recentre"],
    ["+ −", "wider, narrower steps"],
  ]],
  ["Chart", [["← →", "in the chart: back and forth in time"], ["v", "interval: the next longer one"]]],
];
