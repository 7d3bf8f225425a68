"""The trading rules that every book keeps, written down once.

**Priority.** Price, then time of entry. A trade's price is the resting order's. Only a LIMIT order
that is GTC, DAY or GTD rests; what is left of any other after matching is cancelled. From their
trigger on STOP and MARKET_IF_TOUCHED orders are as MARKET orders, STOP_LIMIT and LIMIT_IF_TOUCHED
orders as LIMIT orders.

**Commands** and the fields they use (others are ignored):

| command | fields |
| --- | --- |
| NEW | account, symbol, client_order_id, and all that ``check_new`` takes (flags: POST_ONLY) |
| NEW_OCO, NEW_BRACKET | the same, and what ``check_list`` takes: see *Lists* |
| CANCEL | account, order_id, or symbol and client_order_id |
| REPLACE | as CANCEL, price, quantity, stop_price, display_quantity, and the three flags below |
| REDUCE | as CANCEL, and quantity |
| MASS_CANCEL | account, symbol (0: every symbol of the shard) |

``order_id`` wins over ``client_order_id`` where both are given; a symbol given with an order_id
must be the order's. A client_order_id is unique per account and symbol among the live orders and
those that ``engine.books.id_memory`` remembers; 0 means none.

**Checks**, in this order; the first that fails rejects the command (a REJECTED report, nothing
else changes):

NEW: symbol, then ``check_new`` (side, order_type, time_in_force, post_only, quantity, price, price
band, stop price, display quantity, expire time, minimum quantity, self_trade_prevention), then
DUPLICATE_CLIENT_ORDER_ID (the report carries the first order's id), BOOK_FULL (one that can rest,
or has a stop price, while ``max_resting_orders`` of its symbol rest or wait, whether it would trade
or not), TOO_MANY_ORDERS (the same while ``max_account_orders`` of its account do),
POST_ONLY_WOULD_TRADE.

CANCEL, REPLACE, REDUCE: INVALID_ORDER_ID where both ids are 0; UNKNOWN_SYMBOL where a symbol is
given, or is needed, that the shard does not hold; for REPLACE ``check_replace``, for REDUCE
``check_quantity``; UNKNOWN_ORDER where no such order rests or waits, or it is not the account's;
LINKED_ORDER where ``can_change`` says so of one that is tied to others.
Then for REPLACE INVALID_STOP_PRICE where one is given and the order does not wait; for one that
waits ``check_waiting``, else the band of the order's symbol; ALREADY_FILLED where the new quantity
(without REINSERT) is not above cum_qty; INVALID_QUANTITY where cum_qty and quantity (with REINSERT)
exceed MAX_QUANTITY; POST_ONLY_WOULD_TRADE where the order is post-only and the new price crosses;
``check_display``, which is asked before the band of an order that rests without a display quantity.

**REPLACE.** Without REINSERT ``quantity`` is the order's new total. The same price and a smaller
quantity: the order keeps its place. Anything else: it leaves the book and enters at the back of
its queue under the same ids, trading first if it crosses. With REINSERT ``quantity`` is the new
open quantity and the order always goes to the back; the total becomes cum_qty + quantity.
With KEEP_PRICE ``price`` is ignored and the order's stands in its place, with KEEP_QUANTITY
``quantity`` is ignored and the order's total does, with REINSERT its open quantity: as they are
when the command is matched. What then follows is as if they had been given. One of the two must
be given (INVALID_REPLACE), or a ``stop_price`` or ``display_quantity``.

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

**Icebergs.** An order with a ``display_quantity`` enters with its whole quantity; of what then
rests only so much is shown, which alone the depth has. Once that is traded a new part of the same
size, or what is left, is shown, at the back of the queue of its price. So a taker meets all that is
shown at a price, and then the new parts in the order in which those before them ran out; each is a
trade of its own. Reports are on the whole order; ``last_qty`` of one that is of no trade and of no
self-trade has the display quantity. REDUCE, DECREMENT and REPLACE with less take off what is hidden
first, and keep the place. A REPLACE with a ``display_quantity`` gives the order another one, and
puts it to the back; 0: it stays what it is. An iceberg has at most MAX_PARTS parts. FOK counts what
is hidden.

**At the best price.** A MARKET_TO_LIMIT order has as its limit the best price of the opposite side
as it is entered; a MARKET_WITH_PROTECTION order one that is as many ticks worse as its ``price``
says (``limit_from_best``). From the answer on it is as a LIMIT order with that ``price``. Where the
opposite side is empty, it is cancelled (MARKET_REMAINDER).

**Minimum quantity.** An order that cannot be filled so far at once, within its price, is cancelled
whole (MINIMUM_UNFILLED) without a trade; what counts is as for FOK.

**Expiry.** A GTD order has an ``expire_time_ns``; a DAY order expires at the end of the day in
which it is entered (``expire_time``), which its instrument has. That is of no matter to one that
neither waits nor can rest. Each command, whichever it is, has a time, and before it is carried out
all orders expire whose time is not above that: the earliest first, at one time the oldest. Each has
an EXPIRED report (reason EXPIRED, request_id 0), as CANCELED but for that, before all that the
command gives. A NEW command whose order's time is over is accepted, and it expires at once. So that
none outlives its time while nobody sends anything, a matcher gives itself a MASS_CANCEL with
CONTINUE when the next one is due. REPLACE does not change when an order expires.

**Self-trades.** Where an order with a ``self_trade_prevention`` would trade, as the taker, with one
of its own account, it does not (maker by maker; earlier trades stand):

- CANCEL_NEWEST: what is left of it is cancelled, and does not rest.
- CANCEL_OLDEST: the maker is cancelled, and it goes on.
- CANCEL_BOTH: both.
- DECREMENT: both lose the smaller leaves_qty of the two, hidden parts included, of their totals as
  by REDUCE; what then has nothing left is cancelled. The taker goes on with what it has.

Each of the two that changes has a report, the maker's first: CANCELED, or for what goes on after
DECREMENT REPLACED, with reason SELF_TRADE; in ``last_price`` the maker's price, in ``last_qty`` the
quantity that was prevented, and no trade_id. An order keeps its mode, as the taker after a REPLACE
or trigger too; the makers' modes do not matter. FOK counts no orders of the account then, and but
for CANCEL_OLDEST nothing behind the first of them. Orders of an account without a mode trade with
each other.

**Lists.** One command enters two or three orders of one account, symbol and quantity, all of them
or none: symbol, ``check_list``, DUPLICATE_CLIENT_ORDER_ID for the id of any, BOOK_FULL and
TOO_MANY_ORDERS where there is not room for all that rest or wait, POST_ONLY_WOULD_TRADE. Their
order_ids follow one another, and so do their client_order_ids, from the one that is given. Each has
a NEW report, the first is the answer (the others have request_id 0); then the first order enters.

- NEW_OCO: a LIMIT order at ``price``, and one that waits for ``stop_price``: STOP_LIMIT with a
  ``stop_limit_price``, else STOP. Both have the time in force and the mode of the command. It waits
  once the LIMIT order has entered; where its stop price is reached by then, it triggers at once.
- NEW_BRACKET: a MARKET or LIMIT order, and on the other side one or two *held* ones, which are GTC:
  a LIMIT order at ``take_price``, and one that waits for ``stop_price``, as above. Once the first
  is filled, and nothing triggers any more, those held are released, one after the other: each has
  a TRIGGERED report, and enters or waits; of two they are then a pair as NEW_OCO makes. Where the
  first ends otherwise, filled in part or not, those held are cancelled. With one of the two it is
  what others call OTO.

What a pair's order has lost, by trades or DECREMENT, is taken off the other one, which has a
REPLACED report; where one has ended, or triggers, the other is cancelled: reason LINKED, request_id
0. That comes once the command, or the order that triggers, is carried out whole, before the next
triggers; for an order that triggers right behind its TRIGGERED report; with expiry, and in a mass
cancel, which does not count those, right behind the order that ends. So both have the same open.
Held orders are listed, counted and cancelled like those that wait, and come last among those that
wait for a rise. A GTD list whose time is over is rejected. In a COMMAND ``take_price`` stands in
minimum_quantity, ``stop_limit_price`` in display_quantity.

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

A CANCELED or EXPIRED report shows in ``quantity`` the total before, in leaves_qty 0. A REJECTED
report repeats the command's own symbol, side, order_type, time_in_force, flags, price, quantity,
ids and account; cum_qty and leaves_qty are 0. ``request_id`` is the command's in every report on
the command's own order (also a taker's trades), 0 in a maker's and in those on what others trigger.
``price`` is the order's limit, 0 for orders without one. ``last_price`` is the trade's; in the
TRIGGERED report of an order and in those before it, its stop price; in one of a prevented
self-trade see above. ``flags`` of a report on an order are the order's POST_ONLY, RARE where it has
a display quantity, expires or is of a list, and TRIGGERED, which has come to be with the command
that triggers it, in the answer to it already; of a REJECTED or MASS_CANCELED report, the command's.
``timestamp_ns`` is the command's. MASS_CANCELED carries the command's symbol, account, request_id
and flags, and otherwise zeros; its ord_status is NEW (0). REJECTED has ord_status REJECTED.
``command_type`` is the causing command's in every report, a maker's too.

**Trades**: TRADE records in matching order, trade_id dense per shard; ``sequence`` is the taker's
command's.

**Texts.** A NAME command says which text the client_order_id of the next one stands for
(``ipc.client_ids``). To a book it is nothing: no report, no order, and nothing expires before it.
Command and NAME are carried out in the same call of ``process``, or neither.

**Ids.** Every command handed to a book counts one ``sequence``; every accepted NEW one order
sequence; every trade one trade sequence. All are dense per shard, and part of the state.

**CONFIGURE** is no command of a client and never comes in an array: it gives a shard's books other
limits (``engine.books.choice.configured``), between commands, and counts one ``sequence``. It gives
no report and moves no order: what rests stays, outside a new band too, which binds what is entered
or replaced from then on; where more rest of an account than its new limit, it enters no more.
"""

from ipc.codes import (
    COMMAND_TYPE_CANCEL,
    COMMAND_TYPE_NEW_OCO,
    COMMAND_TYPE_REPLACE,
    FLAG_KEEP_PRICE,
    FLAG_KEEP_QUANTITY,
    FLAG_POST_ONLY,
    ORDER_TYPE_LIMIT,
    ORDER_TYPE_MARKET,
    ORDER_TYPE_MARKET_TO_LIMIT,
    ORDER_TYPE_MARKET_WITH_PROTECTION,
    ORDER_TYPE_STOP,
    ORDER_TYPE_STOP_LIMIT,
    REASON_INVALID_DISPLAY_QUANTITY,
    REASON_INVALID_EXPIRE_TIME,
    REASON_INVALID_LIST,
    REASON_INVALID_MINIMUM_QUANTITY,
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
    TIME_IN_FORCE_DAY,
    TIME_IN_FORCE_FOK,
    TIME_IN_FORCE_GTC,
    TIME_IN_FORCE_GTD,
    TIME_IN_FORCE_IOC,
)
from ipc.vocabulary import (
    CONDITIONAL,
    MAX_CLIENT_ID,
    MAX_PRICE,
    MAX_QUANTITY,
    PRICELESS,
    OrderType,
    SelfTradePrevention,
)

SWEEP_ORDERS = 1_024
"""Orders that a mass cancel looks at before others have their turn: well below a millisecond."""
MAX_SWEEPS = 1_024
"""Mass cancels of a shard that are under way at a time."""
MAX_PARTS = 100
"""Of an iceberg: so many times its display quantity may be open. Each part trades by itself."""

LINK_NEXT, LINK_PREVIOUS, LINK_CHILD, LINK_CHILDREN = 1, 2, 4, 8
"""Bits of an order of a list, by whom it is tied to: one of a pair with the order of the next id,
or of the one before; the one that the next one waits for, and the one behind that too."""
LINK_HELD, LINK_LISTED, LINK_FRESH = 16, 32, 64
"""It is held; it is of a list, and stays so; its command is under way, and has not let it wait."""
LINK_PAIRED = LINK_NEXT | LINK_PREVIOUS
LINK_TIED = LINK_PAIRED | LINK_CHILD | LINK_CHILDREN | LINK_HELD
LINKS = (
    0,
    *(LINK_LISTED, LINK_LISTED | LINK_NEXT, LINK_LISTED | LINK_PREVIOUS),
    *(LINK_LISTED | LINK_CHILD, LINK_LISTED | LINK_CHILD | LINK_CHILDREN),
    *(LINK_LISTED | LINK_HELD | paired for paired in (0, LINK_NEXT, LINK_PREVIOUS)),
)
"""All that an order can have between commands."""
HELD_PRICE = MAX_PRICE + 1
"""As whose stop price those held stand among those that wait for a rise: no trade reaches it."""
MAX_LISTED = 3
"""Orders of a list."""

_TYPES = tuple(map(int, OrderType))
_PRICELESS, _CONDITIONAL = tuple(map(int, PRICELESS)), tuple(map(int, CONDITIONAL))
_NS_OF_SECOND = 1_000_000_000
DAY_S = 86_400
_KEEP_BOTH = FLAG_KEEP_PRICE | FLAG_KEEP_QUANTITY
_LAST_MODE = max(map(int, SelfTradePrevention))


def is_priceless(order_type: int) -> bool:
    """Tell whether an order has no limit: it trades at any price, and never rests."""
    return order_type in _PRICELESS


def can_rest(order_type: int, time_in_force: int) -> bool:
    """Tell whether what is left of an order after matching rests."""
    return time_in_force in (
        TIME_IN_FORCE_GTC,
        TIME_IN_FORCE_DAY,
        TIME_IN_FORCE_GTD,
    ) and not is_priceless(order_type)


def takes_best(order_type: int) -> bool:
    """Tell whether an order's limit comes of the best price as it is entered."""
    return order_type in (ORDER_TYPE_MARKET_TO_LIMIT, ORDER_TYPE_MARKET_WITH_PROTECTION)


def limit_from_best(side: int, best_price: int, distance: int) -> int:
    """Return the limit of an order that trades so far from the best price of the other side."""
    if side == SIDE_BUY:
        return min(best_price + distance, MAX_PRICE)
    return max(best_price - distance, 1)


def check_quantity(quantity: int) -> int:
    """Return 0, or the Reason why a quantity is not one."""
    if quantity < 1 or quantity > MAX_QUANTITY:
        return REASON_INVALID_QUANTITY
    return REASON_NONE


def check_price_quantity(order_type: int, price: int, quantity: int) -> int:
    """Return 0, or the Reason why quantity or price cannot be those of an order of this type."""
    if quantity < 1 or quantity > MAX_QUANTITY:
        return REASON_INVALID_QUANTITY
    if is_priceless(order_type) or order_type == ORDER_TYPE_MARKET_TO_LIMIT:
        return REASON_NONE if price == 0 else REASON_INVALID_PRICE
    if price < 1 or price > MAX_PRICE:
        return REASON_INVALID_PRICE
    return REASON_NONE


def check_replace(flags: int, price: int, quantity: int, further: int) -> int:
    """Return 0, or the Reason why a REPLACE command's own fields cannot change any order;
    ``further`` is not 0 where it gives another than price and quantity."""
    keeps = flags & _KEEP_BOTH
    if keeps == 0:
        return check_price_quantity(ORDER_TYPE_LIMIT, price, quantity)
    if keeps == _KEEP_BOTH:
        return REASON_NONE if further != 0 else REASON_INVALID_REPLACE
    if keeps == FLAG_KEEP_PRICE:
        return check_quantity(quantity)
    return check_price_quantity(ORDER_TYPE_LIMIT, price, 1)


def check_band(order_type: int, price: int, min_price: int, max_price: int) -> int:
    """Return 0, or PRICE_OUT_OF_BAND for a limit price outside the instrument's band."""
    if is_priceless(order_type) or takes_best(order_type):
        return REASON_NONE
    return REASON_PRICE_OUT_OF_BAND if price < min_price or price > max_price else REASON_NONE


def check_stop_price(order_type: int, stop_price: int, min_price: int, max_price: int) -> int:
    """Return 0, or INVALID_STOP_PRICE for one that is none, or of an order that has none."""
    if order_type not in _CONDITIONAL:
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


def is_display_quantity(display_quantity: int, quantity: int) -> bool:
    """Tell whether an order with so much open may show so much."""
    if display_quantity < 1 or display_quantity > MAX_QUANTITY:
        return False
    return quantity <= display_quantity * MAX_PARTS


def check_new_display(
    order_type: int, time_in_force: int, display_quantity: int, quantity: int
) -> int:
    """Return 0, or INVALID_DISPLAY_QUANTITY for none, or one of an order that never rests."""
    if display_quantity == 0:
        return REASON_NONE
    if not can_rest(order_type, time_in_force) or display_quantity > quantity:
        return REASON_INVALID_DISPLAY_QUANTITY
    return (
        REASON_NONE
        if is_display_quantity(display_quantity, quantity)
        else REASON_INVALID_DISPLAY_QUANTITY
    )


def check_minimum(order_type: int, time_in_force: int, minimum_quantity: int, quantity: int) -> int:
    """Return 0, or INVALID_MINIMUM_QUANTITY for none, or one of an order that has none."""
    if minimum_quantity == 0:
        return REASON_NONE
    right = time_in_force == TIME_IN_FORCE_IOC and order_type in (
        ORDER_TYPE_MARKET,
        ORDER_TYPE_LIMIT,
        ORDER_TYPE_MARKET_WITH_PROTECTION,
    )
    return (
        REASON_NONE
        if right and 1 <= minimum_quantity <= quantity
        else REASON_INVALID_MINIMUM_QUANTITY
    )


def check_expire_time(time_in_force: int, expire_time_ns: int) -> int:
    """Return 0, or INVALID_EXPIRE_TIME for one that is none, or of an order that has none."""
    if time_in_force != TIME_IN_FORCE_GTD:
        return REASON_NONE if expire_time_ns == 0 else REASON_INVALID_EXPIRE_TIME
    return REASON_NONE if 1 <= expire_time_ns <= MAX_CLIENT_ID else REASON_INVALID_EXPIRE_TIME


def expire_time(time_in_force: int, given: int, now_ns: int, day_end_s: int) -> int:
    """Return when an order expires that is entered now, 0: never; ``day_end_s``: seconds after
    midnight, UTC."""
    if time_in_force == TIME_IN_FORCE_GTD:
        return given
    if time_in_force != TIME_IN_FORCE_DAY:
        return 0
    day_ns = DAY_S * _NS_OF_SECOND
    passed = (now_ns + day_ns - day_end_s * _NS_OF_SECOND) % day_ns
    return now_ns + day_ns - passed


def check_display(has: int, given: int, leaves_qty: int) -> int:
    """Return 0, or INVALID_DISPLAY_QUANTITY where a REPLACE gives one that cannot be, or leaves too
    much open for the one that the order ``has``; 0: none."""
    if has == 0:
        return REASON_NONE if given == 0 else REASON_INVALID_DISPLAY_QUANTITY
    shown = has if given == 0 else given
    return (
        REASON_NONE if is_display_quantity(shown, leaves_qty) else REASON_INVALID_DISPLAY_QUANTITY
    )


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
    display_quantity: int,
    expire_time_ns: int,
    minimum_quantity: int,
    self_trade_prevention: int,
    min_price: int,
    max_price: int,
) -> int:
    """Return 0, or the first Reason why a NEW command's own fields are not an order."""
    if side not in (SIDE_BUY, SIDE_SELL):
        return REASON_INVALID_SIDE
    if order_type not in _TYPES:
        return REASON_INVALID_ORDER_TYPE
    if time_in_force not in (
        TIME_IN_FORCE_GTC,
        TIME_IN_FORCE_IOC,
        TIME_IN_FORCE_FOK,
        TIME_IN_FORCE_DAY,
        TIME_IN_FORCE_GTD,
    ):
        return REASON_INVALID_TIME_IN_FORCE
    if order_type == ORDER_TYPE_MARKET_WITH_PROTECTION and time_in_force not in (
        TIME_IN_FORCE_IOC,
        TIME_IN_FORCE_FOK,
    ):
        return REASON_INVALID_TIME_IN_FORCE
    if flags & FLAG_POST_ONLY and (
        order_type != ORDER_TYPE_LIMIT or not can_rest(order_type, time_in_force)
    ):
        return REASON_INVALID_POST_ONLY
    reason = check_price_quantity(order_type, price, quantity)
    if reason == REASON_NONE:
        reason = check_band(order_type, price, min_price, max_price)
    if reason == REASON_NONE:
        reason = check_stop_price(order_type, stop_price, min_price, max_price)
    if reason == REASON_NONE:
        reason = check_new_display(order_type, time_in_force, display_quantity, quantity)
    if reason == REASON_NONE:
        reason = check_expire_time(time_in_force, expire_time_ns)
    if reason == REASON_NONE:
        reason = check_minimum(order_type, time_in_force, minimum_quantity, quantity)
    if reason == REASON_NONE and self_trade_prevention > _LAST_MODE:
        reason = REASON_INVALID_SELF_TRADE_PREVENTION
    return reason


def can_change(link: int, command_type: int, flags: int) -> bool:
    """Tell whether a command may change an order that is tied so: one that is held is cancelled
    alone, any other may be replaced too where its quantity stays."""
    if link & LINK_TIED == 0 or command_type == COMMAND_TYPE_CANCEL:
        return True
    keeps = command_type == COMMAND_TYPE_REPLACE and flags & FLAG_KEEP_QUANTITY != 0
    return keeps and link & LINK_HELD == 0


def is_price(price: int, min_price: int, max_price: int) -> bool:
    """Tell whether an order may have such a limit."""
    return min_price <= price <= max_price and 1 <= price <= MAX_PRICE


def check_exit(
    side: int, price: int, stop_price: int, stop_limit_price: int, min_price: int, max_price: int
) -> int:
    """Return 0, or the Reason why a limit and a stop price, of which 0 is none, cannot be those of
    a pair on a side, or of one order of it."""
    if price == 0 and stop_price == 0:
        return REASON_INVALID_LIST
    if price != 0 and not is_price(price, min_price, max_price):
        return REASON_INVALID_LIST
    if stop_price == 0:
        return REASON_NONE if stop_limit_price == 0 else REASON_INVALID_LIST
    reason = check_stop_price(ORDER_TYPE_STOP, stop_price, min_price, max_price)
    if reason != REASON_NONE:
        return reason
    if stop_limit_price != 0 and not is_price(stop_limit_price, min_price, max_price):
        return REASON_INVALID_LIST
    apart = price == 0 or (price > stop_price if side == SIDE_SELL else price < stop_price)
    return REASON_NONE if apart else REASON_INVALID_LIST


def is_name_of_list(client_order_id: int) -> bool:
    """Tell whether the orders of a list can have the ids from this one on: numbers, or those that
    stand for a text (``ipc.client_ids``), which compiled code has as negative numbers."""
    if 0 <= client_order_id <= MAX_CLIENT_ID:
        return client_order_id <= MAX_CLIENT_ID - MAX_LISTED
    return client_order_id & MAX_LISTED == 0


def check_list(
    command_type: int,
    side: int,
    order_type: int,
    time_in_force: int,
    flags: int,
    self_trade_prevention: int,
    price: int,
    quantity: int,
    take_price: int,
    stop_price: int,
    stop_limit_price: int,
    expire_time_ns: int,
    client_order_id: int,
    now_ns: int,
    min_price: int,
    max_price: int,
) -> int:
    """Return 0, or the first Reason why a NEW_OCO or NEW_BRACKET command's fields are no list."""
    pair = command_type == COMMAND_TYPE_NEW_OCO
    kind = ORDER_TYPE_LIMIT if pair else order_type
    if kind not in (ORDER_TYPE_MARKET, ORDER_TYPE_LIMIT):
        return REASON_INVALID_ORDER_TYPE
    only = 0 if pair else flags
    terms = (side, kind, time_in_force, only, price, quantity)
    further = (expire_time_ns, 0, self_trade_prevention)
    reason = check_new(*terms, 0, 0, *further, min_price, max_price)
    if reason != REASON_NONE:
        return reason
    if pair and not can_rest(kind, time_in_force):
        return REASON_INVALID_TIME_IN_FORCE
    if time_in_force == TIME_IN_FORCE_GTD and expire_time_ns <= now_ns:
        return REASON_INVALID_EXPIRE_TIME
    if not is_name_of_list(client_order_id):
        return REASON_INVALID_LIST
    exits = (stop_price, stop_limit_price, min_price, max_price)
    if pair:
        reason = check_exit(side, price, *exits)
        return REASON_INVALID_LIST if reason == REASON_NONE and stop_price == 0 else reason
    return check_exit(SIDE_SELL if side == SIDE_BUY else SIDE_BUY, take_price, *exits)
