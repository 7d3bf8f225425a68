// What a user does: each an operation over the link, its answer told.
import { state } from "./state.js";

function order(fields) {
  return state.link.ask({ op: "order", order: { user_id: state.account.userId, ...fields } });
}

function ready() {
  if (state.account) return true;
  state.tell("bad", "trading needs a user: press u");
  return false;
}

/** Say what became of an order. */
function told(fields, result) {
  const what = `${fields.side.toLowerCase()} ${fields.quantity} ${fields.symbol}`;
  const why = result.reason_text ? `: ${result.reason_text}` : "";
  state.tell(result.reason ? "bad" : "plain", `${what}: ${result.status.toLowerCase()}${why}`);
}

/** Enter an order; return the product's refusal, or null. */
export async function enter(fields) {
  if (!ready()) return { message: "trading needs a user", details: { field: "user_id" } };
  try {
    told(fields, (await order(fields)).result);
    return null;
  } catch (error) {
    state.tell("bad", `refused: ${fields.side.toLowerCase()} ${fields.quantity} ${fields.symbol}: ${error.message}`);
    return error;
  }
}

export async function cancel(row) {
  if (!ready()) return;
  try {
    await state.link.ask({ op: "cancel", order_id: row.order_id, user_id: state.account.userId });
  } catch (error) {
    state.tell("bad", `not cancelled: ${error.message}`);
  }
}

/** Cancel the user's orders: of a symbol, or all; of one side, one by one. */
export async function cancelAll(symbol = null, side = null) {
  if (!ready()) return;
  if (side) {
    const mine = [...state.account.orders.values()].filter((o) => o.side === side && (!symbol || o.symbol === symbol));
    await Promise.all(mine.map(cancel));
    return;
  }
  try {
    const op = { op: "cancel_all", user_id: state.account.userId };
    const { result } = await state.link.ask(symbol ? { ...op, symbol } : op);
    state.tell("plain", `${result.cancelled} orders cancelled`);
  } catch (error) {
    state.tell("bad", `not cancelled: ${error.message}`);
  }
}

/** Cancel the symbol's orders and trade the position away at the market. */
export async function flatten(symbol) {
  if (!ready()) return;
  await cancelAll(symbol);
  const market = state.markets.get(symbol);
  const lots = state.account.positions.get(symbol)?.lots ?? 0n;
  if (lots === 0n) {
    state.tell("plain", `${symbol}: there is no position`);
    return;
  }
  const quantity = market.lots.text(lots < 0n ? -lots : lots);
  await enter({ symbol, order_type: "MARKET", side: lots > 0n ? "SELL" : "BUY", quantity });
}
