"""The trading rules that every book keeps, written down once.

**Priority.** Price, then time of entry. A trade's price is the resting order's. Only a LIMIT order
that is GTC rests; what is left of any other after matching is cancelled. From their trigger on STOP
and MARKET_IF_TOUCHED orders are as MARKET orders, STOP_LIMIT and LIMIT_IF_TOUCHED orders as LIMIT
orders.

**Commands** and the fields they use (others are ignored):

| command | fields |
| --- | --- |
| NEW | account, symbol, client_order_id, and all that ``check_new`` takes (flags: POST_ONLY) |
| CANCEL | account, order_id, or symbol and client_order_id |
| REPLACE | as CANCEL, and price, quantity, flags (REINSERT, KEEP_PRICE, KEEP_QUANTITY) |
| REDUCE | as CANCEL, and quantity |
| MASS_CANCEL | account, symbol (0: every symbol of the shard) |

``order_id`` wins over ``client_order_id`` where both are given; a symbol given with an order_id
must be the order's. A client_order_id is unique per account and symbol among the live orders and
those that ``engine.books.id_memory`` remembers; 0 means none.

**Checks**, in this order; the first that fails rejects the command (a REJECTED report, nothing
else changes):

NEW: symbol, then ``check_new`` (side, order_type, time_in_force, post_only, quantity, price, price
band, stop price, self_trade_prevention), then DUPLICATE_CLIENT_ORDER_ID (the report carries the
first order's id), BOOK_FULL (a GTC LIMIT order, or any with a stop price, while
``max_resting_orders`` of its symbol rest or wait, whether it would trade or not), TOO_MANY_ORDERS
(the same while ``max_account_orders`` of its account do), POST_ONLY_WOULD_TRADE.

CANCEL, REPLACE, REDUCE: INVALID_ORDER_ID where both ids are 0; UNKNOWN_SYMBOL where a symbol is
given, or is needed, that the shard does not hold; for REPLACE ``check_replace``, for REDUCE
``check_quantity``; UNKNOWN_ORDER where no such order rests or waits, or it is not the account's.
Then for REPLACE INVALID_STOP_PRICE where one is given and the order does not wait; for one that
waits ``check_waiting``, else the band of the order's symbol; ALREADY_FILLED where the new quantity
(without REINSERT) is not above cum_qty; INVALID_QUANTITY where cum_qty and quantity (with REINSERT)
exceed MAX_QUANTITY; POST_ONLY_WOULD_TRADE where the order is post-only and the new price crosses.

**REPLACE.** Without REINSERT ``quantity`` is the order's new total. The same price and a smaller
quantity: the order keeps its place. Anything else: it leaves the book and enters at the back of
its queue under the same ids, trading first if it crosses. With REINSERT ``quantity`` is the new
open quantity and the order always goes to the back; the total becomes cum_qty + quantity.
With KEEP_PRICE ``price`` is ignored and the order's stands in its place, with KEEP_QUANTITY
``quantity`` is ignored and the order's total does, with REINSERT its open quantity: as they are
when the command is matched. What then follows is as if they had been given. One of the two must
be given (INVALID_REPLACE), or a ``stop_price``.

**REDUCE** takes ``quantity`` off leaves_qty and off the total, keeping the place; where nothing
would be left, the order is cancelled instead.

**Stops.** A STOP or STOP_LIMIT order waits until a trade of its symbol reaches its ``stop_price``:
a buy order's for one at or above it, a sell order's for one at or below (``waits_for_rise``,
``is_reached``); the two IF_TOUCHED types the other way round. Where the last trade before it came
has, it triggers at once; while its symbol has had no trade, it waits. It stands in an index of its
own by stop price, then time of entry, in no depth; it is cancelled, replaced, reduced, mass
cancelled and listed like one that rests, and counts like one for the bounds. A command, a trigger
too, is carried out whole; then in a *round* the orders trigger that its trades have reached: first
those that wait for a rise, the lowest stop price first, then those that wait for a fall, the
highest first, at one price the oldest first. Each enters as a new order behind all that rests. Once
all of the round have, those that the trades of the round have reached are the next one, until there
are none. What a mass cancel under way is to take can trigger meanwhile; the mass cancel then goes
through the books once more.

REPLACE of an order that waits: a ``stop_price`` of 0 stays what it is; the price of one without a
limit must be kept (INVALID_PRICE). The same prices and a smaller quantity, without REINSERT: it
keeps its place. Else it goes to the back of its stop price, or triggers at once where that is
reached.

**Self-trades.** Where an order with a ``self_trade_prevention`` would trade, as the taker, with one
of its own account, it does not (maker by maker; earlier trades stand):

- CANCEL_NEWEST: what is left of it is cancelled, and does not rest.
- CANCEL_OLDEST: the maker is cancelled, and it goes on.
- CANCEL_BOTH: both.
- DECREMENT: both lose the smaller leaves_qty of the two, of their totals as by REDUCE; what then
  has nothing left is cancelled. The taker goes on with what it has.

Each of the two that changes has a report, the maker's first: CANCELED, or for what goes on after
DECREMENT REPLACED, with reason SELF_TRADE; in ``last_price`` the maker's price, in ``last_qty`` the
quantity that was prevented, and no trade_id. An order keeps its mode, as the taker after a REPLACE
or trigger too; the makers' modes do not matter. FOK counts no orders of the account then, and but
for CANCEL_OLDEST nothing behind the first of them. Orders of an account without a mode trade with
each other.

**FOK.** An order that the opposite side cannot fill whole within its price is cancelled whole
(FOK_UNFILLED) without a trade.

**Reports**, in this order:

1. The answer to the command, to its account: NEW, CANCELED, REPLACED (also to REDUCE), REJECTED.
   It shows the order before any trade of this command: for NEW leaves_qty is the whole quantity.
   An order that triggers at once has its TRIGGERED report next.
2. For each trade, in the order of the trades: one report for the taker, then one for the maker.
   ``leaves_qty`` and ``cum_qty`` are those after the trade.
3. CANCELED for what is left of an order that does not rest (IOC_REMAINDER, MARKET_REMAINDER; a FOK
   order that was not filled: FOK_UNFILLED).
4. For each order that then triggers a TRIGGERED report, to its account, with what comes of it as
   under 2 and 3.

A MASS_CANCEL gives a CANCELED report (reason MASS_CANCEL, request_id 0) for each order it takes, by
symbol, bids before asks, best price first, oldest first, after those the orders that wait, for a
rise before for a fall, in the order in which they would trigger; and then its answer:
MASS_CANCELED, with the number of orders in ``quantity``.

**MASS_CANCEL** takes the orders of its account that were accepted before it. So that it keeps no
others waiting, it looks at ``SWEEP_ORDERS`` resting orders, its own or not, and is then *under
way*; other commands follow, and each MASS_CANCEL with CONTINUE, which a matcher gives itself, goes
on with the oldest one that is under way, as far again. An order that it has not come to can trade
meanwhile, but its account's commands do not find it any more (UNKNOWN_ORDER). The reports of each
part are those of the command that it is part of, but for request_id, account, symbol and flags of
the answer. A MASS_CANCEL that comes while one of the same account and symbol is under way takes its
place: that one is answered, with what it has taken so far, and once at the end of the books the new
one goes through them again. Where ``MAX_SWEEPS`` are under way, one more finishes the oldest first.

A CANCELED report shows in ``quantity`` the total before, in leaves_qty 0. A REJECTED report repeats
the command's own symbol, side, order_type, time_in_force, flags, price, quantity, ids and account;
cum_qty and leaves_qty are 0. ``request_id`` is the command's in every report on the command's own
order (also a taker's trades), 0 in a maker's and in those on what others trigger. ``price`` is the
order's limit, 0 for orders without one. ``last_price`` is the trade's; in the TRIGGERED report of
an order and in those before it, its stop price; in one of a prevented self-trade see above.
``flags`` of a report on an order are the order's POST_ONLY and TRIGGERED, which has come to be with
the command that triggers it, in the answer to it already; of a REJECTED or MASS_CANCELED report,
the command's. ``timestamp_ns`` is the command's. MASS_CANCELED carries the command's symbol,
account, request_id and flags, and otherwise zeros; its ord_status is NEW (0). REJECTED has
ord_status REJECTED. ``command_type`` is the causing command's in every report, a maker's too.

**Trades**: TRADE records in matching order, trade_id dense per shard; ``sequence`` is the taker's
command's.

**Ids.** Every command handed to a book counts one ``sequence``; every accepted NEW one order
sequence; every trade one trade sequence. All are dense per shard, and part of the state.

**CONFIGURE** is no command of a client and never comes in an array: it gives a shard's books other
limits (``engine.books.choice.configured``), between commands, and counts one ``sequence``. It gives
no report and moves no order: what rests stays, outside a new band too, which binds what is entered
or replaced from then on; where more rest of an account than its new limit, it enters no more.

Display quantities have room in COMMAND and are ignored so far.
"""

from ipc.codes import (
    FLAG_KEEP_PRICE,
    FLAG_KEEP_QUANTITY,
    FLAG_POST_ONLY,
    ORDER_TYPE_LIMIT,
    ORDER_TYPE_MARKET,
    ORDER_TYPE_STOP,
    ORDER_TYPE_STOP_LIMIT,
    REASON_INVALID_ORDER_TYPE,
    REASON_INVALID_POST_ONLY,
    REASON_INVALID_PRICE,
    REASON_INVALID_QUANTITY,
    REASON_INVALID_REPLACE,
    REASON_INVALID_SELF_TRADE_PREVENTION,
    REASON_INVALID_SIDE,
    REASON_INVALID_STOP_PRICE,
    REASON_INVALID_TIME_IN_FORCE,
    REASON_NONE,
    REASON_PRICE_OUT_OF_BAND,
    SIDE_BUY,
    SIDE_SELL,
    TIME_IN_FORCE_FOK,
    TIME_IN_FORCE_GTC,
    TIME_IN_FORCE_IOC,
)
from ipc.vocabulary import (
    CONDITIONAL,
    MAX_PRICE,
    MAX_QUANTITY,
    PRICELESS,
    SelfTradePrevention,
)

SWEEP_ORDERS = 1_024
"""Orders that a mass cancel looks at before others have their turn: well below a millisecond."""
MAX_SWEEPS = 1_024
"""Mass cancels of a shard that are under way at a time."""

_PRICELESS, _CONDITIONAL = tuple(map(int, PRICELESS)), tuple(map(int, CONDITIONAL))
_KEEP_BOTH = FLAG_KEEP_PRICE | FLAG_KEEP_QUANTITY
_LAST_MODE = max(map(int, SelfTradePrevention))


def is_priceless(order_type: int) -> bool:
    """Tell whether an order has no limit: it trades at any price, and never rests."""
    return order_type in _PRICELESS


def check_quantity(quantity: int) -> int:
    """Return 0, or the Reason why a quantity is not one."""
    if quantity < 1 or quantity > MAX_QUANTITY:
        return REASON_INVALID_QUANTITY
    return REASON_NONE


def check_price_quantity(order_type: int, price: int, quantity: int) -> int:
    """Return 0, or the Reason why quantity or price cannot be those of an order of this type."""
    if quantity < 1 or quantity > MAX_QUANTITY:
        return REASON_INVALID_QUANTITY
    if is_priceless(order_type):
        return REASON_NONE if price == 0 else REASON_INVALID_PRICE
    if price < 1 or price > MAX_PRICE:
        return REASON_INVALID_PRICE
    return REASON_NONE


def check_replace(flags: int, price: int, quantity: int, stop_price: int) -> int:
    """Return 0, or the Reason why a REPLACE command's own fields cannot change any order."""
    keeps = flags & _KEEP_BOTH
    if keeps == 0:
        return check_price_quantity(ORDER_TYPE_LIMIT, price, quantity)
    if keeps == _KEEP_BOTH:
        return REASON_NONE if stop_price != 0 else REASON_INVALID_REPLACE
    if keeps == FLAG_KEEP_PRICE:
        return check_quantity(quantity)
    return check_price_quantity(ORDER_TYPE_LIMIT, price, 1)


def check_band(order_type: int, price: int, min_price: int, max_price: int) -> int:
    """Return 0, or PRICE_OUT_OF_BAND for a limit price outside the instrument's band."""
    if is_priceless(order_type):
        return REASON_NONE
    return REASON_PRICE_OUT_OF_BAND if price < min_price or price > max_price else REASON_NONE


def check_stop_price(order_type: int, stop_price: int, min_price: int, max_price: int) -> int:
    """Return 0, or INVALID_STOP_PRICE for one that is none, or of an order that has none."""
    if order_type in (ORDER_TYPE_MARKET, ORDER_TYPE_LIMIT):
        return REASON_NONE if stop_price == 0 else REASON_INVALID_STOP_PRICE
    return (
        REASON_INVALID_STOP_PRICE
        if stop_price < min_price or stop_price > max_price
        else REASON_NONE
    )


def check_waiting(
    order_type: int,
    flags: int,
    price: int,
    stop_price: int,
    min_price: int,
    max_price: int,
) -> int:
    """Return 0, or the Reason why a REPLACE with these flags cannot give an order that waits these
    prices, which are those that it would then have."""
    if is_priceless(order_type) and flags & FLAG_KEEP_PRICE == 0:
        return REASON_INVALID_PRICE
    reason = check_band(order_type, price, min_price, max_price)
    if reason != REASON_NONE:
        return reason
    return check_stop_price(order_type, stop_price, min_price, max_price)


def waits_for_rise(order_type: int, side: int) -> bool:
    """Tell whether an order with a stop price waits for trades at it or above, not below."""
    if order_type in (ORDER_TYPE_STOP, ORDER_TYPE_STOP_LIMIT):
        return side == SIDE_BUY
    return side == SIDE_SELL


def is_reached(rise: bool, stop_price: int, last_price: int) -> bool:
    """Tell whether the last trade, 0 where there was none, triggers an order that waits for a rise
    to a stop price, or for a fall."""
    if last_price == 0:
        return False
    return last_price >= stop_price if rise else last_price <= stop_price


def check_new(
    side: int,
    order_type: int,
    time_in_force: int,
    flags: int,
    price: int,
    quantity: int,
    stop_price: int,
    self_trade_prevention: int,
    min_price: int,
    max_price: int,
) -> int:
    """Return 0, or the first Reason why a NEW command's own fields are not an order."""
    if side not in (SIDE_BUY, SIDE_SELL):
        return REASON_INVALID_SIDE
    if order_type not in (ORDER_TYPE_MARKET, ORDER_TYPE_LIMIT) and order_type not in _CONDITIONAL:
        return REASON_INVALID_ORDER_TYPE
    if time_in_force not in (TIME_IN_FORCE_GTC, TIME_IN_FORCE_IOC, TIME_IN_FORCE_FOK):
        return REASON_INVALID_TIME_IN_FORCE
    if flags & FLAG_POST_ONLY and (
        order_type != ORDER_TYPE_LIMIT or time_in_force != TIME_IN_FORCE_GTC
    ):
        return REASON_INVALID_POST_ONLY
    reason = check_price_quantity(order_type, price, quantity)
    if reason == REASON_NONE:
        reason = check_band(order_type, price, min_price, max_price)
    if reason == REASON_NONE:
        reason = check_stop_price(order_type, stop_price, min_price, max_price)
    if reason == REASON_NONE and self_trade_prevention > _LAST_MODE:
        reason = REASON_INVALID_SELF_TRADE_PREVENTION
    return reason
