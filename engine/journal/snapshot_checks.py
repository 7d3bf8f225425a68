"""What the records of a snapshot may hold: looked at before compiled code is given any of them.

A right checksum says that a file is as it was written, not that a book wrote it. Every field is
held against its range, every section against its order, and all of them against each other, so that
what is left is a state that a book can have.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.books.contract import Counters, Records
from engine.books.id_memory import forgotten_before, places_from_newest
from engine.books.rules import (
    HELD_PRICE,
    LINK_CHILD,
    LINK_CHILDREN,
    LINK_HELD,
    LINK_NEXT,
    LINK_PAIRED,
    LINKS,
    MAX_PARTS,
    MAX_SWEEPS,
    is_priceless,
    waits_for_rise,
)
from engine.journal.shard_config import ShardConfig
from ipc.arrays import Words
from ipc.bounds import TEXT_BIT
from ipc.client_ids import is_client_text, number_of
from ipc.codes import (
    COMMAND_TYPE_MASS_CANCEL,
    FLAG_POST_ONLY,
    FLAG_RARE,
    FLAG_TRIGGERED,
    SIDE_BUY,
    SIDE_SELL,
    TIME_IN_FORCE_DAY,
    TIME_IN_FORCE_FOK,
    TIME_IN_FORCE_GTD,
    TIME_IN_FORCE_IOC,
)
from ipc.records import SEQUENCE_MASK, make_id
from ipc.vocabulary import (
    CONDITIONAL,
    MAX_PRICE,
    MAX_QUANTITY,
    PREVENTION_SHIFT,
    OrderType,
    OrdStatus,
    Reason,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

MAX_WORD = 2**63 - 1
"""Of a number that the wire can carry."""
_ANY = 2**64 - 1
_SIDES = (SIDE_BUY, SIDE_SELL)
_FLAGS = [
    flags | mode << PREVENTION_SHIFT | rare
    for rare in (0, FLAG_RARE)
    for flags in (0, FLAG_POST_ONLY, FLAG_TRIGGERED)
    for mode in map(int, SelfTradePrevention)
]
_STATUSES = [int(status) for status in OrdStatus if status != OrdStatus.REJECTED]
_AT_ONCE = (TIME_IN_FORCE_IOC, TIME_IN_FORCE_FOK)
_IN_TIME = (TIME_IN_FORCE_DAY, TIME_IN_FORCE_GTD)
_CONDITIONAL = list(map(int, CONDITIONAL))
_PRICELESS = [int(kind) for kind in OrderType if is_priceless(kind)]
_ON_RISE = [
    (int(kind), int(side)) for kind in OrderType for side in Side if waits_for_rise(kind, side)
]
_TYPES = (int(min(OrderType)), int(max(OrderType)))
_TIMES = (int(min(TimeInForce)), int(max(TimeInForce)))
_TIME_CODES = list(map(int, TimeInForce))
Bounds: TypeAlias = Mapping[str, tuple[int, int]]


class Wrong(NamedTuple):
    """The first row of a section that breaks a rule: which, its field, and the rule."""

    row: int
    field: str
    rule: str


def counters_problem(counters: Counters, timestamp_ns: int, reports: int) -> str:
    """Return what is wrong with the numbers of a snapshot's head, or nothing."""
    for name, value in zip(counters._fields, counters, strict=True):
        if not 0 <= value <= SEQUENCE_MASK:
            return f"{name} = {value}: must be 0 to {SEQUENCE_MASK}"
    for name, value in (("timestamp_ns", timestamp_ns), ("reports", reports)):
        if not 0 <= value <= MAX_WORD:
            return f"{name} = {value}: must be 0 to {MAX_WORD}"
    return ""


class RowChecks:
    """The rules that each row of a section keeps by itself, under the configuration of a shard."""

    def __init__(self, shard_config: ShardConfig, counters: Counters) -> None:
        first, last = (
            make_id(shard_config.shard, 1),
            make_id(shard_config.shard, counters.order_sequence),
        )
        order = {"order_id": (first, last), "client_order_id": (0, _ANY)}
        amounts = {"cum_qty": (0, MAX_QUANTITY), "side": _SIDES, "flags": (0, max(_FLAGS))}
        self._bounds: dict[str, Bounds] = {
            "resting": order
            | amounts
            | {"price": (0, MAX_PRICE), "leaves_qty": (1, MAX_QUANTITY), "link": (0, max(LINKS))}
            | {"order_type": _TYPES, "time_in_force": _TIMES}
            | {"stop_price": (0, MAX_PRICE)}
            | dict.fromkeys(("display_quantity", "shown_quantity"), (0, MAX_QUANTITY))
            | {"expire_time_ns": (0, MAX_WORD)},
            "recent": order | {"client_order_id": (1, _ANY)},
            "texts": {"order_id": (first, last)},
            "orders": order
            | amounts
            | {
                "price": (0, MAX_PRICE),
                "quantity": (1, MAX_QUANTITY),
                "leaves_qty": (0, MAX_QUANTITY),
                "reason": (0, int(max(Reason))),
                "order_type": _TYPES,
                "time_in_force": _TIMES,
                "end_number": (0, 2**32 - 1),
                "stop_price": (0, MAX_PRICE),
                "display_quantity": (0, MAX_QUANTITY),
            },
            "sweeps": {
                "command_type": (COMMAND_TYPE_MASS_CANCEL, COMMAND_TYPE_MASS_CANCEL),
                "order_id": (make_id(shard_config.shard, 0), last),
                "client_order_id": (0, last),
                "price": (0, 1),
                "quantity": (0, SEQUENCE_MASK),
                "timestamp_ns": (0, 0),
                "stop_price": (0, 1),
            },
            "last_prices": {"price": (1, MAX_PRICE)},
            "accounts": {"account": (1, _ANY), "sequence": (0, SEQUENCE_MASK)},
        }
        self._listed = np.zeros(1 << 16, np.bool_)
        self._known = np.zeros(1 << 16, np.bool_)
        self._listed[[instrument.number for instrument in shard_config.instruments]] = True
        self._known[[instrument.number for instrument in shard_config.retired]] = True
        self._known |= self._listed

    def problem(self, section: str, rows: Records) -> Wrong | None:
        """Return the first row that breaks a rule."""
        for field, (low, high) in self._bounds[section].items():
            values = rows[field]
            wrong = (values < low) | (values > high)
            if wrong.any():
                row = int(wrong.argmax())
                return Wrong(row, field, f"= {values[row]}: must be {low} to {high}")
        if "symbol" not in (rows.dtype.names or ()):
            return None
        symbols = rows["symbol"].astype(np.uint64)
        places = self._known if section == "orders" else self._listed
        known = (symbols < len(places)) & places[np.minimum(symbols, 0xFFFF)]
        if section == "sweeps":
            known |= symbols == 0
        checks = [("symbol", known, "must be an instrument of the shard")]
        if section in ("resting", "orders"):
            known = np.isin(rows["flags"], _FLAGS)
            checks.append(("flags", known, "must be those of an order"))
        if section == "resting":
            total = rows["leaves_qty"] + rows["cum_qty"] <= MAX_QUANTITY
            checks.append(("cum_qty", total, f"must be at most {MAX_QUANTITY} with leaves_qty"))
            checks += _kind_checks(rows) + _display_checks(rows)
        elif section == "orders":
            known = np.isin(rows["ord_status"], _STATUSES)
            checks.append(("ord_status", known, "must be a status of an order"))
        return next(_failures(checks, rows), None)


def state_problem(
    shard_config: ShardConfig,
    counters: Counters,
    resting: Records,
    recent: Records,
    sweeps: Records,
    last_prices: Records,
    orders: Records,
    texts: Records,
    accounts: Records,
) -> tuple[str, Wrong] | None:
    """Return which section, and what there, cannot be of one state, though each row is right."""
    checks = (
        ("resting", resting, _resting_checks(shard_config, resting)),
        ("resting", resting, _link_checks(resting)),
        ("recent", recent, _recent_checks(shard_config, counters, recent)),
        ("sweeps", sweeps, _sweep_checks(sweeps, resting)),
        ("last_prices", last_prices, [("symbol", _grows(last_prices["symbol"]), "must grow")]),
        ("resting", resting, _reached_checks(resting, last_prices)),
        ("orders", orders, [("order_id", _first_of(orders["order_id"]), "is there twice")]),
        ("orders", orders, [("client_order_id", _has_text(orders, texts), "has no text")]),
        ("texts", texts, _text_checks(texts, orders)),
        ("accounts", accounts, [("account", _grows(accounts["account"]), "must grow")]),
    )
    for section, rows, rules in checks:
        for wrong in _failures(rules, rows):
            return section, wrong
    return _clash(resting, recent)


_Check: TypeAlias = tuple[str, npt.NDArray[np.bool_], str]


def _failures(checks: list[_Check], rows: Records) -> Iterator[Wrong]:
    for field, right, rule in checks:
        if not right.all():
            row = int((~right).argmax())
            yield Wrong(row, field, f"= {rows[field][row]}: {rule}")


def _recent_checks(shard_config: ShardConfig, counters: Counters, recent: Records) -> list[_Check]:
    """Oldest first; of those not of recent orders no more than are kept."""
    forgotten = forgotten_before(counters.order_sequence, shard_config.recent_orders)
    sequences = recent["order_id"] & np.uint64(SEQUENCE_MASK)
    kept = int((sequences <= np.uint64(forgotten)).sum())
    shares = shard_config.shares().checked(shard_config.recent_orders)
    inside = np.ones(len(recent), np.bool_)
    inside[: kept - shares.kept_ids] = kept <= shares.kept_ids
    own = np.ones(len(recent), np.bool_)
    own[:kept] = places_from_newest(recent["account"][:kept]) < shares.account_ids
    return [
        ("order_id", _grows(recent["order_id"]), "must grow"),
        ("order_id", inside, f"is one of {kept} that are kept, more than {shares.kept_ids}"),
        ("account", own, f"has more kept than {shares.account_ids}"),
    ]


def _has_text(orders: Records, texts: Records) -> npt.NDArray[np.bool_]:
    """Tell of each order whether its text is there, where its client_order_id stands for one."""
    plain: npt.NDArray[np.bool_] = orders["client_order_id"] < np.uint64(TEXT_BIT)
    return plain | np.isin(orders["order_id"], texts["order_id"])


def _text_checks(texts: Records, orders: Records) -> list[_Check]:
    """One for each order whose client_order_id stands for a text, in their order: that text."""
    named = orders[orders["client_order_id"] >= np.uint64(TEXT_BIT)]
    count = min(len(named), len(texts))
    same = np.zeros(len(texts), np.bool_)
    same[:count] = texts["order_id"][:count] == named["order_id"][:count]
    numbers = np.zeros(len(texts), np.uint64)
    found = (number_of(text) if is_client_text(text) else 0 for text in texts["text"].tolist())
    numbers[:] = list(found)
    own = np.zeros(len(texts), np.bool_)
    own[:count] = numbers[:count] == named["client_order_id"][:count]
    return [
        ("order_id", same, "must be that of the next order that has a text"),
        ("text", own, "must be what its order's client_order_id stands for"),
    ]


def _kind_checks(rows: Records) -> list[_Check]:
    """What waits has a stop price and a type that does, what rests is GTC and has a limit."""
    waits, kinds = rows["stop_price"] != 0, rows["order_type"]
    triggered = rows["flags"] & FLAG_TRIGGERED != 0
    limits = ~np.isin(kinds, _PRICELESS)
    right = np.where(
        waits, np.isin(kinds, _CONDITIONAL), limits & (np.isin(kinds, _CONDITIONAL) == triggered)
    )
    return [
        ("order_type", np.isin(kinds, list(OrderType)), "must be one there is"),
        ("order_type", right, "must be one that waits with a stop price, and one that rests else"),
        ("flags", ~(waits & triggered), "must not say triggered while it waits"),
        (
            "flags",
            ~(waits & (rows["flags"] & FLAG_POST_ONLY != 0)),
            "must not be post-only with these",
        ),
        ("cum_qty", ~(waits | _held(rows)) | (rows["cum_qty"] == 0), "must be 0 while it waits"),
        ("flags", ~(_held(rows) & triggered), "must not say triggered while it is held"),
        ("link", np.isin(rows["link"], LINKS), "must be one of an order of a list"),
        (
            "time_in_force",
            waits | ~np.isin(rows["time_in_force"], _AT_ONCE),
            "must not be IOC or FOK where it rests",
        ),
        ("time_in_force", np.isin(rows["time_in_force"], _TIME_CODES), "must be one there is"),
        (
            "price",
            (rows["price"] != 0) == limits,
            "must be given where there is a limit, and only there",
        ),
    ]


def _display_checks(rows: Records) -> list[_Check]:
    """What has a display quantity rests or will, and shows a part as long as it rests; what is to
    end in time says when."""
    display, shown = rows["display_quantity"], rows["shown_quantity"]
    rare, rests = display != 0, rows["stop_price"] == 0
    expires = rows["expire_time_ns"] != 0
    flagged = rows["flags"] & FLAG_RARE != 0
    shows = (shown >= 1) & (shown <= np.minimum(display, rows["leaves_qty"]))
    can_rest = (rows["price"] != 0) & ~np.isin(rows["time_in_force"], _AT_ONCE)
    return [
        (
            "expire_time_ns",
            np.isin(rows["time_in_force"], _IN_TIME) == expires,
            "must be given for DAY and GTD, and only then",
        ),
        ("display_quantity", ~rare | can_rest, "must be of an order that can rest"),
        (
            "display_quantity",
            ~rare | (rows["leaves_qty"] <= display * np.uint64(MAX_PARTS)),
            f"must be a {MAX_PARTS}th of what is open at least",
        ),
        (
            "shown_quantity",
            np.where(rare & rests, shows, shown == 0),
            "must be what is shown of an iceberg that rests",
        ),
        (
            "flags",
            (rare | expires | (rows["link"] != 0)) == flagged,
            "must say whether an order is rare",
        ),
    ]


def _held(rows: Records) -> npt.NDArray[np.bool_]:
    """Return, by row, whether an order waits for another one of its list."""
    held: npt.NDArray[np.bool_] = rows["link"] & LINK_HELD != 0
    return held


def _link_checks(resting: Records) -> list[_Check]:
    """Both of a pair are there, with the same open; those held have one that they wait for."""
    links, ids = resting["link"].astype(np.int64), resting["order_id"]
    order = np.argsort(ids, kind="stable")

    def tied(wanted: Words, names: tuple[str, ...]) -> npt.NDArray[np.int64]:
        """Return the links of the orders with these ids, 0 where there is none of the same."""
        places = np.minimum(np.searchsorted(ids[order], wanted), max(0, len(ids) - 1))
        found = order[places]
        same = ids[found] == wanted
        for name in names:
            same &= resting[name][found] == resting[name]
        return np.where(same, links[found], 0)

    one, two = np.uint64(1), np.uint64(2)
    own = ("account", "symbol")
    other = tied(np.where(links & LINK_NEXT, ids + one, ids - one), (*own, "side", "leaves_qty"))
    pairs = ((links ^ other) & LINK_PAIRED == LINK_PAIRED) & ((links ^ other) & LINK_HELD == 0)
    first, behind = tied(ids - one, own) & LINK_CHILD, tied(ids - two, own) & LINK_CHILDREN
    return [
        ("link", (links & LINK_PAIRED == 0) | pairs, "must be of two orders with the same open"),
        ("link", ~_held(resting) | (first + behind != 0), "must have an order to wait for"),
    ]


def _on_rise(rows: Records) -> npt.NDArray[np.bool_]:
    """Return, by row, whether an order with a stop price waits for a rise."""
    found = np.zeros(len(rows), np.bool_)
    for kind, side in _ON_RISE:
        found |= (rows["order_type"] == kind) & (rows["side"] == side)
    return found


def _reached_checks(resting: Records, last_prices: Records) -> list[_Check]:
    """What waits has not been reached by its symbol's last trade."""
    last = np.zeros(1 << 16, np.uint64)
    last[last_prices["symbol"].astype(np.intp)] = last_prices["price"]
    prices, stops = last[resting["symbol"]], resting["stop_price"]
    reached = np.where(_on_rise(resting), stops <= prices, stops >= prices)
    reached &= (stops != 0) & (prices != 0) & ~_held(resting)
    return [("stop_price", ~reached, "is reached by the symbol's last trade")]


def _resting_checks(shard_config: ShardConfig, resting: Records) -> list[_Check]:
    """By symbol, bids then asks, best price, then those that wait; no more than an instrument
    holds, and none crossed."""
    symbols, sides = resting["symbol"].astype(np.int64), resting["side"].astype(np.int64)
    held = _held(resting)
    waits = held | (resting["stop_price"] != 0)
    prices = np.where(waits, resting["stop_price"], resting["price"]).astype(np.int64)
    prices[held] = HELD_PRICE
    rise = _on_rise(resting) | held
    ranks = np.where(np.where(waits, rise, sides == SIDE_SELL), prices, -prices)
    books = symbols * 8 + np.where(waits, np.where(rise, 4, 5), sides)
    in_order = np.ones(len(resting), np.bool_)
    same = books[1:] == books[:-1]
    in_order[1:] = (books[1:] > books[:-1]) | (same & (ranks[1:] >= ranks[:-1]))
    apart = np.ones(len(resting), np.bool_)
    # Where a symbol's asks begin, its best bid is that of the symbol's first row.
    starts = np.searchsorted(symbols, symbols) if in_order.all() else np.zeros(0, np.int64)
    if len(starts):
        is_ask = (sides == SIDE_SELL) & ~waits
        with_bids = (sides[starts] == SIDE_BUY) & ~waits[starts]
        apart = ~(is_ask & with_bids) | (prices > prices[starts])
    room = np.zeros(1 << 16, np.int64)
    for instrument in shard_config.instruments:
        room[instrument.number] = instrument.max_resting_orders
    places = np.arange(len(resting)) - (starts if len(starts) else 0)
    return [
        ("price", in_order, "is out of order: by symbol, side and price, those that wait last"),
        ("price", apart, "must be above the best bid"),
        ("symbol", places < room[symbols], "has more orders than max_resting_orders"),
        ("order_id", _first_of(resting["order_id"]), "is there twice"),
    ]


def _sweep_checks(sweeps: Records, resting: Records) -> list[_Check]:
    """Mass cancels under way: of an account and symbol one, the first alone begun, on an order."""
    places = np.arange(len(sweeps))
    alone = np.ones(len(sweeps), np.bool_)
    alone[np.lexsort((places, sweeps["symbol"], sweeps["account"]))[1:]] = _changes(sweeps)
    begun = (sweeps["stop_price"] == 1) & (places == 0)
    cursor = sweeps["client_order_id"]
    return [
        ("symbol", places < MAX_SWEEPS, f"is one of more than {MAX_SWEEPS}"),
        ("account", alone, "is there twice with its symbol"),
        ("stop_price", begun | (sweeps["stop_price"] == 0), "must be 0 but in the first row"),
        ("price", begun | (sweeps["price"] == 0), "must be 0 where it has not begun"),
        (
            "client_order_id",
            (cursor == 0) | (begun & np.isin(cursor, resting["order_id"])),
            "must be an order that rests, of one that has begun",
        ),
    ]


def _changes(sweeps: Records) -> npt.NDArray[np.bool_]:
    """Return, by account and symbol, whether each row but the first differs from the one before."""
    order = np.lexsort((np.arange(len(sweeps)), sweeps["symbol"], sweeps["account"]))
    accounts, symbols = sweeps["account"][order], sweeps["symbol"][order]
    changes: npt.NDArray[np.bool_] = accounts[1:] != accounts[:-1]
    changes |= symbols[1:] != symbols[:-1]
    return changes


def _clash(resting: Records, recent: Records) -> tuple[str, Wrong] | None:
    """Return a row whose client_order_id is another order's of its account, or whose order has
    another one elsewhere."""
    named = np.flatnonzero(resting["client_order_id"])
    columns = [
        np.concatenate((recent[name], resting[name][named])).astype(np.uint64)
        for name in ("account", "symbol", "client_order_id", "order_id")
    ]
    row = max(_differing(columns[:3], columns[3:]), _differing(columns[3:], columns[:3]))
    if row < 0:
        return None
    section, rows = ("recent", recent) if row < len(recent) else ("resting", resting)
    place = row if row < len(recent) else int(named[row - len(recent)])
    value = rows["client_order_id"][place]
    return section, Wrong(place, "client_order_id", f"= {value}: is not that of one order alone")


def _differing(keys: list[Words], values: list[Words]) -> int:
    """Return a row of columns whose keys another row has with other values; -1 where none does."""
    order = np.lexsort((*values, *keys))
    same = np.ones(max(0, len(order) - 1), np.bool_)
    for column in keys:
        same &= column[order[1:]] == column[order[:-1]]
    other = np.zeros(len(same), np.bool_)
    for column in values:
        other |= column[order[1:]] != column[order[:-1]]
    found = order[1:][same & other]
    return int(found.max()) if len(found) else -1


def _first_of(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return, by row, whether no row before it has the same value."""
    first = np.zeros(len(values), np.bool_)
    first[np.unique(values, return_index=True)[1]] = True
    return first


def _grows(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return, by row, whether its value is above the one before."""
    above = np.ones(len(values), np.bool_)
    above[1:] = values[1:] > values[:-1]
    return above
