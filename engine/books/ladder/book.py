"""The compiled book, as the product sees it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.books.contract import (
    NO_PRICES,
    NO_SWEEPS,
    BookLimits,
    Counters,
    KeptIds,
    Progress,
    Records,
)
from engine.books.id_memory import NO_SHARES, IdShares
from engine.books.ladder import kernel
from engine.books.ladder.check import check
from engine.books.ladder.layout import DONE, FINISHED, GROW, NO_EXPIRY, REPORTS_OF_A_START, SIDES
from engine.books.ladder.tables import Tables
from ipc.codes import SIDE_BUY, SIDE_SELL
from ipc.records import (
    COMMAND,
    LAST_PRICE,
    MAX_SHARDS,
    RECENT,
    REPORT,
    RESTING,
    TRADE,
    make_id,
)

_START = Counters(0, 0, 0)


class LadderBook:
    """All books of one shard; implements ``engine.books.contract.Book``."""

    def __init__(
        self,
        shard: int,
        limits: Sequence[BookLimits],
        recent_orders: int,
        start: Counters = _START,
        secret: int = 0,
        shares: IdShares = NO_SHARES,
    ) -> None:
        """Make empty books. ``recent_orders`` and ``shares`` bound the memory of client_order_ids.

        ``start`` holds the last sequence numbers given before. ``secret``, below 2^128, decides
        which ids share a place in the hashes, and nothing that shows. Raises ValueError where a
        number is out of its range or a symbol stands twice.
        """
        if not 0 <= shard < MAX_SHARDS:
            raise ValueError(f"shard: {shard}, must be 0 to {MAX_SHARDS - 1}")
        if not 0 <= recent_orders <= kernel.MAX_RECENT_ORDERS:
            raise ValueError(
                f"recent_orders: {recent_orders}, must be 0 to {kernel.MAX_RECENT_ORDERS}"
            )
        symbols = [limit.symbol for limit in limits]
        if len(set(symbols)) != len(symbols) or not all(0 < n < 1 << 16 for n in symbols):
            raise ValueError(f"limits: symbols {symbols}, must be distinct and 1 to 65535")
        shares = shares.checked(recent_orders)
        self._tables = Tables(shard, limits, recent_orders, start, secret, shares)
        self.address = self._tables.address
        """Where the book's STATE is, for compiled code."""
        self._process = kernel.process
        self._instruments = {limit.symbol: n for n, limit in enumerate(self._tables.limits)}
        self._shard = shard
        self._unfinished: bytes | None = None
        self._reports: Records | None = None
        self._trades: Records | None = None

    def process(self, commands: Records, reports: Records, trades: Records) -> Progress:
        """Match ``commands`` in order: see ``Book.process``.

        Raises ValueError where ``reports`` is too short, the first command is not the one that was
        left unfinished, or an array is not a plain one of its dtype.
        """
        if reports is not self._reports or trades is not self._trades:
            self._take_buffers(reports, trades)
        if commands.dtype != COMMAND or not commands.flags.carray:
            commands = np.require(commands, COMMAND, ["C", "A", "W"])
        if self._unfinished is not None and commands[:1].tobytes() not in (b"", self._unfinished):
            raise ValueError("commands: must begin with the command that was left unfinished")
        status, done, report_count, trade_count = self._process(
            self.address, commands, reports, trades, 0
        )
        while status == GROW:
            self.make_room()
            status, done, report_count, trade_count = self._process(
                self.address, commands, reports, trades, 1
            )
        self._unfinished = None
        if status != DONE and self._tables.state["unfinished"][0] != FINISHED:
            self._unfinished = commands[done : done + 1].tobytes()
        return Progress(done, report_count, trade_count)

    def _take_buffers(self, reports: Records, trades: Records) -> None:
        """Check two buffers once; the kernel writes to the same ones from then on unchecked."""
        for name, buffer, dtype in (("reports", reports, REPORT), ("trades", trades, TRADE)):
            if buffer.dtype != dtype or buffer.ndim != 1 or not buffer.flags.carray:
                raise ValueError(f"{name}: must be a writable array of {name.upper()[:-1]} records")
        if len(reports) < REPORTS_OF_A_START:
            raise ValueError(f"reports: room for {len(reports)}, must be at least 2")
        self._reports, self._trades = reports, trades

    def counters(self) -> Counters:
        """Return the last sequence numbers given."""
        return Counters(*self._tables.counters)

    def depth(self, symbol: int, side: int, levels: Records) -> int:
        """Fill ``levels`` with the best levels of one side; return how many.

        Raises KeyError where the shard does not hold the symbol, or side is not one.
        """
        if side not in (SIDE_BUY, SIDE_SELL):
            raise KeyError(side)
        number = self._instruments[symbol] * SIDES + side - SIDE_BUY
        count: int = kernel.depth(self.address, number, levels)
        return count

    def resting(self) -> Records:
        """Return every live order: see ``Book.resting``."""
        sides = self._tables.sides["order_count"]
        orders = np.zeros(int(sides[0::SIDES].sum() + sides[1::SIDES].sum()), RESTING)
        kernel.resting(self.address, orders)
        return orders

    def recent(self) -> Records:
        """Return the client_order_ids that are remembered, the oldest order's first."""
        tables = self._tables
        last, forgotten = tables.state["order_sequence"][0], tables.state["forgotten"][0]
        sequences = np.arange(int(forgotten) + 1, int(last) + 1)
        rows = tables.recent[sequences & (len(tables.recent) - 1)]
        known = rows["client_order_id"] != 0
        remembered = np.zeros(int(known.sum()), RECENT)
        remembered["order_id"] = make_id(self._shard, 0) | sequences[known]
        remembered["account"] = rows["account"][known]
        remembered["client_order_id"] = rows["client_order_id"][known]
        remembered["symbol"] = tables.instruments["symbol"][rows["instrument"][known]]
        return np.concatenate((self._kept(), remembered))

    def _kept(self) -> Records:
        """Return those that are kept beyond the recent orders, the oldest order's first."""
        tables = self._tables
        rows = tables.kept[1 : tables.state["fresh_kept"][0]]
        rows = rows[rows["order_id"] != 0]
        rows = rows[np.argsort(rows["order_id"])]
        kept = np.zeros(len(rows), RECENT)
        for name in ("order_id", "account", "client_order_id"):
            kept[name] = rows[name]
        kept["symbol"] = tables.instruments["symbol"][rows["instrument"]]
        return kept

    def kept_ids(self) -> KeptIds:
        """Return how many ids are kept beyond the recent orders: see ``Book.kept_ids``."""
        state: Any = self._tables.state[0]
        return KeptIds(int(state["kept_count"]), int(state["displaced_ids"]))

    @property
    def sweeping(self) -> bool:
        """Whether a mass cancel is under way."""
        return self._tables.sweep_count[0] != 0

    @property
    def next_expiry_ns(self) -> int:
        """When the next order expires: see ``Book.next_expiry_ns``."""
        found: int = self._tables.next_expiry_ns[0]
        return 0 if found == NO_EXPIRY else found

    def sweeps(self) -> Records:
        """Return the mass cancels that are under way: see ``Book.sweeps``."""
        tables = self._tables
        found: Records = tables.sweeps[: tables.sweep_count[0]].copy()
        found["timestamp_ns"] = 0
        if len(found):
            found["client_order_id"][0] = tables.orders["order_id"][tables.state["sweep_slot"][0]]
        return found

    def last_prices(self) -> Records:
        """Return the price of each symbol's last trade: see ``Book.last_prices``."""
        rows = self._tables.instruments
        rows = rows[rows["last_price"] != 0]
        found = np.zeros(len(rows), LAST_PRICE)
        found["symbol"], found["price"] = rows["symbol"], rows["last_price"]
        return found

    def restore(
        self,
        counters: Counters,
        resting: Records,
        recent: Records,
        sweeps: Records = NO_SWEEPS,
        last_prices: Records = NO_PRICES,
    ) -> None:
        """Take over the state of another book; this one must be new. See ``Book.restore``."""
        from engine.books.ladder.restore import restore

        restore(self._tables, counters, resting, recent, sweeps, last_prices)

    def make_room(self) -> None:
        """Make the room without which matching has stopped."""
        self._tables.make_room()

    def grow(self) -> None:
        """Make room for more orders now, as ``process`` does when it has none left."""
        self._tables.grow_orders()
        self._tables.grow_hashes()

    def check(self) -> None:
        """Verify every structural invariant; raise AssertionError where one does not hold."""
        check(self._tables)
