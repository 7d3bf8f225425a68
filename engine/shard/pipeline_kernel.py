"""One round in one compiled call: match a batch, and give what came of it all its effects.

Which effects there are, and in which order, ``engine.shard.effects`` says.
"""

from pathlib import Path
from typing import Any

import numpy as np

from engine.books.ladder import kernel
from engine.books.ladder.layout import GROW
from engine.books.ladder.memory import entry, state_at
from engine.shard import account_sequences, effects, effects_kernel, summary
from engine.shard.effects import EFFECTS
from engine.shard.effects_kernel import (
    CONTEXT,
    DONE,
    MORE_ORDERS,
    MORE_OUTBOX,
    MORE_REPORT_ROWS,
    MORE_TEXTS,
    MORE_TRADE_ROWS,
    NO_PROCESS,
    PLACES,
    carry_out_round,
    carry_out_trades,
    lacks_rows,
    outbox_without_room,
    show_all_reports,
)
from ipc import client_ids
from ipc.links import outbox
from ipc.memory import (
    depth_board,
    depth_board_kernel,
    order_table,
    order_table_kernel,
    ring,
    ring_kernel,
    status,
)
from ipc.memory.ring_kernel import free_rows
from ipc.native.compiled import SOURCES, digest_of
from ipc.native.views import array_at
from ipc.records import REPORT, TRADE

MATCH, PUBLISH, SHOW = 0, 1, 2
"""Where a round begins, or goes on."""
_ZERO, _ONE = np.uint64(0), np.uint64(1)


def make_pipeline(source: int) -> Any:
    """Return the round (context's address, commands, time) -> DONE or why it has stopped.

    ``source`` is a number that changes with any source it is made of: numba keeps its machine code
    by its closure too.
    """

    def run_pipeline(address: int, commands: Any, timestamp_ns: int) -> int:
        context = array_at(np.uint64(address), 1, CONTEXT)
        c = context[0]
        if source == 0:
            return DONE
        if c.stage == np.uint64(MATCH):
            trade_words = array_at(c.trade_words, 1 << 20, np.uint64)
            if c.resume == _ZERO:
                free = free_rows(trade_words, np.int64(c.trade_ring), np.int64(c.trade_readers))
                c.trade_count = np.uint64(min(free, np.int64(c.trade_capacity)))
            if c.process == _ZERO:
                return NO_PROCESS
            arguments = (
                np.int64(c.book),
                commands,
                array_at(c.reports, np.int64(c.report_capacity), REPORT),
                array_at(c.trades, np.int64(c.trade_count), TRADE),
                np.int64(c.resume),
            )
            why, finished, reports, trades = kernel.call_process(c.process, arguments)
            if why == GROW:
                c.resume = _ONE
                return MORE_ORDERS
            c.resume = _ZERO
            c.finished = np.uint64(finished)
            c.report_count = np.uint64(reports)
            c.trade_count = np.uint64(trades)
            c.shown = _ZERO
            c.numbered = _ZERO
            c.symbol_count = _ZERO
            c.stage = np.uint64(PUBLISH)
            state = state_at(c.book)
            if state.named != np.uint32(0):
                state.named = np.uint32(0)
                return MORE_TEXTS
        if c.stage == np.uint64(PUBLISH):
            if c.trade_count > _ZERO:
                if lacks_rows(c.trade_words, c.trade_count, c.trade_reserved):
                    return MORE_TRADE_ROWS
                why_refused: int = carry_out_trades(c, timestamp_ns)
                if why_refused != DONE:
                    return why_refused
            c.stage = np.uint64(SHOW)
        if c.shown == _ZERO:
            if lacks_rows(c.ring_words, c.report_count, c.ring_reserved):
                return MORE_REPORT_ROWS
            small = outbox_without_room(c)
            if small >= 0:
                c.small_outbox = np.uint64(small)
                return MORE_OUTBOX
        why_shown = show_all_reports(context)
        if why_shown != DONE:
            return why_shown
        carry_out_round(c, timestamp_ns)
        c.stage = np.uint64(MATCH)
        return DONE

    return entry(run_pipeline)


_MODULES = (
    account_sequences, client_ids, depth_board, depth_board_kernel, effects, effects_kernel,
    order_table, order_table_kernel, outbox, ring, ring_kernel, status, summary,
)  # fmt: skip
_FILES = [Path(module.__file__ or "") for module in _MODULES]
_NAMES = ",".join(effect.carry_out.__name__ for effect in EFFECTS)
_NUMBERS = hash(PLACES) & (1 << 56) - 1  # of the role table, which has much else in it
run_pipeline = make_pipeline(digest_of(_FILES, _NAMES) ^ SOURCES ^ kernel.SOURCE ^ _NUMBERS)
