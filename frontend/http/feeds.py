"""What a worker streams: it watches shared memory while somebody listens, and makes each message
once for all who do.

Nothing tells a reader of shared memory that it has changed, so the feeds look: often while there is
something to tell, less often when it is quiet, not at all while nobody listens.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import msgspec

from engine.trade_log.segments import TradeLogError
from frontend.http.depth import BookState, Level, changes, checksum
from frontend.http.market import Market
from frontend.http.market_models import TopLevel, TradeView
from frontend.http.product_state import ProductState
from frontend.http.socket_models import DepthMessage, TickerMessage, TradesMessage
from ipc.arrays import Records, those
from ipc.codes import SIDE_BUY
from ipc.memory.depth_board import BoardBusyError, BoardReader
from ipc.memory.ring import RingReader

LOOK_S = 0.001
IDLE_S = 0.005
IDLE_LOOKS = 50
"""Looks without news before they become rarer."""
BATCH_TRADES = 1_024

MOST_READ_TRADES = 16 * BATCH_TRADES
"""Of what came while nobody listened; where there is more the last one is searched for."""

logger = logging.getLogger("shardbook.http")
_encode = msgspec.json.Encoder().encode


LastTrade = Callable[[Market], Awaitable[Records]]
"""Finds the last trade (TRADE) of a symbol, or none, as ``TradeReads.last`` does."""


class Subscriber(Protocol):
    """Who gets messages: see ``frontend.http.sockets``."""

    def push(self, key: "Feed", message: str) -> None:
        """Take a message."""
        ...

    def cut_off(self, code: str, text: str) -> None:
        """End, for a reason."""
        ...


class Feed:
    """One stream of one symbol. ``conflated``: what is missed can be made good by a newer state."""

    channel = ""
    conflated = False

    def __init__(self, market: Market) -> None:
        self.market = market
        self.subscribers: set[Subscriber] = set()

    def look(self) -> bool:
        """Tell the subscribers what is new; return whether anything was."""
        raise NotImplementedError

    def first(self) -> str | None:
        """Return what a new subscriber, or one that has missed something, is told first."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Forget what was: nobody has listened."""

    def tell(self, message: msgspec.Struct) -> None:
        """Send a message to every subscriber."""
        text = _encode(message).decode()
        for subscriber in list(self.subscribers):
            subscriber.push(self, text)


class DepthFeed(Feed):
    """The price levels of one book: see ``frontend.http.depth``."""

    channel = "depth"
    conflated = True

    def __init__(self, market: Market, board: BoardReader) -> None:
        super().__init__(market)
        self._board = board
        self._version = -1
        self._state = BookState(0, 0, [], [])

    def refresh(self) -> None:
        """Take the book as it is."""
        self._version = self._board.version(self.market.number)
        self._state = BookState.of(self._board.read(self.market.number))

    def look(self) -> bool:
        """Tell what has changed."""
        version = self._board.version(self.market.number)
        if version == self._version:
            return False
        old, new = self._state, BookState.of(self._board.read(self.market.number))
        self._version, self._state = version, new
        bids, asks = changes(old.bids, new.bids), changes(old.asks, new.asks)
        if bids or asks:
            self.tell(self._message("update", new, bids, asks, old.sequence))
        else:
            self._state = new._replace(sequence=old.sequence)
        return True

    def first(self) -> str:
        """Return a snapshot."""
        state = self._state
        message = self._message("snapshot", state, state.bids, state.asks, 0)
        return _encode(message).decode()

    def _message(
        self, kind: str, state: BookState, bids: list[Level], asks: list[Level], previous: int
    ) -> DepthMessage:
        prices, quantities = self.market.prices[0], self.market.quantities[0]

        def rows(levels: Iterable[Level]) -> list[Any]:
            return [(prices[price], quantities[lots], count) for price, lots, count in levels]

        return DepthMessage(
            type=kind,
            symbol=self.market.symbol,
            sequence=state.sequence,
            previous=previous,
            bids=rows(bids),
            asks=rows(asks),
            checksum=checksum(state.bids, state.asks),
            timestamp=state.timestamp_ns,
        )


class TradesFeed(Feed):
    """Every trade of one symbol."""

    channel = "trades"

    def __init__(self, market: Market, ring: RingReader) -> None:
        super().__init__(market)
        self._ring = ring
        self._seen = 0
        self._last = 0

    def refresh(self) -> None:
        """Begin with what comes now."""
        self._seen = self._ring.published
        self._last = 0

    def look(self) -> bool:
        """Tell the trades that are new."""
        if self._ring.published == self._seen:
            return False
        result = self._ring.read(self._seen, BATCH_TRADES)
        self._seen = result.first + len(result.records) - 1
        if result.lost_records:
            for subscriber in list(self.subscribers):
                subscriber.cut_off("TRADES_LOST", "trades came faster than they could be read")
            return True
        mine = those(result.records, result.records["symbol"] == self.market.number)
        if len(mine):
            self.tell(self._message(mine))
        return True

    def first(self) -> None:
        """Trades have no state to begin with."""

    def _message(self, trades: Records) -> TradesMessage:
        market = self.market
        prices, quantities = market.prices[0], market.quantities[0]
        views = [
            TradeView(
                trade_id,
                market.symbol,
                buy,
                sell,
                prices[price],
                quantities[quantity],
                time_ns,
                "buy" if side == SIDE_BUY else "sell",
            )
            for trade_id, _, time_ns, price, quantity, buy, sell, _, side, _ in trades.tolist()
        ]
        previous, self._last = self._last, views[-1].trade_id
        return TradesMessage(symbol=market.symbol, trades=views, previous=previous)


class TickerFeed(Feed):
    """The best prices of one book and its last trade, however long ago that was.

    Where the ring does not have it any more it is looked for in the log. Nothing is told before
    that has been tried.
    """

    channel = "ticker"
    conflated = True

    def __init__(
        self, market: Market, board: BoardReader, ring: RingReader, last: LastTrade
    ) -> None:
        super().__init__(market)
        self._board = board
        self._ring = ring
        self._find_last = last
        self._version = -1
        self._seen = 0
        self._state: tuple[Any, ...] = ()
        self._trade: tuple[int, int] | None = None
        self._searching: asyncio.Task[None] | None = None
        self._tried = True

    def refresh(self) -> None:
        """Take everything as it is."""
        self._version = -1
        self._read()

    def look(self) -> bool:
        """Tell what has changed."""
        if (
            self._board.version(self.market.number) == self._version
            and self._ring.published == self._seen
        ):
            return False
        before = self._state
        self._read()
        if self._state != before and self._tried:
            self.tell(self._message())
        return True

    def first(self) -> str | None:
        """Return the ticker as it is; None where that is not known yet."""
        return _encode(self._message()).decode() if self._tried else None

    def _read(self) -> None:
        self._version = self._board.version(self.market.number)
        depth = self._board.read(self.market.number)
        self._sequence, self._timestamp_ns = depth.sequence, depth.timestamp_ns
        published = self._ring.published
        missed = published - self._seen > MOST_READ_TRADES
        if missed:
            self._seen = published
        while self._ring.published > self._seen:
            result = self._ring.read(self._seen, BATCH_TRADES)
            self._seen = result.first + len(result.records) - 1
            missed |= result.lost_records > 0
            mine = those(result.records, result.records["symbol"] == self.market.number)
            if len(mine):
                self._trade = int(mine["price"][-1]), int(mine["quantity"][-1])
                missed = False
                self._stop_searching()
        if missed:
            self._stop_searching()
            self._tried = False
            self._searching = asyncio.get_running_loop().create_task(self._search())
        self._state = (depth.bids[:1].tolist(), depth.asks[:1].tolist(), self._trade)

    def _stop_searching(self) -> None:
        if self._searching is not None:
            self._searching.cancel()
            self._searching = None
        self._tried = True

    async def _search(self) -> None:
        """Find the last trade in ring and log, and tell it."""
        found: Records | None = None
        while found is None:
            try:
                found = await self._find_last(self.market)
            except TimeoutError:
                self._tell_tried()  # of a long log, a part at a time
            except (TradeLogError, OSError) as error:
                logger.warning("trade log: %s", error)
                break
        if found is not None and len(found):
            self._trade = int(found["price"][0]), int(found["quantity"][0])
            self._state = (*self._state[:2], self._trade)
            self._tried = False
        self._searching = None
        self._tell_tried()

    def _tell_tried(self) -> None:
        if not self._tried:
            self._tried = True
            self.tell(self._message())

    def _message(self) -> TickerMessage:
        prices, quantities = self.market.prices[0], self.market.quantities[0]
        bids, asks, trade = self._state
        return TickerMessage(
            symbol=self.market.symbol,
            sequence=self._sequence,
            best_bid=TopLevel(prices[bids[0][0]], quantities[bids[0][1]]) if bids else None,
            best_ask=TopLevel(prices[asks[0][0]], quantities[asks[0][1]]) if asks else None,
            last_price=prices[trade[0]] if trade else None,
            last_quantity=quantities[trade[1]] if trade else None,
            timestamp=self._timestamp_ns,
        )


CHANNELS = (DepthFeed.channel, TradesFeed.channel, TickerFeed.channel)


class Feeds:
    """All streams of a worker; one task watches those that have subscribers."""

    def __init__(self, state: ProductState, last: LastTrade) -> None:
        self._state = state
        self._find_last = last
        self._feeds: dict[tuple[str, int], Feed] = {}
        self._active: set[Feed] = set()
        self._watching: asyncio.Task[None] | None = None

    def subscribe(self, channel: str, market: Market, subscriber: Subscriber) -> Feed:
        """Begin a stream for a subscriber, and tell it what there is to begin with."""
        key = channel, market.number
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = self._make(channel, market)
        if feed in self._active:
            self.look(feed)  # so that the newcomer's snapshot is what the others have been told of
        else:
            feed.refresh()
            self._active.add(feed)
        feed.subscribers.add(subscriber)
        first = feed.first()
        if first is not None:
            subscriber.push(feed, first)
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch())
        return feed

    def _make(self, channel: str, market: Market) -> Feed:
        board, ring = self._state.boards[market.shard], self._state.rings[market.shard]
        if channel == DepthFeed.channel:
            return DepthFeed(market, board)
        if channel == TradesFeed.channel:
            return TradesFeed(market, ring)
        return TickerFeed(market, board, ring, self._find_last)

    def unsubscribe(self, feed: Feed, subscriber: Subscriber) -> None:
        """End a stream for a subscriber."""
        feed.subscribers.discard(subscriber)
        if not feed.subscribers:
            self._active.discard(feed)

    def interrupt(self, code: str, text: str) -> None:
        """End all streams, with those who listen, for a reason."""
        for feed in list(self._active):
            for subscriber in list(feed.subscribers):
                subscriber.cut_off(code, text)

    async def _watch(self) -> None:
        quiet = 0
        try:
            while self._active:
                news = await self._look()
                quiet = 0 if news else quiet + 1
                await asyncio.sleep(LOOK_S if quiet < IDLE_LOOKS else IDLE_S)
        finally:
            self._watching = None

    async def _look(self) -> bool:
        """Have every feed look, others having their turn in between."""
        news = False
        for feed in list(self._active):
            if feed in self._active and self.look(feed):
                news = True
                await asyncio.sleep(0)
        return news

    def look(self, feed: Feed) -> bool:
        """Have a feed tell what is new; return whether anything was."""
        try:
            return feed.look()
        except BoardBusyError:  # its writer is at it: the next look sees it
            return False
