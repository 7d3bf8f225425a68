"""What tests of books share: command arrays, running a book, one book at a desk, random commands.

``BOOKS`` names every implementation; the fixture ``make_book`` (conftest.py) runs a test with each.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from engine.books.contract import Book, BookLimits, Counters, Records
from engine.books.id_memory import IdShares
from engine.books.reference.book import ReferenceBook
from ipc.records import COMMAND, LEVEL, REPORT, TRADE, make_id
from ipc.vocabulary import (
    CONDITIONAL,
    MAX_PRICE,
    MAX_QUANTITY,
    MAX_RESTING_ORDERS,
    PRICELESS,
    CommandType,
    ExecType,
    Flag,
    OrderType,
    OrdStatus,
    Reason,
    Side,
    TimeInForce,
)
from ipc.wire.messages import Cancel, MassCancel, NewOrder, Reduce, Replace

MakeBook = Callable[..., Book]
"""``(shard, limits, recent_orders, start=Counters(0, 0, 0))``."""

BOOKS: dict[str, MakeBook] = {"reference": ReferenceBook}

WIDE = BookLimits(1, 1, MAX_PRICE, MAX_RESTING_ORDERS)
"""One symbol, number 1, without a band or a bound that a test could meet."""

TIME_NS = 1_700_000_000_000_000_000


class Report(NamedTuple):
    """A record of REPORT; the defaults are those of a plain answer."""

    exec_type: int
    ord_status: int
    command_type: int
    side: int = 0
    order_type: int = 0
    time_in_force: int = 0
    flags: int = 0
    liquidity: int = 0
    symbol: int = 0
    reason: int = 0
    answers: int = 0
    sequence: int = 0
    request_id: int = 0
    account: int = 0
    order_id: int = 0
    client_order_id: int = 0
    price: int = 0
    quantity: int = 0
    cum_qty: int = 0
    leaves_qty: int = 0
    last_price: int = 0
    last_qty: int = 0
    trade_id: int = 0
    timestamp_ns: int = 0
    account_sequence: int = 0


assert Report._fields == REPORT.names


class Outcome(NamedTuple):
    """All that a book gave for some commands, as arrays of REPORT and TRADE."""

    reports: Records
    trades: Records

    def report_rows(self) -> list[Report]:
        return [Report._make(row) for row in self.reports.tolist()]

    def same_as(self, other: "Outcome") -> bool:
        """Tell whether both are equal in every byte."""
        return (
            self.reports.tobytes() == other.reports.tobytes()
            and self.trades.tobytes() == other.trades.tobytes()
        )


def command_array(rows: Iterable[dict[str, int]]) -> Records:
    """Return COMMAND records from dictionaries of their fields; what is not given is 0."""
    rows = list(rows)
    commands = np.zeros(len(rows), dtype=COMMAND)
    for command, row in zip(commands, rows, strict=True):
        for name, value in row.items():
            command[name] = value
    return commands


_COMMAND_TYPES = {
    NewOrder: CommandType.NEW,
    Cancel: CommandType.CANCEL,
    Replace: CommandType.REPLACE,
    Reduce: CommandType.REDUCE,
    MassCancel: CommandType.MASS_CANCEL,
}
_FLAGS = {"post_only": Flag.POST_ONLY, "reinsert": Flag.REINSERT}
_KEPT = {"price": Flag.KEEP_PRICE, "quantity": Flag.KEEP_QUANTITY}


def commands_of(
    messages: Iterable[NewOrder | Cancel | Replace | Reduce | MassCancel],
    account: int,
    timestamp_ns: int,
) -> Records:
    """Return the COMMAND records of messages, all from one account at one time."""
    rows = []
    for message in messages:
        row = dict.fromkeys(COMMAND.names, 0)
        row["command_type"] = int(_COMMAND_TYPES[type(message)])
        row["account"], row["timestamp_ns"] = account, timestamp_ns
        for name in message.__struct_fields__:
            if name in _FLAGS:
                row["flags"] |= int(_FLAGS[name]) if getattr(message, name) else 0
            elif getattr(message, name) is None:
                row["flags"] |= int(_KEPT[name])
            else:
                row[name] = getattr(message, name)
        rows.append(tuple(row.values()))
    return np.array(rows, dtype=COMMAND)


def run(book: Book, commands: Records, report_room: int = 4096, trade_room: int = 4096) -> Outcome:
    """Hand a book all commands through buffers of these sizes; return all that it gave.

    A book that makes no progress with room for a trade and its reports fails the test.
    """
    reports, trades = np.zeros(report_room, REPORT), np.zeros(trade_room, TRADE)
    all_reports, all_trades = [reports[:0]], [trades[:0]]
    done = 0
    while done < len(commands):
        progress = book.process(commands[done:], reports, trades)
        assert progress.reports <= report_room
        assert progress.trades <= trade_room
        assert progress.commands + progress.reports + progress.trades > 0, "no progress"
        done += progress.commands
        all_reports.append(reports[: progress.reports].copy())
        all_trades.append(trades[: progress.trades].copy())
    assert done == len(commands), "more commands done than given"
    return Outcome(np.concatenate(all_reports), np.concatenate(all_trades))


def accepted(reports: Sequence[Report]) -> Report:
    """Return the first report, which must say that the order was taken, and that it rests whole."""
    report = reports[0]
    assert (report.exec_type, report.ord_status) == (ExecType.NEW, OrdStatus.NEW)
    assert len(reports) == 1, "the order traded or was cancelled"
    return report


def rejected(reports: Sequence[Report]) -> Reason:
    """Return the reason of a reject, which must be the only report."""
    [report] = reports
    assert (report.exec_type, report.ord_status) == (ExecType.REJECTED, OrdStatus.REJECTED)
    assert (report.cum_qty, report.leaves_qty, report.trade_id) == (0, 0, 0)
    return Reason(report.reason)


def depth_of(book: Book, symbol: int, side: int, room: int = 64) -> list[tuple[int, int, int]]:
    """Return price, quantity and order count of the best levels of one side."""
    levels = np.zeros(room, LEVEL)
    rows: list[tuple[int, int, int]] = levels[: book.depth(symbol, side, levels)].tolist()
    return rows


class Desk:
    """Enters commands into a book one at a time and hands back their reports.

    ``symbol`` and ``account`` are those of every command that names no other. After each command
    the book's own check runs. ``trades`` collects the TRADE records.
    """

    def __init__(self, book: Book, symbol: int = 1, account: int = 1) -> None:
        self.book = book
        self.symbol = symbol
        self.account = account
        self.trades = np.zeros(0, TRADE)
        self._request_id = 0

    def send(self, command_type: int, **fields: int) -> list[Report]:
        self._request_id += 1
        row = {
            "command_type": command_type,
            "symbol": self.symbol,
            "account": self.account,
            "request_id": self._request_id,
            "timestamp_ns": TIME_NS + self._request_id,
        } | fields
        return self.enter(command_array([row]))

    def enter(self, commands: Records) -> list[Report]:
        """Hand over commands as they are; return all their reports."""
        outcome = run(self.book, commands)
        self.trades = np.concatenate([self.trades, outcome.trades])
        self.book.check()
        return outcome.report_rows()

    def new(self, side: int, quantity: int, price: int, **fields: int) -> list[Report]:
        """A GTC limit order, unless the fields say otherwise."""
        terms = {"order_type": OrderType.LIMIT, "time_in_force": TimeInForce.GTC}
        what = {"side": side, "quantity": quantity, "price": price}
        return self.send(CommandType.NEW, **(terms | what | fields))

    def market(self, side: int, quantity: int, **fields: int) -> list[Report]:
        fields = {"order_type": OrderType.MARKET, "time_in_force": TimeInForce.IOC} | fields
        return self.new(side, quantity, 0, **fields)

    def cancel(self, order_id: int = 0, **fields: int) -> list[Report]:
        return self.send(CommandType.CANCEL, order_id=order_id, **fields)

    def replace(self, order_id: int, quantity: int, price: int, **fields: int) -> list[Report]:
        what = {"order_id": order_id, "quantity": quantity, "price": price}
        return self.send(CommandType.REPLACE, **(what | fields))

    def reduce(self, order_id: int, quantity: int, **fields: int) -> list[Report]:
        return self.send(CommandType.REDUCE, order_id=order_id, quantity=quantity, **fields)

    def mass_cancel(self, **fields: int) -> list[Report]:
        return self.send(CommandType.MASS_CANCEL, **fields)

    def depth(self, side: int) -> list[tuple[int, int, int]]:
        return depth_of(self.book, self.symbol, side)

    def queue(self, side: int) -> list[int]:
        """The order_ids resting on one side, best price first, oldest first."""
        resting = self.book.resting()
        mine = (resting["symbol"] == self.symbol) & (resting["side"] == side)
        ids: list[int] = resting["order_id"][mine].tolist()
        return ids


# Random commands -------------------------------------------------------------------------------


class World(NamedTuple):
    """A small world, so that random commands meet each other, and every bound."""

    shard: int = 3
    limits: Sequence[BookLimits] = (BookLimits(2, 3, 12, 8), BookLimits(7, 1, 9, 5, 3))
    recent_orders: int = 6
    start: Counters = Counters(0, 0, 0)
    shares: IdShares = IdShares(3, 5)

    def book(self, make_book: MakeBook) -> Book:
        given = (self.shard, self.limits, self.recent_orders, self.start)
        return make_book(*given, 0, self.shares)


WORLD = World()


def _mostly(usual: st.SearchStrategy[int], *rare: int) -> st.SearchStrategy[int]:
    """``usual``, and about one time in ten one of ``rare``."""
    return st.integers(0, 9).flatmap(lambda n: st.sampled_from(rare) if n == 0 else usual)


def _command_rows(world: World) -> st.SearchStrategy[dict[str, int]]:
    symbols = [limits.symbol for limits in world.limits]
    first = world.start.order_sequence + 1
    order_ids = [make_id(world.shard, sequence) for sequence in range(first, first + 25)]
    prices = range(1, 14)
    fields: dict[str, Any] = {
        "symbol": _mostly(st.sampled_from(symbols), 0, 5),
        "account": st.integers(1, 2),
        "request_id": st.integers(0, 3),
        "client_order_id": _mostly(st.integers(1, 12), 0),
        "price": _mostly(st.sampled_from(prices), 0, MAX_PRICE, MAX_PRICE + 1),
        "quantity": _mostly(st.integers(1, 9), 0, MAX_QUANTITY, MAX_QUANTITY + 1, 40),
        "timestamp_ns": st.integers(1, 1000),
    }
    new = st.fixed_dictionaries(
        fields
        | {
            "command_type": st.just(int(CommandType.NEW)),
            "side": _mostly(st.sampled_from([1, 2]), 0, 3),
            "order_type": _mostly(st.just(int(OrderType.LIMIT)), int(OrderType.MARKET), 0, 3),
            "time_in_force": _mostly(st.just(int(TimeInForce.GTC)), 3, 4, 3, 4, 0, 2),
            "flags": _mostly(st.just(0), int(Flag.POST_ONLY), int(Flag.POST_ONLY), 0xFF),
            "self_trade_prevention": _mostly(st.integers(0, 4), 5, 255),
        }
    )
    display = _mostly(st.integers(1, 3), 0, 9, MAX_QUANTITY, MAX_QUANTITY + 1, 2**64 - 1)
    iceberg = st.builds(dict, new, time_in_force=st.just(1), display_quantity=display)
    market = st.builds(
        dict,
        new,
        order_type=st.just(int(OrderType.MARKET)),
        price=_mostly(st.just(0), 1),
        flags=st.just(0),
    )
    change = st.fixed_dictionaries(
        fields
        | {
            "command_type": st.sampled_from([2, 3, 3, 4]),
            "symbol": _mostly(st.sampled_from([0, *symbols]), 5),
            "order_id": st.one_of(st.just(0), st.sampled_from(order_ids)),
            "flags": st.builds(
                int.__or__,
                st.sampled_from([0, int(Flag.REINSERT)]),
                _mostly(st.sampled_from([0, 0, *map(int, _KEPT.values())]), sum(_KEPT.values())),
            ),
        }
    )
    best = st.builds(
        dict,
        new,
        order_type=st.sampled_from([20, 38]),
        time_in_force=st.sampled_from([1, 3, 4, 3]),
        price=st.sampled_from([0, 0, 1, 3]),
        flags=st.just(0),
    )
    least = st.builds(
        dict, new, time_in_force=st.just(3), minimum_quantity=_mostly(st.integers(1, 9), 2**63)
    )
    stop_prices = _mostly(st.sampled_from(prices), 0, MAX_PRICE, MAX_PRICE + 1)
    stop = st.builds(
        dict,
        new,
        order_type=st.sampled_from(list(map(int, CONDITIONAL))),
        stop_price=stop_prices,
        flags=st.just(0),
    ).flatmap(_with_its_price)
    expiry = _mostly(st.integers(1, 1100), 0, 2**63 - 1, 2**63)
    timed = [
        st.builds(dict, one, time_in_force=st.just(6), expire_time_ns=expiry)
        for one in (new, iceberg)
    ]
    replace = {"command_type": st.just(int(CommandType.REPLACE))}
    moved = st.builds(dict, change, **replace, stop_price=stop_prices)
    hidden = st.builds(dict, change, **replace, display_quantity=display)
    hidden_stop = st.builds(dict, stop, time_in_force=st.just(1), display_quantity=display)
    odd = st.fixed_dictionaries(fields | {"command_type": st.sampled_from([0, 5, 5, 5, 8])})
    timed.append(st.builds(dict, stop, time_in_force=st.just(6), expire_time_ns=expiry))
    near = _mostly(st.sampled_from(range(2, 12)), 0, 13, MAX_PRICE + 1)
    listed = st.builds(
        dict,
        new,
        command_type=st.sampled_from([6, 6, 7, 7, 7]),
        order_type=st.sampled_from([2, 2, 2, 1]),
        time_in_force=_mostly(st.just(1), 3, 6),
        flags=_mostly(st.just(0), 1),
        stop_price=near,
        minimum_quantity=near,
        display_quantity=_mostly(st.just(0), 3, 5, 2**63),
    )
    rare = (
        listed,
        listed,
        listed,
        stop,
        stop,
        iceberg,
        iceberg,
        hidden_stop,
        moved,
        hidden,
        *timed,
        best,
        least,
    )
    return st.one_of(new, new, new, change, change, change, market, *rare, odd)


def _with_its_price(row: dict[str, int]) -> st.SearchStrategy[dict[str, int]]:
    """Mostly no price on an order without a limit."""
    if row["order_type"] not in PRICELESS:
        return st.just(row)
    return st.builds(dict, st.just(row), price=_mostly(st.just(0), 5))


def command_batches(world: World = WORLD, max_size: int = 60) -> st.SearchStrategy[Records]:
    """Random COMMAND arrays for the books of ``world``: mostly right, each field also wrong."""
    return st.lists(_command_rows(world), max_size=max_size).map(command_array)


def random_commands(
    rng: np.random.Generator, count: int, world: World = WORLD, live_orders: int = 40
) -> Records:
    """Return many random COMMAND records fast: mostly right, each field also wrong.

    They go on from the counters in ``world.start``. Commands that name an order name one of about
    the last ``live_orders`` entered; a client_order_id implies its account and symbol.
    """
    commands = np.zeros(count, dtype=COMMAND)

    def pick(*choices: int) -> Any:
        return rng.choice(np.array(choices, dtype=np.uint64), count)

    def rarely(field: str, *values: int, share: float = 0.01) -> None:
        hit = rng.random(count) < share
        commands[field][hit] = pick(*values)[hit]

    commands["command_type"] = pick(1, 1, 1, 1, 1, 2, 3, 3, 4)
    is_new = commands["command_type"] == CommandType.NEW
    newest = world.start.sequence + 1 + np.arange(count)
    named = np.maximum(1, newest - rng.integers(0, live_orders, count))
    repeats = rng.random(count) < 0.02
    commands["client_order_id"] = np.where(is_new & ~repeats, newest, named)
    limits = np.array(world.limits, dtype=np.uint64)[
        commands["client_order_id"] % len(world.limits)
    ]
    commands["symbol"] = limits[:, 0]
    commands["account"] = commands["client_order_id"] % 3 + 1
    commands["side"] = pick(1, 2)
    commands["order_type"] = pick(2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 3, 4, 19, 36)
    commands["time_in_force"] = pick(1, 1, 1, 1, 1, 1, 1, 1, 3, 4)
    commands["flags"] = pick(0, 0, 0, 0, 1, 2, 8, 10, 16, 18)
    commands["request_id"] = np.arange(count)
    # Buyers bid in the lower three quarters of the band and sellers ask in the upper: some cross.
    width = (limits[:, 2] - limits[:, 1]).astype(np.int64)
    above = commands["side"] == Side.SELL
    shift = np.where(above, width // 4, 0)
    commands["price"] = limits[:, 1].astype(np.int64) + shift + rng.integers(0, width * 3 // 4 + 1)
    commands["quantity"] = rng.integers(1, 20, count)
    commands["timestamp_ns"] = TIME_NS + np.arange(count)
    stops = is_new & np.isin(commands["order_type"], CONDITIONAL)
    commands["stop_price"][stops] = rng.permutation(commands["price"])[stops]
    market = is_new & np.isin(commands["order_type"], PRICELESS)
    commands["price"][market] = 0
    commands["flags"][stops] = 0
    best = is_new & ~stops & (rng.random(count) < 0.04)
    commands["order_type"][best] = OrderType.MARKET_TO_LIMIT
    commands["price"][best] = commands["flags"][best] = 0
    protected = best & (commands["time_in_force"] == TimeInForce.IOC)
    commands["order_type"][protected] = OrderType.MARKET_WITH_PROTECTION
    commands["price"][protected] = 3
    least = is_new & ~stops & (commands["time_in_force"] == TimeInForce.IOC)
    least &= (rng.random(count) < 0.5) & (commands["order_type"] != OrderType.MARKET_TO_LIMIT)
    commands["minimum_quantity"][least] = commands["quantity"][least] // 2 + 1
    timed = is_new & (commands["time_in_force"] == TimeInForce.GTC) & (rng.random(count) < 0.1)
    commands["time_in_force"][timed] = TimeInForce.GTD
    lifetimes = rng.integers(0, 3 * live_orders, count).astype(np.uint64)
    commands["expire_time_ns"][timed] = (commands["timestamp_ns"] + lifetimes)[timed]
    hides = is_new & (commands["price"] != 0)
    hides &= np.isin(commands["time_in_force"], (TimeInForce.GTC, TimeInForce.GTD))
    hides &= rng.random(count) < 0.2
    commands["display_quantity"][hides] = -(-commands["quantity"][hides] // 3)
    commands["flags"][market | (commands["time_in_force"] != TimeInForce.GTC)] &= ~np.uint8(1)
    listed = is_new & (rng.random(count) < 0.06)
    pair = listed & (rng.random(count) < 0.5)
    commands["command_type"][listed] = CommandType.NEW_BRACKET
    commands["command_type"][pair] = CommandType.NEW_OCO
    commands["order_type"][listed] = OrderType.LIMIT
    commands["time_in_force"][listed] = TimeInForce.GTC
    for name in ("display_quantity", "minimum_quantity", "expire_time_ns", "flags"):
        commands[name][listed] = 0
    market = listed & (commands["price"] == 0)
    commands["price"][market] = (limits[:, 0] + np.uint64(10))[market]
    price = commands["price"].astype(np.int64)
    away = np.where(commands["side"] == Side.BUY, 3, -3) + rng.integers(-1, 2, count)
    commands["minimum_quantity"][listed & ~pair] = np.maximum(1, price + away)[listed & ~pair]
    stop_prices = np.maximum(1, np.where(pair, price + away, price - away))
    commands["stop_price"][listed] = stop_prices[listed]
    commands["stop_price"][listed & ~pair & (rng.random(count) < 0.2)] = 0
    # About every second command is an accepted order: so these ids are near the newest.
    newest_order = world.start.order_sequence + np.arange(count) // 2 + 1
    sequences = np.maximum(1, newest_order - rng.integers(0, live_orders, count))
    by_id = ~is_new & (rng.random(count) < 0.3)
    commands["order_id"][by_id] = make_id(world.shard, 0) + sequences[by_id]
    commands["symbol"][by_id] = 0
    rarely("command_type", 0, 8)
    rarely("command_type", 5, share=0.003)
    rarely("symbol", 0, 5, 65535)
    rarely("client_order_id", 0, share=0.03)
    rarely("account", 1, 2)
    rarely("price", 0, 1, MAX_PRICE, MAX_PRICE + 1)
    rarely("quantity", 1, share=0.2)
    rarely("quantity", 0, 500, MAX_QUANTITY, MAX_QUANTITY + 1)
    rarely("side", 0, 3, 255)
    rarely("order_type", 0, 3, 255)
    rarely("time_in_force", 0, 2, 255)
    rarely("self_trade_prevention", 1, 2, 3, 4, share=0.1)
    rarely("self_trade_prevention", 5, 255)
    rarely("minimum_quantity", 1, 1000, MAX_QUANTITY + 1)
    rarely("display_quantity", 1, 7, MAX_QUANTITY, MAX_QUANTITY + 1)
    rarely("flags", 3, 24, 26, 255)
    return commands
