"""The compiled book from within: its tables, its levels near and far, its machine code."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.books.contract import BookLimits, Counters, Records, state_hash
from engine.books.ladder import LadderBook, kernel, warm
from engine.books.ladder.layout import NO_KEY, WINDOW
from engine.books.ladder.memory import entry
from engine.books.ladder.tables import FIRST_CAPACITY, Tables
from engine.books.reference.book import ReferenceBook
from ipc.records import COMMAND, REPORT, TRADE
from ipc.vocabulary import MAX_PRICE, CommandType, Flag, OrderType, Side, TimeInForce
from tests.books import WIDE, command_array, depth_of, run

NEW, CANCEL, REPLACE = CommandType.NEW, CommandType.CANCEL, CommandType.REPLACE
BUY, SELL = Side.BUY, Side.SELL
RECENT_ORDERS = 100


def limit_orders(sides: object, prices: object, first_id: int = 1, symbol: int = 1) -> Records:
    """Return NEW commands of GTC limit orders over one lot, of account 1, with dense ids."""
    sides, prices = np.broadcast_arrays(np.asarray(sides, "u1"), np.asarray(prices, "u8"))
    commands = np.zeros(len(prices), COMMAND)
    commands["command_type"], commands["order_type"] = NEW, OrderType.LIMIT
    commands["time_in_force"], commands["quantity"] = TimeInForce.GTC, 1
    commands["symbol"], commands["account"] = symbol, 1
    commands["side"], commands["price"] = sides, prices
    commands["client_order_id"] = np.arange(first_id, first_id + len(prices))
    return commands


def cancels(client_order_ids: object) -> Records:
    """Return CANCEL commands by client_order_id, of account 1 and symbol 1."""
    ids = np.asarray(client_order_ids, "u8")
    commands = np.zeros(len(ids), COMMAND)
    commands["command_type"], commands["symbol"], commands["account"] = CANCEL, 1, 1
    commands["client_order_id"] = ids
    return commands


class Pair:
    """The compiled book and its oracle, given the same commands."""

    def __init__(self, recent_orders: int = RECENT_ORDERS) -> None:
        self.ladder = LadderBook(3, [WIDE], recent_orders)
        self.reference = ReferenceBook(3, [WIDE], recent_orders)

    def send(self, commands: Records) -> None:
        """Have both carry out the commands; they must agree, and the compiled one be sound."""
        assert run(self.ladder, commands).same_as(run(self.reference, commands))
        assert state_hash(self.ladder) == state_hash(self.reference)
        for side in (BUY, SELL):
            assert depth_of(self.ladder, 1, side, 9) == depth_of(self.reference, 1, side, 9)
        self.ladder.check()

    @property
    def tables(self) -> Tables:
        return self.ladder._tables

    def side(self, side: int) -> np.void:
        return self.tables.sides[side - BUY]


@pytest.fixture
def pair() -> Pair:
    return Pair()


# Growth ------------------------------------------------------------------------------------------


def test_tables_grow_within_a_batch_and_lose_nothing(pair: Pair) -> None:
    count = 5 * FIRST_CAPACITY
    prices = 1000 + np.arange(count) * 7 % 900
    pair.send(limit_orders(BUY, prices))
    assert len(pair.tables.orders) > count
    pair.send(cancels(np.arange(count, 0, -3)))
    pair.send(limit_orders(SELL, prices[::2], first_id=count + 1))


def test_nodes_given_back_are_taken_again(pair: Pair) -> None:
    count = FIRST_CAPACITY - 1
    for first_id in range(1, 9 * count, count):
        pair.send(limit_orders(SELL, 500 + np.arange(count), first_id))
        pair.send(cancels(np.arange(first_id, first_id + count)))
    assert pair.tables.state["order_capacity"][0] == FIRST_CAPACITY
    assert pair.tables.state["live_orders"][0] == 0


def test_an_order_too_old_to_be_recent_is_found_by_its_order_id() -> None:
    pair = Pair(recent_orders=2)
    pair.send(limit_orders(BUY, np.arange(1, 3 * FIRST_CAPACITY)))
    assert np.count_nonzero(pair.tables.order_ids) > 2 * FIRST_CAPACITY
    orders = pair.ladder.resting()
    commands = cancels(np.zeros(len(orders)))
    commands["order_id"] = np.random.default_rng(1).permutation(orders["order_id"])
    pair.send(commands[: len(orders) // 2])
    pair.send(commands[len(orders) // 2 :])
    assert not np.count_nonzero(pair.tables.order_ids)


# Prices near and far -----------------------------------------------------------------------------


def test_levels_at_every_distance_stand_in_order(pair: Pair) -> None:
    powers = [1 << n for n in range(1, 53)]
    bids = [1, *powers[:30], *(power + 1 for power in powers[:30])]
    asks = [MAX_PRICE, *(MAX_PRICE - power for power in powers[:51])]
    rng = np.random.default_rng(5)
    pair.send(limit_orders(BUY, rng.permutation(bids)))
    pair.send(limit_orders(SELL, rng.permutation(asks), first_id=1000))
    assert pair.side(BUY)["far_levels"] > 10
    assert pair.side(SELL)["far_levels"] > 10
    pair.send(cancels(rng.permutation(np.arange(1, len(bids)))))
    sweep = limit_orders(BUY, [MAX_PRICE], first_id=2000)
    sweep["quantity"] = 30
    pair.send(sweep)


def test_a_market_that_drifts_a_million_ticks_takes_its_window_along(pair: Pair) -> None:
    steps = np.arange(20_000)
    middle = 2_000_000 + 50 * steps
    sides = np.where(steps % 2 == 0, BUY, SELL)
    prices = np.where(steps % 2 == 0, middle - steps % 97, middle + 1000 + steps % 89)
    commands = limit_orders(sides, prices)
    stays = 40
    for start in range(0, len(commands), 2000):
        entered = commands[start : start + 2000]
        left = cancels(np.arange(max(1, start + 1 - stays), start + 2001 - stays))
        mixed = (
            np.concatenate(
                [entered[:stays], np.stack([entered, left[: len(entered)]], 1)[stays:].ravel()]
            )
            if len(left) >= len(entered)
            else entered
        )
        pair.send(mixed)
    best = int(pair.side(SELL)["best_key"])
    assert 0 <= best - pair.side(SELL)["window_key"] < WINDOW


def test_alternating_extremes_leave_the_levels_near_the_market_alone(pair: Pair) -> None:
    pair.send(limit_orders(SELL, (1 << 40) + np.arange(300)))
    window_key = int(pair.side(SELL)["window_key"])
    for number in range(60):
        price = (1 << 20) + number if number % 2 else MAX_PRICE - number
        pair.send(limit_orders(SELL, [price], first_id=10_000 + number))
        assert pair.side(SELL)["window_key"] == window_key
        assert pair.side(SELL)["near_levels"] == 300
        pair.send(cancels([10_000 + number]))


def test_the_window_follows_when_far_levels_outnumber_those_that_must_leave(pair: Pair) -> None:
    pair.send(limit_orders(SELL, (1 << 40) + np.arange(100)))
    pair.send(limit_orders(SELL, (1 << 30) + np.arange(300), first_id=1000))
    assert pair.side(SELL)["near_levels"] == 300
    assert pair.side(SELL)["far_levels"] == 100
    pair.send(cancels(1000 + np.arange(300)))
    assert pair.side(SELL)["near_levels"] == 100


def test_one_level_holds_every_order(pair: Pair) -> None:
    count = 3 * FIRST_CAPACITY
    pair.send(limit_orders(BUY, np.full(count, 77)))
    assert depth_of(pair.ladder, 1, BUY) == [(77, count, count)]
    pair.send(cancels(np.random.default_rng(2).permutation(count)[: count // 2] + 1))
    taker = limit_orders(SELL, [77], first_id=count + 1)
    taker["quantity"] = count
    pair.send(taker)
    assert pair.side(BUY)["best_key"] == NO_KEY


def test_each_order_has_a_level_of_its_own(pair: Pair) -> None:
    count = 3 * FIRST_CAPACITY
    prices = np.random.default_rng(3).permutation(count) * (MAX_PRICE // count) + 1
    pair.send(limit_orders(SELL, prices))
    side = pair.side(SELL)
    assert side["near_levels"] + side["far_levels"] == count
    taker = limit_orders(BUY, [MAX_PRICE], first_id=count + 1)
    taker["quantity"] = count // 2
    pair.send(taker)
    taker["client_order_id"], taker["quantity"] = count + 2, count
    taker["time_in_force"] = TimeInForce.FOK
    pair.send(taker)


def test_symbols_of_one_batch_do_not_meet() -> None:
    limits = [BookLimits(symbol, 1, MAX_PRICE, 1 << 20) for symbol in (9, 2, 65535)]
    ladder, reference = LadderBook(0, limits, 10), ReferenceBook(0, limits, 10)
    rng = np.random.default_rng(4)
    commands = limit_orders(rng.integers(1, 3, 3000), rng.integers(90, 110, 3000))
    commands["symbol"] = rng.choice([2, 9, 65535, 3], 3000)
    assert run(ladder, commands).same_as(run(reference, commands))
    assert state_hash(ladder) == state_hash(reference)
    ladder.check()


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((256, [WIDE], 0), "shard"),
        ((0, [WIDE], -1), "recent_orders"),
        ((0, [WIDE], (1 << 24) + 1), "recent_orders"),
        ((0, [WIDE, WIDE], 0), "limits"),
        ((0, [WIDE._replace(symbol=0)], 0), "limits"),
    ],
)
def test_a_book_out_of_range_is_not_made(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LadderBook(*arguments)


def test_buffers_that_are_not_plain_records_are_refused() -> None:
    book, commands = LadderBook(0, [WIDE], 0), limit_orders(BUY, [1])
    reports, trades = np.zeros(4, REPORT), np.zeros(4, TRADE)
    frozen = reports.copy()
    frozen.flags.writeable = False
    for bad in (np.zeros(4, TRADE), np.zeros(8, REPORT)[::2], frozen, np.zeros(1, REPORT)):
        with pytest.raises(ValueError, match="reports"):
            book.process(commands, bad, trades)
    with pytest.raises(ValueError, match="trades"):
        book.process(commands, reports, reports)
    assert book.counters() == Counters(0, 0, 0)


def test_commands_may_be_read_only_strided_or_unaligned() -> None:
    plain, other = LadderBook(0, [WIDE], 0), LadderBook(0, [WIDE], 0)
    commands = limit_orders(BUY, np.arange(1, 9))
    every_other = np.repeat(commands, 2)[::2]
    frozen = np.frombuffer(b"x" + commands.tobytes(), COMMAND, offset=1)
    expected = run(plain, np.concatenate([commands, cancels([2]), commands]))
    got = run(other, every_other), run(other, cancels([2])), run(other, frozen)
    assert expected.reports.tobytes() == b"".join(one.reports.tobytes() for one in got)


def test_another_command_instead_of_the_unfinished_one_is_refused() -> None:
    book = LadderBook(0, [WIDE], 0)
    run(book, limit_orders(SELL, [5, 5, 5]))
    taker = limit_orders(BUY, [5], first_id=9)
    taker["quantity"] = 3
    reports, trades = np.zeros(3, REPORT), np.zeros(3, TRADE)
    assert book.process(taker, reports, trades) == (0, 3, 1)
    book.check()
    with pytest.raises(ValueError, match="left unfinished"):
        book.process(limit_orders(BUY, [4], first_id=9), reports, trades)
    assert book.process(taker, reports, trades) == (0, 2, 1)
    assert book.process(taker, reports, trades) == (1, 2, 1)


# check() -----------------------------------------------------------------------------------------


def _set(table: str, row: Callable[[Tables], int], field: str, change: int) -> Callable:
    def corrupt(tables: Tables) -> None:
        rows = getattr(tables, table)
        rows[field][row(tables)] += change

    corrupt.__name__ = f"{table}.{field}"
    return corrupt


def _bid(tables: Tables) -> int:
    """Return the slot of the oldest order of the best bid, which has another behind it."""
    return int(tables.levels["oldest"][_level(tables)])


def _level(tables: Tables) -> int:
    return int(tables.sides["best_level"][0])


def _last_recent(tables: Tables) -> int:
    return int(tables.state["order_sequence"][0]) & len(tables.recent) - 1


def _first(name: str, field: str) -> Callable[[Tables], int]:
    return lambda tables: int(np.flatnonzero(getattr(tables, name)[field])[0])


CORRUPTIONS = [
    _set("orders", _bid, "account", 1),
    _set("orders", _bid, "client_order_id", 1),
    _set("orders", _bid, "order_id", 1 << 20),
    _set("orders", _bid, "price", 1),
    _set("orders", _bid, "leaves_qty", 1),
    _set("orders", _bid, "cum_qty", -1),
    _set("orders", _bid, "next", 1),
    _set("orders", _bid, "previous", 1),
    _set("orders", _bid, "level", 1),
    _set("orders", _bid, "kind_bits", 1),
    _set("levels", _level, "key", 1),
    _set("levels", _level, "quantity", 1),
    _set("levels", _level, "youngest", 1),
    _set("levels", _level, "order_count", 1),
    _set("levels", _level, "side", 1),
    _set("sides", lambda tables: 0, "best_key", 1),
    _set("sides", lambda tables: 0, "best_level", 1),
    _set("sides", lambda tables: 0, "flip", 1),
    _set("sides", lambda tables: 0, "window_key", 1 << 20),
    _set("sides", lambda tables: 0, "near_levels", 1),
    _set("sides", lambda tables: 0, "far_levels", 1),
    _set("sides", lambda tables: 0, "far_key", 1),
    _set("sides", lambda tables: 0, "order_count", 1),
    _set("forks", lambda tables: int(tables.sides["far_root"][0]), "bit", 1),
    _set("forks", _first("forks", "low"), "low", 1),
    _set("words", _first("words", "bits"), "bits", 1 << 40),
    _set("summaries", _first("summaries", "bits"), "bits", 1),
    _set("near", _first("near", "level"), "level", 1),
    _set("client_ids", _first("client_ids", "entry"), "entry", 1 << 33),
    _set("client_ids", _first("client_ids", "entry"), "entry", 1),
    _set("order_ids", _first("order_ids", "slot"), "slot", 1),
    _set("recent", _last_recent, "slot", 1),
    _set("recent", _last_recent, "client_order_id", 1),
    _set("buckets", lambda tables: int(tables.buckets["newest"].argmax()), "newest", 1),
    _set("state", lambda tables: 0, "live_orders", 1),
    _set("state", lambda tables: 0, "fresh_order", 1),
    _set("state", lambda tables: 0, "fresh_level", 1),
    _set("state", lambda tables: 0, "fresh_fork", 1),
    _set("state", lambda tables: 0, "free_order", 1),
    _set("symbols", lambda tables: 1, "instrument", 1),
    _set("instruments", lambda tables: 0, "max_resting_orders", -(1 << 20)),
]


def _busy_book() -> LadderBook:
    """A book with near and far levels, recent and old orders, and free nodes of each kind."""
    book = LadderBook(0, [WIDE], 8)
    run(book, limit_orders(BUY, [1000, 1000, 1000, 990, 7, 8, 9, 5, 3, 1, 999, 998]))
    run(book, limit_orders(BUY, 10_000_000 + np.arange(40) * 3, first_id=100))
    run(book, limit_orders(BUY, [10_000_117, 10_000_117], first_id=200))
    run(book, cancels([12, 3, 5, 130]))
    run(book, limit_orders(SELL, [20_000_000, 20_000_001], first_id=300))
    return book


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda corrupt: corrupt.__name__)
def test_check_fails_on_a_corrupted_table(corrupt: Callable[[Tables], None]) -> None:
    book = _busy_book()
    book.check()
    corrupt(book._tables)
    with pytest.raises(AssertionError):
        book.check()


# Machine code ------------------------------------------------------------------------------------


def test_the_kernel_counts_no_references_and_knows_no_floats() -> None:
    run(LadderBook(0, [WIDE], 4), limit_orders(BUY, [1, 2, 3]))
    [kept] = kernel.process.overloads.values()
    module = kept.library._get_module_for_linking()
    ir, assembly = str(module), kept.library.codegen._tm.emit_assembly(module)
    assert re.search(f"^define .*{re.escape(kept.fndesc.llvm_func_name)}", ir, re.M)
    assert len(assembly) > 10_000
    for name, text in (("LLVM", ir), ("assembly", assembly)):
        assert "NRT_" not in text, f"{name}: reference counting"
    assert not re.findall(r"\b(?:half|float|double)\b", ir)
    assert not re.findall(r"\bv?(?:u?comi|cvt\w*|add|sub|mul|div|sqrt)s[sd]\b", assembly)


def test_a_function_without_a_place_for_its_code_is_compiled_all_the_same() -> None:
    names: dict[str, Callable[[int], int]] = {}
    exec("def double(number):\n    return 2 * number", names)
    assert entry(names["double"])(21) == 42


_START = """
import sys
from engine.books import ladder
assert ladder.__file__.startswith(sys.argv[1]), ladder.__file__
from engine.books.contract import BookLimits
from engine.books.ladder import kernel
ladder.LadderBook(0, [BookLimits(1, 1, 100, 10)], 4).resting()
stats = kernel.resting.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


@pytest.mark.timeout(900)
def test_a_read_only_install_compiles_once_and_then_loads(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    install, cache = tmp_path / "install", tmp_path / "cache"
    for package in ("engine", "ipc"):
        shutil.copytree(
            root / package, install / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for path in (*install.rglob("*"), install):
        path.chmod(0o555 if path.is_dir() else 0o444)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    told = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", _START, str(install)],
            cwd=install,
            env=environment | {"PYTHONPATH": str(install)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told.append(done.stdout)
    assert told == ["0 1\n", "1 0\n"]
    assert not list(install.rglob("__pycache__"))


def test_warming_tells_what_it_does() -> None:
    told: list[str] = []
    warm(told.append)
    assert len(told) == 10
    assert all(re.search(r"(loaded|compiled) in \d", text) for text in told[1::2])


def test_replace_with_reinsert_goes_to_the_back(pair: Pair) -> None:
    pair.send(limit_orders(BUY, [10, 10, 10]))
    row = {"command_type": REPLACE, "symbol": 1, "account": 1, "client_order_id": 1}
    pair.send(command_array([row | {"price": 10, "quantity": 1, "flags": Flag.REINSERT}]))
    assert pair.ladder.resting()["client_order_id"].tolist() == [2, 3, 1]
