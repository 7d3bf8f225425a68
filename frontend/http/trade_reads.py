"""Trades over REST: the newest from the rings, older ones from the log, page by page.

A page's ``next`` names, for every shard it covers, the last trade shown, and where in the log the
search goes on. One request looks at a bounded piece of the log, so a page may hold fewer trades
than asked for, or none, and still name a next one; the last page names none. Trades of one shard
come in its order; trades of different shards by time, in the log about so.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType

from engine.history.rows import as_trades
from engine.sections import HttpSection
from engine.trade_log.history import BackwardLog, trades_of
from engine.trade_log.lines import LineFormatter, LoggedTrade
from engine.trade_log.reader import Position
from engine.trade_log.segments import TradeLogError
from frontend.http.errors import ApiError, broken_rule
from frontend.http.history_reads import MEMORY, WITH_MEMORY, HistoryReads
from frontend.http.market import Market
from frontend.http.market_models import TradesQuery, TradeView, WrittenTrades
from frontend.http.models import Source
from frontend.http.product_state import ProductState, newest_first
from frontend.http.queries import limited, read_query
from frontend.http.searches import Searches, ThreadedSearches, Work
from frontend.http.trade_pages import TradePage, cursor_of, lower, read_cursor, wanted
from frontend.http.trade_rings import first_at, from_ring
from frontend.http.user_trades import UserOrders, find_orders
from frontend.past_trades import PastTrades
from ipc.arrays import Records, joined
from ipc.codes import SIDE_BUY
from ipc.memory.ring import RingReader
from ipc.records import SEQUENCE_MASK, TRADE, sequence_of, shard_of

logger = logging.getLogger("shardbook.http")

SEARCH_S = 1.0
"""How long a search of the log for one symbol's last trade keeps others waiting."""
SCAN_BYTES = 16 << 20
"""Of the log, looked at by one request."""
PIECE_TRADES = 64
"""Trades of the log that are looked at in a piece of a search."""
REMEMBERED_ANSWERS = 64
_encode = msgspec.json.Encoder().encode


class _Written(msgspec.Struct, frozen=True):
    """An answer, and what the rings had published before it was made."""

    published: list[int]
    trades: Raw
    count: int
    next: str | None
    source: Source | UnsetType = UNSET

    def answer(self) -> WrittenTrades:
        """Return it, as of now."""
        return WrittenTrades(
            timestamp=time.time_ns(),
            trades=self.trades,
            count=self.count,
            next=self.next,
            source=self.source,
        )


class TradeReads:
    """One worker's access to trades. The log is read in threads of its own: pages by turns, a block
    each."""

    def __init__(
        self,
        state: ProductState,
        searches: Searches,
        history: HistoryReads,
        log_dir: Path,
        config: HttpSection,
    ) -> None:
        self._state = state
        self._history = history
        self._searches = searches
        self._config = config
        self._log = BackwardLog(log_dir)
        self._past = PastTrades(state.rings, state.instruments, log_dir)
        self._thread = ThreadPoolExecutor(1, "last")
        self._pages = ThreadedSearches("log", config.answer_timeout_s)
        self._lines = LineFormatter(state.instruments)
        self._newest: dict[bytes, _Written] = {}

    def trades(
        self, asked_for: bytes, who: str | None, account_of: Callable[[str], int | None]
    ) -> WrittenTrades | Awaitable[WrittenTrades]:
        """Return trades, newest first, as a query string asks; ``who`` asks, if that is known.

        ``account_of`` tells whose trades ``who`` may see. Raises ``ApiError``.
        """
        state, config = self._state, self._config
        published = [ring.published for ring in state.rings.values()]
        known = self._newest.get(asked_for)
        if known is not None and known.published == published:
            return known.answer()
        query = read_query(TradesQuery, asked_for)
        limit = limited(query.limit, config.default_trade_limit, config.max_trade_limit)
        market = None if query.symbol is None else state.markets.named(query.symbol)
        quoted = query.numbers == "string"
        page = self._begin(query, market)
        account = None if query.user_id is None else account_of(query.user_id)
        asked = query, market, page, limit, quoted, account
        found = self._searches.run(who, self._page(asked_for, who, published, *asked))
        return found if isinstance(found, WrittenTrades) else _whole(found)

    def _page(
        self,
        asked_for: bytes,
        who: str | None,
        published: list[int],
        query: TradesQuery,
        market: Market | None,
        page: TradePage,
        limit: int,
        quoted: bool,
        account: int | None,
    ) -> Work[Any]:
        """Return an answer, or what waits for the log to add to it; in pieces of a search."""
        below = dict(page.below)
        recent = np.empty(0, TRADE)
        mine = None
        if account is not None:
            mine = yield from find_orders(self._state, account, market, below)
            if self._history.kept and page.position is None:
                rings = self._of_rings(query, market, _lowest(below, mine), limit, mine)
                new = yield from rings
                return self._of_user(new, mine, account, who, query, market, below, limit, quoted)
            if not len(mine.order_ids):
                return _Written([], _joined([]), 0, None).answer()
            below = _lowest(below, mine)
            query = msgspec.structs.replace(query, from_=max(query.from_ or 0, mine.since_ns))
        if page.position is None:
            recent = yield from self._recent(query, market, below, limit, mine)
            lower(below, recent)
        written, count = self._written(recent, quoted, mine), len(recent)
        cursor: str | None = cursor_of(below, page.position)
        if count < limit:
            if not self._nothing_older(query, below):
                rest = query, market, TradePage(below, page.position), limit - count, quoted, mine
                if self._history.kept and page.position is None and mine is None:
                    return self._with_history(written, count, who, *rest[:-1])
                search = self._older(*rest)
                return self._with_older(written, count, search, who)
            cursor = None
        source: Source | UnsetType = MEMORY if self._history.kept else UNSET
        found = _Written(published, _joined(written), count, cursor, source)
        if mine is None:  # others may not see what is somebody's
            self._remember(asked_for, found)
        return found.answer()

    async def _of_user(
        self,
        parts: list[Records],
        mine: UserOrders,
        account: int,
        who: str | None,
        query: TradesQuery,
        market: Market | None,
        below: dict[int, int],
        limit: int,
        quoted: bool,
    ) -> WrittenTrades:
        """Return a user's trades: those of the rings where the history has not come to them, and
        else those of the history. Where that is away, those of the orders in memory."""
        rings = self._state.rings
        number = None if market is None else market.number
        asked = wanted(query, number, below, limit, account)
        answered = await self._history.user_trades(who, asked)
        known = {} if answered is None else answered.rows.known
        if answered is None or any(known.get(s, 0) + 1 < rings[s].oldest for s in below):
            return await self._of_known_orders(
                parts, mine, who, query, market, below, limit, quoted
            )
        past, new = answered.rows.rows, joined(parts)
        ends = np.array([known.get(shard_of(i), 0) for i in new["trade_id"].tolist()], np.uint64)
        new = new[(new["trade_id"] & np.uint64(SEQUENCE_MASK)) > ends]
        shown = newest_first(joined((new, as_trades(past))), "timestamp_ns")[:limit]
        after = dict(below)
        lower(after, shown)
        cursor = cursor_of(after, None) if len(shown) == limit else None
        written = self._written(shown, quoted, mine.with_trades(past, account))
        source = WITH_MEMORY[answered.source]
        return _Written([], _joined(written), len(shown), cursor, source).answer()

    async def _of_known_orders(
        self,
        parts: list[Records],
        mine: UserOrders,
        who: str | None,
        query: TradesQuery,
        market: Market | None,
        below: dict[int, int],
        limit: int,
        quoted: bool,
    ) -> WrittenTrades:
        """Return the trades of those orders of a user that memory knows, from rings and log."""
        if not len(mine.order_ids):
            return _Written([], _joined([]), 0, None, MEMORY).answer()
        after = _lowest(below, mine)
        new = self._merged(parts, query, after, limit)
        lower(after, new)
        written = self._written(new, quoted, mine)
        query = msgspec.structs.replace(query, from_=max(query.from_ or 0, mine.since_ns))
        if len(new) == limit or self._nothing_older(query, after):
            cursor = cursor_of(after, None) if len(new) == limit else None
            return _Written([], _joined(written), len(new), cursor, MEMORY).answer()
        rest = TradePage(after, None), limit - len(new), quoted, mine
        return await self._with_older(written, len(new), self._older(query, market, *rest), who)

    async def _with_history(
        self,
        written: list[bytes],
        count: int,
        who: str | None,
        query: TradesQuery,
        market: Market | None,
        page: TradePage,
        limit: int,
        quoted: bool,
    ) -> WrittenTrades:
        """Return an answer to which the history has something to add, or else the log."""
        rings, below = self._state.rings, dict(page.below)
        number = None if market is None else market.number
        asked = wanted(query, number, below, limit)
        needed = {shard: min(n - 1, rings[shard].published) for shard, n in below.items()}
        answered = await self._history.trades(who, asked, needed)
        if answered is None:
            search = self._older(query, market, page, limit, quoted, None)
            return await self._with_older(written, count, search, who)
        older = answered.rows
        lower(below, older)
        cursor = cursor_of(below, None) if len(older) == limit else None
        written += self._written(older, quoted, None)
        source = WITH_MEMORY[answered.source]
        return _Written([], _joined(written), count + len(older), cursor, source).answer()

    async def _with_older(
        self,
        written: list[bytes],
        count: int,
        search: "Work[tuple[list[TradeView], str | None]]",
        who: str | None,
    ) -> WrittenTrades:
        """Return an answer to which the log has something to add."""
        try:
            older, cursor = await self._pages.run(who, search)
        except (TradeLogError, OSError) as error:
            logger.warning("trade log: %s", error)
            raise ApiError(
                "BUSY", "the trade log cannot be read now; its error is logged"
            ) from None
        written += [_encode(view) for view in older]
        source: Source | UnsetType = "memory, log" if self._history.kept else UNSET
        return _Written([], _joined(written), count + len(older), cursor, source).answer()

    async def last(self, market: Market) -> Records:
        """Return the last trade (TRADE) of a symbol, or none. Raises as ``PastTrades`` does."""
        asked = market.instrument, 1, SEARCH_S
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._past.newest, *asked)

    def _remember(self, query: bytes, found: "_Written") -> None:
        """Keep an answer: it is the same until there is a new trade."""
        if len(self._newest) >= REMEMBERED_ANSWERS:
            self._newest.clear()
        self._newest[query] = found

    def _written(self, trades: Records, quoted: bool, mine: UserOrders | None) -> list[bytes]:
        """Return trades of a ring as JSON, to be joined by commas."""
        if mine is not None:
            return [_encode(mine.marked(view)) for view in self._ring_views(trades, quoted)]
        if quoted:
            return [_encode(view) for view in self._ring_views(trades, quoted)]
        # What the log's lines have is what an answer has.
        lines = bytes(self._lines.format(joined([trades])))
        return [lines[:-1].replace(b"\n", b",")] if lines else []

    def close(self) -> None:
        """Stop reading."""
        self._thread.shutdown(cancel_futures=True)
        self._pages.close()
        self._log.close()
        self._past.close()

    def _begin(self, query: TradesQuery, market: Market | None) -> TradePage:
        shards = self._state.shards if market is None else [market.shard]
        if query.cursor is not None:
            return read_cursor(query.cursor, shards)
        below = dict.fromkeys(shards, 1 << 60)
        if query.before is None:
            return TradePage(below, None)
        shard, sequence = shard_of(query.before), sequence_of(query.before)
        if shard not in below:
            raise broken_rule("before", "must be the id of a trade of the symbol")
        if market is None and len(shards) > 1:
            # Other shards' trades are older where their time is.
            found = self._state.rings[shard].read(sequence - 1, 1).records
            if not len(found) or found["trade_id"][0] != query.before:
                raise broken_rule(
                    "before", "must come with a symbol where the trade is as old as that"
                )
            when = int(found["timestamp_ns"][0])
            for other, ring in self._state.rings.items():
                below[other] = first_at(ring, when)
        below[shard] = sequence
        return TradePage(below, None)

    def _recent(
        self,
        query: TradesQuery,
        market: Market | None,
        below: dict[int, int],
        limit: int,
        mine: UserOrders | None,
    ) -> Work[Records]:
        """Return what the rings have of a page, newest first."""
        found = yield from self._of_rings(query, market, below, limit, mine)
        return self._merged(found, query, below, limit)

    def _merged(
        self, found: list[Records], query: TradesQuery, below: dict[int, int], limit: int
    ) -> Records:
        """Return of what rings have what is whole, newest first."""
        if len(found) == 1:
            return found[0]
        # A ring that gave up trades knows none before its oldest: what others have from before that
        # is read from the log, where the trades of all shards are in order.
        rings = [self._state.rings[shard] for shard in below]
        ends = [
            _end(ring, query) for ring, part in zip(rings, found, strict=True) if len(part) < limit
        ]
        horizon = max(ends, default=0)
        every = newest_first(joined(found), "timestamp_ns")
        return every[every["timestamp_ns"] >= horizon][:limit]

    def _of_rings(
        self,
        query: TradesQuery,
        market: Market | None,
        below: dict[int, int],
        limit: int,
        mine: UserOrders | None,
    ) -> Work[list[Records]]:
        """Return what each ring has of a page, newest first."""
        found: list[Records] = []
        order_ids = None if mine is None else mine.order_ids
        for shard, first in below.items():
            if found:
                yield
            ring = self._state.rings[shard]
            found.append((yield from from_ring(ring, market, query, first, limit, order_ids)))
        return found

    def _nothing_older(self, query: TradesQuery, below: dict[int, int]) -> bool:
        """Return whether the rings had all that a page may have."""
        rings = self._state.rings
        if all(rings[shard].oldest == 1 for shard in below):
            return True
        if query.from_ is None:
            return False
        for shard in below:
            oldest = rings[shard].oldest
            first = rings[shard].read(oldest - 1, 1).records
            if oldest > 1 and (not len(first) or first["timestamp_ns"][0] >= query.from_):
                return False
        return True

    def _older(
        self,
        query: TradesQuery,
        market: Market | None,
        page: TradePage,
        limit: int,
        quoted: bool,
        mine: UserOrders | None,
    ) -> Work[tuple[list[TradeView], str | None]]:
        """Return what a bounded piece of the log has of a page, and the cursor of the next one."""
        symbol = None if market is None else market.symbol
        wanted = None if mine is None else set(mine.order_ids.tolist())
        views: list[TradeView] = []
        below, position = dict(page.below), page.position
        early: set[int] = set()
        scanned = 0
        try:
            for block in self._log.blocks(position):
                position = block.position
                scanned += len(block.lines)
                for number, trade in enumerate(trades_of(block, symbol)):
                    if number % PIECE_TRADES == PIECE_TRADES - 1:
                        yield
                    shard, sequence = shard_of(trade.trade_id), sequence_of(trade.trade_id)
                    if sequence >= below.get(shard, 0) or not _in_time(query, trade.timestamp):
                        if query.from_ is not None and trade.timestamp < query.from_:
                            early.add(shard)
                        continue
                    if wanted is not None and wanted.isdisjoint(
                        (trade.buy_order_id, trade.sell_order_id)
                    ):
                        continue
                    if len(views) == limit:
                        # The block is read again for the next page, down from here.
                        return views, cursor_of(below, _after(block.position, block.lines))
                    below[shard] = sequence
                    view = self._log_view(trade, quoted)
                    if view is not None:
                        views.append(view if mine is None else mine.marked(view))
                if early >= below.keys():
                    return views, None  # each shard's time only grows
                if scanned >= SCAN_BYTES or len(views) == limit:
                    return views, cursor_of(below, position)
                yield
        except FileNotFoundError:
            pass  # the segment was moved away: what is older is not there any more
        return views, None

    def _ring_views(self, trades: Records, quoted: bool) -> list[TradeView]:
        by_number = self._state.markets.by_number
        views = []
        for trade_id, _, time_ns, price, quantity, buy, sell, symbol, side, _ in trades.tolist():
            market = by_number[symbol]
            views.append(
                TradeView(
                    trade_id,
                    market.symbol,
                    buy,
                    sell,
                    market.prices[quoted][price],
                    market.quantities[quoted][quantity],
                    time_ns,
                    "buy" if side == SIDE_BUY else "sell",
                )
            )
        return views

    def _log_view(self, trade: LoggedTrade, quoted: bool) -> TradeView | None:
        """Return a view of a logged trade; None where no instrument here can say it."""
        said = self._state.markets.said(trade.symbol, trade.price, trade.quantity)
        if said is None:
            return None
        market, ticks, lots = said
        return TradeView(
            trade.trade_id,
            trade.symbol,
            trade.buy_order_id,
            trade.sell_order_id,
            market.prices[quoted][ticks],
            market.quantities[quoted][lots],
            trade.timestamp,
            trade.taker_side,
        )


async def _whole(found: Awaitable[Any]) -> WrittenTrades:
    """Wait for an answer, and for what the log adds to it."""
    result = await found
    whole: WrittenTrades = await result if asyncio.iscoroutine(result) else result
    return whole


def _lowest(below: dict[int, int], mine: UserOrders) -> dict[int, int]:
    """Return the bounds below which a user's orders tell whose a trade is."""
    return {shard: min(first, mine.below[shard]) for shard, first in below.items()}


def _joined(written: list[bytes]) -> Raw:
    return Raw(b"[%b]" % b",".join(written))


def _end(ring: RingReader, query: TradesQuery) -> int:
    """Return the time before which a ring does not have all that is asked for; 0: it has all."""
    oldest = ring.oldest
    first = ring.read(oldest - 1, 1).records
    if oldest == 1 or not len(first):
        return 0  # what a ring without trades gave up is from before the others' beginning
    time_ns = int(first["timestamp_ns"][0])
    return 0 if query.from_ is not None and time_ns < query.from_ else time_ns


def _in_time(query: TradesQuery, timestamp_ns: int) -> bool:
    if query.from_ is not None and timestamp_ns < query.from_:
        return False
    return query.to is None or timestamp_ns < query.to


def _after(position: Position, lines: bytes) -> Position:
    return Position(position.segment, position.offset + len(lines))
