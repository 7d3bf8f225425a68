"""What an exporter writes to: rows, and with them the position that they go up to.

A destination keeps each shard's cursor itself, in the transaction of the rows: so no row is missed,
doubled or invented, whoever dies. It is filled from one data directory, which each cursor names,
and by one exporter at a time, which holds its lock.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from engine.books.contract import Records
from engine.history.rows import Rows
from ipc.instruments import Instrument


class HistoryError(Exception):
    """A history that cannot be used as it is; the text names it, says why and what helps."""


class AwayError(HistoryError):
    """A destination that cannot be written or read now, and may be later."""


class Cursor(NamedTuple):
    """How far a destination has what came of a shard's commands, and how it began."""

    shard: int
    identity: str
    """Of the shard's journal: see ``engine.books.secret``."""
    position: int
    """The last command whose outcome is there."""
    orders: int
    """The sequence number of the last order that the commands up to it have given."""
    trades: int
    reports: int
    timestamp_ns: int
    """When the last of them came."""
    log_next: int = 0
    """The next trade to be taken from the trade log, for no journal has it any more; 0: none."""
    log_end: int = 0
    """The last one."""
    lost_orders: int = 0
    """Orders that are not there, or not as they ended, because no journal had them any more."""
    lost_trades: int = 0
    """Trades that neither a journal nor the trade log had any more."""


class Users(NamedTuple):
    """Who accounts are, and up to which byte of a list that has been read."""

    name: str
    end: int
    accounts: list[tuple[int, str]]


class Destination(Protocol):
    """One open destination; whoever has it open holds its lock.

    Every method raises ``AwayError`` where it can be tried again, and nothing is written by it
    then, and ``HistoryError`` where that is of no use.
    """

    apart: bool
    """Whether another process does the work of ``write``, which any thread may call then, one at a
    time."""

    def cursors(self) -> dict[int, Cursor]:
        """Return each shard's cursor, of those that have one."""
        ...

    def write(self, cursor: Cursor, rows: Rows) -> None:
        """Enter rows, and take their shard's cursor to where they go up to."""
        ...

    def begin(self, cursor: Cursor, orders: Records, note: str, texts: Mapping[int, str]) -> None:
        """Begin a shard with a snapshot's orders (ORDER_ROW), whose client_order_ids may stand for
        ``texts``, where no journal goes further back.

        Orders that are there as open, and are none of these, get the status ``UNKNOWN``; ``note``
        stays.
        """
        ...

    def write_past(self, cursor: Cursor, trades: Records, values: Records) -> None:
        """Enter trades (TRADE_ROW) of the trade log, with the accounts that the orders there have.

        ``values`` (ORDER_ROW) are what those orders that are there have paid in them.
        """
        ...

    def write_instruments(self, instruments: Sequence[Instrument]) -> None:
        """Enter instruments. Raises ``HistoryError`` where one is there that differs."""
        ...

    def user_ends(self) -> dict[str, int]:
        """Return up to which byte each list of users is there."""
        ...

    def write_users(self, users: Users) -> None:
        """Enter users."""
        ...

    def sync(self) -> None:
        """Return once what was written before survives a loss of power.

        Another thread calls this than the one that writes, who goes on meanwhile.
        """
        ...

    def tidy(self) -> None:
        """Do a piece of what is to be done now and then, if there is any: a second's work at most.

        Rows that leave are kept elsewhere, where readers find them.
        """
        ...

    def close(self) -> None:
        """Let go of it and of its lock."""
        ...


InstrumentRow = tuple[int, str, int, int, int, int]


def new_instruments(
    where: str, instruments: Sequence[Instrument], there: Sequence[tuple[Any, ...]]
) -> list[InstrumentRow]:
    """Return the rows (``INSTRUMENT_COLUMNS``) of those instruments that are not there yet.

    Raises ``HistoryError`` where one is there that differs.
    """
    known = {row[0]: tuple(row) for row in there}
    new = []
    for found in instruments:
        row = (found.number, found.symbol, *found.tick, *found.lot)
        if found.number not in known:
            known[found.number] = row
            new.append(row)
        elif known[found.number] != row:
            raise HistoryError(
                f"{where}: instrument {found.number} is {row[1:]} now, the history knows it as "
                f"{known[found.number][1:]}"
            )
    return new
