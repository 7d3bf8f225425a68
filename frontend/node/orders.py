"""Orders and trades as Redis has them, as the records that shared memory would have."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from engine.cache.formats import (
    REASON_CODES,
    SIDE_CODES,
    STATUS_CODES,
    TIME_CODES,
    TYPE_CODES,
    Entry,
    State,
    Trade,
)
from ipc.arrays import Records
from ipc.client_ids import RememberedTexts
from ipc.instruments import Instrument, Scale
from ipc.records import LEVEL, ORDER, TRADE
from ipc.vocabulary import Side
from ipc.wire.messages import OrderState

MAX_REMEMBERED = 65_536
_entries, _states = msgspec.json.Decoder(Entry), msgspec.json.Decoder(State)
_trades, _levels = msgspec.json.Decoder(Trade), msgspec.json.Decoder(list[tuple[str, str, int]])


class Steps(dict[str, int]):
    """Decimals of one scale in steps, by how they were written: ``steps[text]``."""

    __slots__ = ("_scale",)

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self._scale = scale

    def __missing__(self, written: str) -> int:
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        found = self[written] = self._scale.steps(written, "decimal")
        return found


class Reading:
    """Reads what Redis has of instruments."""

    def __init__(
        self, instruments: Mapping[int, Instrument], texts: RememberedTexts | None = None
    ) -> None:
        """``texts`` are told those of the orders that are read."""
        self.texts = RememberedTexts() if texts is None else texts
        self._ticks = {number: Steps(i.tick) for number, i in instruments.items()}
        self._lots = {number: Steps(i.lot) for number, i in instruments.items()}

    def order(self, found: Mapping[bytes, bytes]) -> tuple[Any, ...] | None:
        """Return an order (ORDER) as values; None where there is none."""
        if not found:
            return None
        entry, state = _entries.decode(found[b"entry"]), _states.decode(found[b"state"])
        ticks, lots = self._ticks[entry.instrument], self._lots[entry.instrument]
        stop_price, shown = found.get(b"stop_price"), found.get(b"display_quantity")
        return (
            entry.order_id,
            int(entry.account),
            self.texts.number(entry.client_order_id),
            0 if state.price is None else ticks[state.price],
            lots[state.quantity],
            lots[state.filled],
            lots[state.remaining],
            entry.created,
            state.updated,
            entry.instrument,
            0 if state.reason is None else REASON_CODES[state.reason],
            SIDE_CODES[entry.side],
            TYPE_CODES[entry.order_type],
            TIME_CODES[entry.time_in_force],
            state.flags,
            STATUS_CODES[state.status],
            (0, 0, 0),
            0,
            0 if stop_price is None else ticks[stop_price.decode()],
            0 if shown is None else lots[shown.decode()],
        )

    def orders(self, found: list[Mapping[bytes, bytes]]) -> Records:
        """Return orders (ORDER), those that are there."""
        rows = [row for row in map(self.order, found) if row is not None]
        return np.array(rows, ORDER) if rows else np.zeros(0, ORDER)

    def trade(self, number: int, written: bytes) -> tuple[Any, ...]:
        """Return a trade (TRADE) of an instrument as values."""
        trade = _trades.decode(written)
        return (
            trade.trade_id,
            0,
            trade.timestamp,
            self._ticks[number][trade.price],
            self._lots[number][trade.quantity],
            trade.buy_order_id,
            trade.sell_order_id,
            number,
            int(Side.BUY if trade.taker_side == "buy" else Side.SELL),
            (0,) * 5,
        )

    def levels(self, number: int, written: bytes) -> Records:
        """Return the levels (LEVEL) of one side of an instrument's book."""
        ticks, lots = self._ticks[number], self._lots[number]
        rows = [(ticks[p], lots[q], n) for p, q, n in _levels.decode(written)]
        return np.array(rows, LEVEL) if rows else np.zeros(0, LEVEL)


def as_trades(rows: list[tuple[Any, ...]]) -> Records:
    """Return trades (TRADE) by their ids."""
    rows.sort()
    return np.array(rows, TRADE) if rows else np.zeros(0, TRADE)


def order_of(found: OrderState, account: int, texts: RememberedTexts) -> Records:
    """Return an order (ORDER) of an account as a query worker shows it."""
    order = np.zeros(1, ORDER)
    for name in OrderState.__struct_fields__[1:]:
        value = getattr(found, name)
        order[name] = texts.number(value) if name == "client_order_id" else value
    order["account"] = account
    return order
