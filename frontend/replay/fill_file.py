"""Turns the reports of one account into the fills of its order flow, and writes them as CSV.

Columns: ``taker_seq,taker_id,fill_no,maker_id,price,qty,maker_left``. ``taker_seq`` is the flow's
number of the row that traded, ``fill_no`` counts the fills of one row from 0, ``maker_left`` is
what then stayed open of the maker; prices are ticks, quantities lots, ids client_order_ids. A flow
of several symbols has ``symbol`` as its first column. Each symbol's fills stand in their order.
Lines end in CR LF, as RFC 4180 has it. A side that was another account's is empty: its taker_seq,
taker_id and fill_no, or its maker_id and maker_left.
"""

from typing import TextIO

from ipc.codes import LIQUIDITY_TAKER
from ipc.wire.messages import Report

COLUMNS = "taker_seq,taker_id,fill_no,maker_id,price,qty,maker_left"


class _SymbolFills:
    """Where one symbol is: the row that trades, and the trade whose maker is still to be told."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.request_id = 0
        self.seq = 0
        self.fill_no = 0
        self.taker: Report | None = None
        self.taker_text = ""


class FillFile:
    """Writes fills as their reports come. ``symbols`` are names by the numbers of the wire.

    ``out`` is a file opened with ``newline=""``; None: fills are counted only. The reports of one
    symbol must be given in their order.
    """

    def __init__(self, symbols: dict[int, str], out: TextIO | None) -> None:
        several = len(symbols) > 1
        self.trades = 0
        self._out = out
        self._of = {
            number: _SymbolFills(f"{name}," if several else "") for number, name in symbols.items()
        }
        self._write(f"symbol,{COLUMNS}" if several else COLUMNS)

    def answered(self, symbol: int, request_id: int, seq: int) -> None:
        """The row ``seq`` was answered: trades with its request_id are its fills."""
        state = self._of[symbol]
        state.request_id, state.seq, state.fill_no = request_id, seq, 0

    def add(self, report: Report) -> None:
        """Take the report of a trade: the taker's comes before the maker's."""
        state = self._of[report.symbol]
        taker = state.taker
        if taker is not None and taker.trade_id != report.trade_id:
            self._finish(state, taker)
            taker = None
        if report.liquidity == LIQUIDITY_TAKER:
            self.trades += 1
            state.taker = report
            if report.request_id == state.request_id:
                state.taker_text = f"{state.seq},{report.client_order_id},{state.fill_no}"
                state.fill_no += 1
            else:  # of another session of the account
                state.taker_text = f",{report.client_order_id},"
            return
        if taker is None:
            self.trades += 1
            state.taker_text = ",,"
        self._finish(state, report, f"{report.client_order_id}", f"{report.leaves_qty}")

    def finish(self) -> None:
        """Write what still waited for its maker's report: there is none to come any more."""
        for state in self._of.values():
            if state.taker is not None:
                self._finish(state, state.taker)

    def _finish(
        self, state: _SymbolFills, report: Report, maker_id: str = "", maker_left: str = ""
    ) -> None:
        state.taker = None
        price_qty = f"{report.last_price},{report.last_qty}"
        self._write(f"{state.prefix}{state.taker_text},{maker_id},{price_qty},{maker_left}")

    def _write(self, line: str) -> None:
        if self._out is not None:
            self._out.write(f"{line}\r\n")
