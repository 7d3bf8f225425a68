"""Orders, and what commands came to, as the JSON that clients see."""

import time
from collections.abc import Sequence

import numpy as np
from msgspec import UNSET, Raw, UnsetType

from frontend.http.errors import ApiError, of_reject
from frontend.http.exchange import Exchange
from frontend.http.market import Decimals, Market
from frontend.http.order_entry import Outcome
from frontend.http.order_fields import SIDE_WORDS, STATUSES, OrderView, view_of
from frontend.http.order_models import OrderResult, OrderTrade
from frontend.http.product_state import ProductState
from frontend.http.socket_models import OrderEvent
from ipc.arrays import Records
from ipc.client_ids import is_text
from ipc.codes import (
    EXEC_TYPE_CANCELED,
    EXEC_TYPE_EXPIRED,
    EXEC_TYPE_NEW,
    EXEC_TYPE_REPLACED,
    EXEC_TYPE_TRADE,
    EXEC_TYPE_TRIGGERED,
    FLAG_RARE,
    ORD_STATUS_CANCELED,
    ORD_STATUS_EXPIRED,
)
from ipc.records import OrderRow
from ipc.vocabulary import ExecType, Liquidity, OrdStatus, Reason
from ipc.wire.messages import Reject, Report

_EVENTS = {
    EXEC_TYPE_NEW: "new",
    EXEC_TYPE_CANCELED: "cancelled",
    EXEC_TYPE_REPLACED: "replaced",
    EXEC_TYPE_TRADE: "trade",
    EXEC_TYPE_TRIGGERED: "triggered",
    EXEC_TYPE_EXPIRED: "expired",
}
_ANSWERS = {ExecType.REJECTED, ExecType.MASS_CANCELED}
"""What no report is of that a user hears of as an event."""
_LIQUIDITY = {1: "maker", 2: "taker"}
_WHY = {
    Reason.CANCEL_REQUESTED: "it was cancelled by its user",
    Reason.IOC_REMAINDER: "nothing more rested at its price or better, and it may not rest",
    Reason.MARKET_REMAINDER: "the other side of the book is empty, and a market order may not rest",
    Reason.FOK_UNFILLED: "less than all of it could be traded at once",
    Reason.MASS_CANCEL: "all orders of its user were cancelled",
    Reason.MINIMUM_UNFILLED: "less than its minimum could be traded at once",
    Reason.EXPIRED: "its time was over",
    Reason.LINKED: "the order that it was tied to has triggered, has been filled or has ended",
    Reason.SELF_TRADE: "it would have traded with an order of its own user",
}
"""Of what was left of an order."""


def missing_words() -> list[str]:
    """Return the codes that have no word here."""
    return [
        *(kind.name for kind in ExecType if kind not in _EVENTS and kind not in _ANSWERS),
        *(status.name for status in OrdStatus if status not in STATUSES),
        *(some.name for some in Liquidity if some and some not in _LIQUIDITY),
        *(
            reason.name
            for reason in Reason
            if reason >= Reason.CANCEL_REQUESTED and reason not in _WHY
        ),
    ]


if _missing := missing_words():
    raise ValueError(f"codes without a word for HTTP and WebSocket: {', '.join(_missing)}")


def outcome(found: Outcome) -> Exchange:
    """Return what a command came to. Raises ``ApiError`` where it was not carried out."""
    if isinstance(found, ApiError):
        raise found
    if isinstance(found.answer, Reject):
        raise of_reject(found.answer)
    return found


def order_result(
    state: ProductState, found: Outcome, market: Market, quoted: bool, client_order_id: int | str
) -> OrderResult:
    """Return what became of an order at once. Raises ``ApiError``, as ``outcome`` does."""
    exchange = outcome(found)
    last: Report | None = exchange.last
    assert last is not None
    quantities = market.quantities[quoted]
    result = OrderResult(
        timestamp=time.time_ns(),
        order_id=last.order_id,
        status=STATUSES[last.ord_status],
        filled_quantity=quantities[last.cum_qty],
        remaining_quantity=quantities[last.leaves_qty],
        trades=_trades(state, exchange, market, quoted) if exchange.trade_count else [],
        client_order_id=client_order_id or UNSET,
    )
    if last.ord_status in (ORD_STATUS_CANCELED, ORD_STATUS_EXPIRED):
        reason = Reason(last.reason)
        result.cancelled_quantity = quantities[last.quantity - last.cum_qty]
        result.reason, result.reason_text = reason.name, _WHY[reason]
    return result


def _trades(
    state: ProductState, exchange: Exchange, market: Market, quoted: bool
) -> list[OrderTrade]:
    prices, quantities = market.prices[quoted], market.quantities[quoted]
    made = state.made_trades(exchange.first_trade_id, exchange.trade_count)
    return [
        OrderTrade(trade_id, buy, sell, prices[price], quantities[quantity], time_ns)
        for trade_id, _, time_ns, price, quantity, buy, sell, _ in made
    ]


def order_event(state: ProductState, report: Report, user_id: str) -> OrderEvent:
    """Return what a report tells its user."""
    market = state.markets.by_number[report.symbol]
    prices, quantities = market.prices[0], market.quantities[0]
    traded = report.trade_id or None
    prevented = report.reason == Reason.SELF_TRADE
    stop_price = 0 if traded or prevented else report.last_price
    return OrderEvent(
        type=_EVENTS[report.exec_type],
        user_id=user_id,
        symbol=market.symbol,
        order_id=report.order_id,
        client_order_id=report.client_order_id,
        side=SIDE_WORDS[report.side],
        status=STATUSES[report.ord_status],
        price=prices[report.price] if report.price else None,
        quantity=quantities[report.quantity],
        filled_quantity=quantities[report.cum_qty],
        remaining_quantity=quantities[report.leaves_qty],
        trade_id=traded,
        last_price=prices[report.last_price] if traded else None,
        last_quantity=quantities[report.last_qty] if traded else None,
        liquidity=_LIQUIDITY.get(report.liquidity),
        stop_price=prices[stop_price] if stop_price else None,
        prevented_quantity=quantities[report.last_qty] if prevented else None,
        display_quantity=_display_quantity(report, quantities),
        sequence=report.sequence,
        timestamp=report.timestamp_ns,
    )


def order_views(
    state: ProductState, orders: Records | Sequence[np.void], quoted: bool
) -> list[OrderView]:
    """Return orders (ORDER) as clients see them."""
    return [order_view(state, order, quoted) for order in orders]


def order_view(state: ProductState, order: np.void, quoted: bool) -> OrderView:
    """Return one order (ORDER) as clients see it."""
    row = OrderRow._make(order.item())
    named = state.client_order_id(order) if is_text(row.client_order_id) else row.client_order_id
    user_id, market = state.names.text(row.account), state.markets.by_number[row.symbol]
    return view_of(row, user_id, named, market, quoted)


def _display_quantity(report: Report, quantities: Decimals) -> Raw | UnsetType:
    """Return what a report says of how much of an iceberg is shown at a time."""
    traded = report.trade_id or report.reason == Reason.SELF_TRADE
    told = report.flags & FLAG_RARE and report.last_qty and not traded
    return quantities[report.last_qty] if told else UNSET
