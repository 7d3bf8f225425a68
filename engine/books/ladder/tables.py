"""The memory of the compiled book: numpy arrays, made small and grown between commands."""

import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.books.contract import BookLimits, Counters, Records
from engine.books.id_memory import IdShares, block_of, forgotten_before
from engine.books.ladder import layout
from engine.books.ladder.kernel import rebuild
from engine.books.rules import MAX_LISTED, MAX_SWEEPS
from engine.books.secret import factors
from ipc.records import COMMAND, make_id

FIRST_CAPACITY = 1024
"""Orders that a new book has room for."""
_DOUBLING_CAPACITY = 1 << 13
"""Up to this many orders room is doubled; beyond, memory counts for more."""
_OWN = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_HUGE_PAGE = 1 << 21
_SPARE = MAX_LISTED - 1
"""Orders beyond the capacity that the command may make for which there was room for one more."""
_FIXED = (
    "sides", "summaries", "words", "near", "instruments", "symbols", "recent", "buckets", "hashes",
    "sweeps", "kept", "heads", "holders", "cause",
)  # fmt: skip
_ROWS = {
    "orders": "fresh_order",
    "levels": "fresh_level",
    "forks": "fresh_fork",
    "places": "fresh_order",
    "extras": "fresh_extra",
    "expiries": "fresh_expiry",
}
"""The tables that grow with the number of live orders, and what says how much of each is used."""
_HASHES = ("client_ids", "order_ids")
_HOLDINGS = 4
"""Entries for counts by account, for each order that there is room for: see ``holdings``."""
_FACTORS = ("id_factor", "account_factor", "symbol_factor", "last_factor")


assert layout.STATE.fields is not None
_COUNTERS = layout.STATE.fields["sequence"][1] // 8
_NEXT_EXPIRY = layout.STATE.fields["next_expiry_ns"][1] // 8
_SWEEP_COUNT = layout.STATE.fields["sweep_count"][1] // 8


def _zeros(count: int, dtype: np.dtype[np.void]) -> Any:
    """Return a zeroed array in a mapping of its own, which goes back to the system with it."""
    size = max(1, count) * dtype.itemsize
    return np.frombuffer(mmap.mmap(-1, size, flags=_OWN), dtype, count)


def _huge_zeros(count: int, dtype: np.dtype[np.void]) -> Any:
    """Return a zeroed array on huge pages: for one that is hit all over, again and again."""
    size = count * dtype.itemsize
    if size < _HUGE_PAGE // 2 or not hasattr(mmap, "MADV_HUGEPAGE"):
        return _zeros(count, dtype)
    pages = mmap.mmap(-1, size + 2 * _HUGE_PAGE, flags=_OWN)
    pages.madvise(mmap.MADV_HUGEPAGE)
    start = -np.frombuffer(pages, np.uint8).ctypes.data % _HUGE_PAGE
    return np.frombuffer(pages, dtype, count, start)


def _power_of_two(least: int) -> int:
    return 1 << max(0, least - 1).bit_length()


def _grown(capacity: int) -> int:
    """Return the next capacity: twice, or in a large book half as much again."""
    return capacity * (4 if capacity < _DOUBLING_CAPACITY else 3) // 2


class Tables:
    """Every table of one book; ``state`` holds their addresses and the counters.

    Zeroed pages that nobody touched take no memory, so room is address space until it is used.
    """

    def __init__(
        self,
        shard: int,
        limits: Sequence[BookLimits],
        recent_orders: int,
        start: Counters,
        secret: int,
        shares: IdShares,
    ) -> None:
        self._secret = secret
        self.generation = 0
        """How often everything was hashed anew."""
        self.state = np.zeros(1, layout.STATE)
        self.address: int = self.state.ctypes.data
        self.counters = self.state.view(np.int64).data[_COUNTERS : _COUNTERS + 3]
        """Those of ``engine.books.contract.Counters``, in its order: plain words are read
        faster."""
        self.sweep_count = self.state.view(np.int64).data[_SWEEP_COUNT : _SWEEP_COUNT + 1]
        """How many mass cancels are under way."""
        self.next_expiry_ns = self.state.view(np.uint64).data[_NEXT_EXPIRY : _NEXT_EXPIRY + 1]
        """When the next order expires, or NO_EXPIRY."""
        self.limits = sorted(limits)
        self._make_fixed(recent_orders)
        self._make_kept(shares)
        self._make_sides()
        state = self.state[0]
        state["instrument_count"] = len(self.limits)
        state["recent_mask"] = len(self.recent) - 1
        state["recent_orders"] = recent_orders
        state["bucket_shift"] = 33 - len(self.buckets).bit_length()
        state["shard_bits"] = make_id(shard, 0)
        state["block_mask"] = block_of(recent_orders) - 1
        self.begin_after(start)
        self._take_factors()
        for fresh in _ROWS.values():
            state[fresh] = 1
        state["next_expiry_ns"] = layout.NO_EXPIRY
        self._note_addresses(_FIXED)
        self._make_orders(FIRST_CAPACITY)
        self._make_hashes(FIRST_CAPACITY)

    def _make_fixed(self, recent_orders: int) -> None:
        count = len(self.limits)
        sides = layout.SIDES * count
        self.sides = _zeros(sides, layout.SIDE)
        self.summaries = _zeros(sides * layout.WINDOW_SUMMARIES, layout.WORD)
        self.words = _zeros(sides * layout.WINDOW_WORDS, layout.WORD)
        self.near = _zeros(sides * layout.WINDOW, layout.NEAR)
        self.symbols = _zeros(1 << 16, layout.SYMBOL)
        self.instruments = np.zeros(count, layout.INSTRUMENT)
        for row, limit in zip(self.instruments, self.limits, strict=True):
            for name, value in limit._asdict().items():
                row[name] = value
        bound = self.instruments["max_account_orders"]
        bound[:] = np.minimum(bound, self.instruments["max_resting_orders"])
        self.recent = _huge_zeros(_power_of_two(max(1, recent_orders)), layout.RECENT_ORDER)
        self.buckets = _huge_zeros(2 * len(self.recent), layout.BUCKET)
        self.hashes = np.zeros(layout.HASHES, layout.HASH)
        self.sweeps = np.zeros(MAX_SWEEPS + 1, COMMAND)
        self.cause = np.zeros(1 + MAX_LISTED, COMMAND)
        self.symbols["instrument"][self.instruments["symbol"]] = np.arange(1, count + 1)

    def _make_kept(self, shares: IdShares) -> None:
        """Make the tables of kept ids, for as many as there may be: memory is used as they come."""
        state: Any = self.state[0]
        most = shares.kept_ids
        self.kept = _zeros(most + 1, layout.KEPT_ID)
        self.heads = _zeros(_power_of_two(most), layout.HEAD)
        self.holders = _zeros(2 * (most + len(self.recent)) if most else 0, layout.HOLDER)
        state["account_ids"], state["kept_ids"] = shares
        state["fresh_kept"] = 1
        state["head_shift"] = 33 - len(self.heads).bit_length()
        state["holder_entries"] = len(self.holders)

    def begin_after(self, counters: Counters) -> None:
        """Go on after these numbers."""
        state: Any = self.state[0]
        state["sequence"], state["order_sequence"], state["trade_sequence"] = counters
        state["forgotten"] = forgotten_before(counters.order_sequence, int(state["recent_orders"]))

    def keep(self, rows: Records) -> None:
        """Enter client_order_ids (RECENT, oldest first) that are kept, all there are so far.

        They can be found once the ring is whole: see ``kept_ids.relink``.
        """
        state: Any = self.state[0]
        count = len(rows)
        kept = self.kept[1 : count + 1]
        for name in ("account", "client_order_id", "order_id"):
            kept[name] = rows[name]
        kept["instrument"] = self.symbols["instrument"][rows["symbol"]] - 1
        kept["older"] = np.arange(count)
        kept["newer"] = np.arange(2, count + 2)
        kept["newer"][-1:] = 0
        state["kept_count"] = state["newest_kept"] = count
        state["oldest_kept"] = min(count, 1)
        state["fresh_kept"] = count + 1

    def _make_sides(self) -> None:
        self.sides["best_key"] = self.sides["far_key"] = layout.NO_KEY
        for flipped in (0, layout.WAITING + 1):
            self.sides["flip"][flipped :: layout.SIDES] = layout.KEY_MASK

    def _make_orders(self, capacity: int) -> None:
        """Make or replace the tables that grow with the number of live orders."""
        rows = capacity + 1 + _SPARE
        self.orders = _zeros(rows, layout.ORDER_NODE)
        self.levels = _zeros(rows, layout.LEVEL_NODE)
        self.forks = _zeros(rows, layout.FORK)
        self.places = _zeros(rows, layout.PLACE)
        self.extras = _zeros(rows, layout.EXTRA)
        self.expiries = _zeros(rows, layout.EXPIRY)
        self.holdings = _zeros(_HOLDINGS * capacity, layout.HOLDING)
        self.state[0]["order_capacity"] = capacity
        self.state[0]["holding_entries"] = len(self.holdings)
        self._note_addresses((*_ROWS, "holdings"))

    def _make_hashes(self, capacity: int) -> None:
        """Make or replace the tables that grow with the number of old orders."""
        state: Any = self.state[0]
        self.client_ids = _zeros(capacity * 3 // 2, layout.CLIENT_ID)
        self.order_ids = _zeros(capacity * 3 // 2, layout.ORDER_ID)
        state["old_capacity"] = state["old_limit"] = capacity
        state["client_id_entries"] = len(self.client_ids)
        state["order_id_entries"] = len(self.order_ids)
        self._note_addresses(_HASHES)

    def _take_factors(self) -> None:
        drawn = factors(self._secret, b"orders by ids", self.generation, len(_FACTORS))
        for name, factor in zip(_FACTORS, drawn, strict=True):
            self.state[0][name] = factor

    def _note_addresses(self, names: Sequence[str]) -> None:
        for name in names:
            self.state[0][name] = getattr(self, name).ctypes.data

    def make_room(self) -> None:
        """Grow what has no room for another order."""
        state: Any = self.state[0]
        if state["live_orders"] >= state["order_capacity"]:
            self.grow_orders()
        if state["old_limit"] < 0:
            self.hash_anew()
        if state["old_orders"] >= state["old_capacity"]:
            self.grow_hashes()

    def grow_orders(self) -> None:
        """Make room for more live orders."""
        former = {name: getattr(self, name) for name in _ROWS}
        self._make_orders(_grown(int(self.state[0]["order_capacity"])))
        for name in _ROWS:
            used = int(self.state[0][_ROWS[name]])
            getattr(self, name)[:used] = former[name][:used]
        rebuild(self.address, self.client_ids[:0], self.order_ids[:0], False)

    def grow_hashes(self) -> None:
        """Make room for more old orders."""
        client_ids, order_ids = self.client_ids, self.order_ids
        self._make_hashes(_grown(int(self.state[0]["old_capacity"])))
        rebuild(self.address, client_ids, order_ids, False)

    def hash_anew(self) -> None:
        """Let other keys collide than those that did; between commands only."""
        client_ids, order_ids = self.client_ids, self.order_ids
        self.generation += 1
        self._take_factors()
        self.buckets[:] = np.zeros(1, layout.BUCKET)
        self.heads[:] = np.zeros(1, layout.HEAD)
        self.holders[:] = np.zeros(1, layout.HOLDER)
        self._make_hashes(int(self.state[0]["old_capacity"]))
        rebuild(self.address, client_ids, order_ids, True)

    def reserve(self, orders: int) -> None:
        """Make room for so many live orders, and some to come, in a book that has none yet."""
        if orders > FIRST_CAPACITY:
            self._make_orders(orders + orders // 2)
            self._make_hashes(orders + orders // 2)

    def nbytes(self) -> int:
        """Return the bytes of all tables, used or not."""
        names = ("state", *_FIXED, *_ROWS, *_HASHES, "holdings")
        return sum(getattr(self, name).nbytes for name in names)
