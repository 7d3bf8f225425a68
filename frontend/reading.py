"""Read-only views of a running product, out of its shared memory and its log: no process is asked
or slowed.

``Reader`` maps what the product publishes. Where the product was stopped or started anew meanwhile
the next call notices it: it reads from the new one, or raises ``NotRunningError``.
"""

import os
import pwd
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

import msgspec
import numpy as np

from engine.config import Config, load_config
from engine.plan import Plan
from engine.roles import SUPERVISOR
from engine.running import left_plan
from engine.trade_log.segments import TradeLogError
from frontend.gateway.account_names import AccountNames
from frontend.past_trades import BATCH_TRADES, PastTrades
from ipc.arrays import Records, joined
from ipc.decimals import shown
from ipc.instruments import Instrument
from ipc.memory.depth_board import BoardBusyError, BoardReader
from ipc.memory.mapping import MappingError, check_run_directory, run_directory
from ipc.memory.order_table_reader import OrderTableReader, TableBusyError
from ipc.memory.ring import RingReader
from ipc.memory.status import ProcessStatus, StatusReader, is_alive
from ipc.records import ORDER, account_of, shard_of
from ipc.vocabulary import Reason

POLL_S = 0.02
"""How often ``follow`` looks for new trades."""
BUSY_S, BUSY_PAUSE_S = 5.0, 0.001
"""How long, and how often, a reader tries again while a writer changes what it wants."""

T = TypeVar("T")


class ReadError(Exception):
    """Base of what a reader's user must know."""


class NotRunningError(ReadError):
    """No product runs in the data directory."""


class UnknownSymbolError(ReadError):
    """A symbol that the product does not trade; the text names some that it does."""


class BookView(NamedTuple):
    """The best levels (LEVEL) of both sides, best first, after the shard's ``sequence``."""

    instrument: Instrument
    sequence: int
    bids: Records
    asks: Records


class Followed(NamedTuple):
    """New trades, oldest first, and how many before them were overwritten unread."""

    trades: Records
    lost_trades: int


@dataclass(frozen=True)
class ProcessView:
    """What one process shows of itself.

    ``state`` is one of ``ipc.memory.status.STATES``, or "dead" where it ended without a word.
    ``uptime_s`` is 0 where it does not run. ``lag_trades``, of a process that reads rings in turn:
    by shard, the trades that are published and that it is not done with.
    """

    role: str
    index: int
    pid: int
    core: int | None
    state: str
    uptime_s: float
    counters: Mapping[str, int]
    rejects: Mapping[Reason, int]
    lag_trades: Mapping[int, int]


class Reader:
    """Views of one running product, by its data directory: ``Reader("shardbook-data")``.

    Trades, orders and levels are numpy arrays of records (``TRADE``, ``ORDER``, ``LEVEL``), copies
    that are the caller's. In them prices are ticks, quantities lots, symbols numbers, and times
    nanoseconds since the epoch, all integers; ``instruments[number]`` says what these are:
    its ``symbol``, and the scales ``tick`` and ``lot``, whose ``text(steps)`` is an exact decimal.

    A reader is for one thread. Raises ``NotRunningError`` where no product runs, and ``ReadError``,
    its base, where this user may not read it.
    """

    def __init__(self, product: str | os.PathLike[str] | Plan) -> None:
        """``product``: its data directory, as a text or a path; or its plan, where that is had."""
        if not isinstance(product, Plan):
            product = running_plan(load_config(), Path(product))
        plan = self.plan = product
        self.instruments = {instrument.number: instrument for instrument in plan.known_instruments}
        self._by_symbol = {instrument.symbol: instrument for instrument in plan.instruments}
        self._rings: dict[int, RingReader] = {}
        self._tables: dict[int, OrderTableReader] = {}
        self._boards: dict[int, BoardReader] = {}
        self._names = AccountNames(plan.accounts_paths)
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the mappings; the reader is of no use any more."""
        self._rings.clear()
        self._tables.clear()
        self._boards.clear()

    def instrument(self, symbol: str) -> Instrument:
        """Return the instrument of a symbol. Raises ``UnknownSymbolError``."""
        found = self._by_symbol.get(symbol)
        if found is None:
            some = ", ".join(sorted(self._by_symbol)[:12])
            more = len(self._by_symbol) - 12
            raise UnknownSymbolError(
                f"symbol {shown(symbol)} is not traded here; there are {some}"
                + (f" and {more} more" if more > 0 else "")
            )
        return found

    def trades(self, symbol: str | None = None, limit: int = 100) -> Records:
        """Return the last trades (TRADE) of rings and log, of one symbol or all, oldest first.

        Trades of different shards are in the order of their times; those from the log have no
        ``sequence``. Raises ``UnknownSymbolError``, and ``ReadError`` where the log cannot be read.
        """
        self._refresh()
        instrument = None if symbol is None else self.instrument(symbol)
        plan = self.plan
        past = PastTrades(self._rings, plan.known_instruments, plan.log_dir)
        try:
            return past.newest(instrument, limit)[::-1]
        except (TradeLogError, OSError) as error:
            raise ReadError(f"trade log: {error}") from error
        finally:
            past.close()

    def trades_of_shard(self, shard: int, limit: int = 100) -> Records:
        """Return the last trades (TRADE) that one shard's ring holds, oldest first."""
        self._refresh()
        return self._rings[shard].last(limit)

    def positions(self) -> dict[int, int]:
        """Return, by shard, the sequence of its newest trade, for ``follow``."""
        self._refresh()
        return {shard: ring.published for shard, ring in self._rings.items()}

    def follow(
        self,
        symbol: str | None = None,
        after: Mapping[int, int] | None = None,
        while_idle: Callable[[], None] | None = None,
    ) -> Iterator[Followed]:
        """Yield trades as they appear, for ever; of one symbol or of all.

        ``after`` holds, by shard, the sequence of the last trade that is known; without it only
        what is new counts. Where the writers were faster than the caller by more than a ring, the
        next item says how many trades were lost, those of other symbols included. ``while_idle``
        is called again and again while there is nothing. Raises ``NotRunningError`` once the
        product has stopped.
        """
        number = None if symbol is None else self.instrument(symbol).number
        known = dict(self.positions() if after is None else after)
        shards = [shard for shard in self.plan.shards if self._is_wanted(shard, number)]
        while True:
            self._refresh()
            found, lost = [], 0
            for shard in shards:
                result = self._rings[shard].read(known[shard], BATCH_TRADES)
                known[shard] = result.first + len(result.records) - 1
                lost += result.lost_records
                found.append(result.records)
            trades = _by_time(joined(found))
            if number is not None:
                trades = trades[trades["symbol"] == number]
            if len(trades) or lost:
                yield Followed(trades, lost)
            elif not any(map(len, found)):
                if while_idle is not None:
                    while_idle()
                time.sleep(POLL_S)

    def book(self, symbol: str, depth: int = 10) -> BookView:
        """Return the best ``depth`` levels of each side, or as many as the board holds.

        Raises ``UnknownSymbolError``.
        """
        self._refresh()
        instrument = self.instrument(symbol)
        view = patiently(lambda: self._boards[instrument.shard].read(instrument.number))
        return BookView(instrument, view.sequence, view.bids[:depth], view.asks[:depth])

    def order(self, order_id: int) -> np.void | None:
        """Return one order (ORDER), live or ended not long ago; None where it is not known."""
        self._refresh()
        return self._order(order_id)

    def client_order_id(self, order: np.void) -> int | str:
        """Return the client_order_id of an order (ORDER) as its client gave it; 0: none, or a text
        that has gone with the order meanwhile. In records a text is a number of 2**63 or more."""
        table = self._tables[shard_of(int(order["order_id"]))]
        return patiently(lambda: table.client_order_id(order))

    def orders_of(self, user_id: str, symbol: str | None = None, limit: int = 100) -> Records:
        """Return a user's orders (ORDER), live and ended not long ago, newest first.

        Raises ``UnknownSymbolError``.
        """
        self._refresh()
        wanted = None if symbol is None else self.instrument(symbol)
        account, number = account_of(user_id), 0 if wanted is None else wanted.number
        found = [
            patiently(partial(table.of_account, account, number, limit=limit))
            for shard, table in self._tables.items()
            if wanted is None or wanted.shard == shard
        ]
        every = joined(found)
        newest: Records = every[np.argsort(every["created_ns"], kind="stable")[::-1]][:limit]
        return newest

    def user_of(self, account: int) -> str:
        """Return the user_id of an account, such as ``order["account"]``; "" if it is not known."""
        return self._names.text(account)

    def orders(self, order_ids: Sequence[int]) -> Records:
        """Return orders (ORDER) in their places; zeros stand for one that is not known."""
        self._refresh()
        found = np.zeros(len(order_ids), ORDER)
        for place, order_id in enumerate(order_ids):
            order = self._order(order_id)
            if order is not None:
                found[place] = order
        return found

    def status(self) -> list[ProcessView]:
        """Return what every process of the plan shows of itself."""
        self._refresh()
        return [self._view(process) for process in self._status.processes()]

    def _is_wanted(self, shard: int, number: int | None) -> bool:
        return number is None or self.instruments[number].shard == shard

    def _order(self, order_id: int) -> np.void | None:
        shard = shard_of(order_id)
        if shard not in self._tables:
            return None
        return patiently(lambda: self._tables[shard].get(order_id))

    def _open(self) -> None:
        """Map everything. Raises ``NotRunningError``."""
        plan = self.plan
        try:
            self._status = StatusReader(plan.status_path)
            self._rings = {shard: RingReader(plan.ring_path(shard)) for shard in plan.shards}
            self._tables = {
                shard: OrderTableReader(plan.table_path(shard)) for shard in plan.shards
            }
            self._boards = {shard: BoardReader(plan.board_path(shard)) for shard in plan.shards}
        except MappingError as error:
            if plan.status_path.exists():
                raise ReadError(str(error)) from error
            raise self._not_running() from error
        supervisors = [p.pid for p in self._status.processes() if p.role == SUPERVISOR.name]
        self._supervisor_pid = supervisors[0]
        self._verify_alive()

    def _refresh(self) -> None:
        """Map anew what a restart has replaced. Raises ``NotRunningError``."""
        if self._status.mapping.replaced:
            self._open()
        else:
            self._verify_alive()

    def _verify_alive(self) -> None:
        """Look for the supervisor: where it was killed, its mappings stay behind."""
        if not is_alive(self._supervisor_pid):
            raise self._not_running()

    def _not_running(self) -> NotRunningError:
        return NotRunningError(f"no product runs in {self.plan.data_dir}")

    def _view(self, process: ProcessStatus) -> ProcessView:
        alive = is_alive(process.pid)
        lost = not alive and process.state in ("starting", "ready", "draining")
        lag_trades = {}
        if process.reader is not None:
            lag_trades = {
                shard: ring.published - ring.cursor_of(process.reader)
                for shard, ring in self._rings.items()
                if process.reader < ring.gating_readers
            }
        return ProcessView(
            process.role,
            process.number,
            process.pid,
            process.core,
            "dead" if lost else process.state,
            max(0.0, (time.time_ns() - process.started_ns) / 1e9) if alive else 0.0,
            process.counters,
            {Reason(code): count for code, count in process.rejects.items()},
            lag_trades,
        )


def running_plan(config: Config, data_dir: Path | None = None) -> Plan:
    """Return the plan of the product that runs in a data directory.

    Its configuration is its own, whatever ``config`` says, as long as it has left it there;
    ``config`` names the directory where ``data_dir`` does not.
    """
    plan = Plan(config, data_dir)
    plan.run_dir, user = _run_directory(plan)
    try:
        check_run_directory(plan.run_dir)
        own = left_plan(plan)
    except MappingError as error:
        raise ReadError(str(error)) from None
    except PermissionError:
        raise ReadError(
            f"the product in {plan.data_dir} is run by user {user}, and this user may not read it"
        ) from None
    except msgspec.MsgspecError as error:
        raise ReadError(f"{plan.config_path}: {error}") from error
    if own is None:
        return plan
    own.run_dir = plan.run_dir
    return own


def _run_directory(plan: Plan) -> tuple[Path, str]:
    """Return where the product of a data directory has its mappings, whoever runs it, and who.

    That is looked for with this user, with the one whose lock is there, and with root: nobody
    else's word for it is taken.
    """
    users = [os.getuid()]
    with suppress(OSError):
        users.append(plan.lock_path.stat().st_uid)
    for user in (*users, 0):
        directory = run_directory(plan.data_dir, user)
        with suppress(OSError):
            if directory.is_dir() and directory.lstat().st_uid == user:
                return directory, _user_name(user)
    return plan.run_dir, _user_name(users[0])


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def patiently(read: Callable[[], T]) -> T:
    """Return what ``read`` gives, trying again while it finds the writer at work.

    A writer that lost its core in the midst of a change leaves it half done until it runs again.
    Raises ``ReadError`` where that takes longer than ``BUSY_S``.
    """
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            return read()
        except (BoardBusyError, TableBusyError) as error:
            if time.monotonic() > deadline:
                raise ReadError(str(error)) from error
        time.sleep(BUSY_PAUSE_S)


def _by_time(trades: Records) -> Records:
    ordered: Records = trades[np.argsort(trades["timestamp_ns"], kind="stable")]
    return ordered
