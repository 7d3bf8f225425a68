"""A node's picture of a shard: its books and last trades, followed in Redis as they change.

They lie in a board and a ring like those of a product, but these are the node's own: what reads
there reads here. A picture says up to which command of the shard it stands, and how old it is;
whoever needs a later one waits for it. Where it missed something it is taken anew.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from redis.exceptions import RedisError

from engine.cache.link import CacheAwayError, CacheError, judged
from engine.cache.names import ShardNames
from engine.cache.store import LEASE_MS, READY
from frontend.node.orders import Reading, as_trades
from ipc.instruments import Instrument
from ipc.memory.depth_board import BoardReader, BoardWriter, create_board
from ipc.memory.ring import RingReader, RingWriter, create_ring
from ipc.records import make_id, sequence_of

logger = logging.getLogger("shardbook.node")

BLOCK_MS = 200
"""How long Redis is waited for before it is looked whether all is as it was."""
RING_TRADES = 65_536
LOADED_TRADES = 10_000
"""Of a symbol, when a picture is taken."""
RETRY_S = 0.1
_names = msgspec.json.Decoder(list[str])


class _MissedError(Exception):
    """Changes were missed: the picture is to be taken anew."""


class Picture:
    """One shard's. ``lost`` is called whenever it begins to be none."""

    def __init__(
        self,
        client: Any,
        where: str,
        names: ShardNames,
        instruments: Iterable[Instrument],
        directory: Path,
        depth_levels: int,
        lost: Callable[[], None],
    ) -> None:
        self.names, self.shard = names, names.shard
        self.position = 0
        """The last command that it has."""
        self.away: str | None = "it was not read yet"
        """Why there is none now."""
        self._client, self._where, self._lost = client, where, lost
        self._instruments = {i.symbol: i for i in instruments}
        self._reading = Reading({i.number: i for i in self._instruments.values()})
        self._current_s = 0.0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        ring, board = directory / f"trades-{self.shard}", directory / f"depth-{self.shard}"
        create_ring(ring, self.shard, RING_TRADES, 0, 0)
        numbers = [i.number for i in self._instruments.values()]
        create_board(board, self.shard, numbers, depth_levels)
        self._ring, self._board = RingWriter(ring), BoardWriter(board)
        self.ring, self.board = RingReader(ring), BoardReader(board)

    @property
    def age_s(self) -> float:
        """How long ago it was as the product is, at the most."""
        return time.monotonic() - self._current_s

    async def reach(self, sequence: int, timeout_s: float) -> bool:
        """Return whether it stands for a command, now or within a time."""
        if self.position >= sequence:
            return True
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = sequence, reached
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(timeout_s):
                await reached
        except TimeoutError:
            return False
        finally:
            self._waiting.remove(entry)
        return True

    async def follow(self) -> None:
        """Follow the shard for ever."""
        while True:
            try:
                with judged(self._where):
                    await self._take()
                    while True:
                        await self._go_on()
            except _MissedError:
                continue
            except (CacheError, RedisError) as error:
                self._note(str(error))
                await asyncio.sleep(RETRY_S)

    # Taking the picture --------------------------------------------------------------------------

    async def _take(self) -> None:
        """Take the shard as it is."""
        found = await self._client.hgetall(self.names.position)
        if found.get(b"state", b"").decode() != READY:
            raise CacheAwayError(f"shard {self.shard} is not in Redis yet")
        position, trades = int(found[b"position"]), int(found[b"trades"])
        late_s, left_ms = _late_s(found), await self._client.pttl(self.names.writer)
        await self._depth(self._instruments)
        after = make_id(self.shard, self.ring.published)
        await self._trades(self._instruments, after, trades, anew=True)
        silent_s = (LEASE_MS - left_ms) / 1_000 if left_ms > 0 else LEASE_MS / 1_000
        self._stand_at(position, late_s + silent_s)
        if self.away is not None:
            logger.warning("shard %d: goes on", self.shard)
        self.away = None

    async def _go_on(self) -> None:
        """Take what has changed, once something has."""
        last = f"{self.position}-0"
        found = await self._client.xread({self.names.changes: last}, block=BLOCK_MS)
        if not found:
            await self._look()
            return
        [(_, entries)] = found
        depth: dict[str, None] = {}
        traded: dict[str, None] = {}
        previous, last_trade, position = self.position, 0, self.position
        late_s = 0.0
        for name, fields in entries:
            if int(fields[b"previous"]) != previous:
                raise _MissedError
            previous = position = int(name.partition(b"-")[0])
            last_trade, late_s = int(fields[b"last_trade"]), _late_s(fields)
            depth |= dict.fromkeys(_names.decode(fields[b"depth"]))
            traded |= dict.fromkeys(_names.decode(fields[b"trades"]))
        if depth:
            await self._depth(depth)
        if traded:
            after = make_id(self.shard, self.ring.published)
            await self._trades(traded, after, last_trade, anew=False)
        self._stand_at(position, late_s)

    async def _look(self) -> None:
        """Look whether Redis is where it was, and since when its writer says so."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.hmget(self.names.position, "state", "position", "late_ms")
            pipe.pttl(self.names.writer)
            (state, position, late_ms), left_ms = await pipe.execute()
        if (state or b"").decode() != READY:
            raise CacheAwayError(f"shard {self.shard} is not in Redis any more")
        if int(position) < self.position:
            raise _MissedError
        if left_ms > 0 and int(position) == self.position:
            late_s = _late_s({b"late_ms": late_ms or b"0"})
            self._current_s = time.monotonic() - late_s - (LEASE_MS - left_ms) / 1_000

    async def _depth(self, symbols: Iterable[str]) -> None:
        known = [symbol for symbol in symbols if symbol in self._instruments]
        async with self._client.pipeline(transaction=False) as pipe:
            for symbol in known:
                pipe.xrevrange(self.names.depth(symbol), count=1)
            answers = await pipe.execute()
        for symbol, entries in zip(known, answers, strict=True):
            number = self._instruments[symbol].number
            for name, fields in entries:
                self._board.publish(
                    number,
                    int(name.partition(b"-")[0]),
                    int(fields[b"timestamp"]),
                    self._reading.levels(number, fields[b"bids"]),
                    self._reading.levels(number, fields[b"asks"]),
                )

    async def _trades(self, symbols: Iterable[str], after: int, last: int, *, anew: bool) -> None:
        """Take trades behind an id, up to the shard's trade ``last``: no later one may be here
        whose neighbours of other symbols are not."""
        known = [symbol for symbol in symbols if symbol in self._instruments]
        async with self._client.pipeline(transaction=False) as pipe:
            for symbol in known:
                newest, oldest = f"{make_id(self.shard, last)}-0", f"({after}-0"
                pipe.xrevrange(self.names.trades(symbol), newest, oldest, count=LOADED_TRADES)
            answers = await pipe.execute()
        rows = [
            self._reading.trade(self._instruments[symbol].number, fields[b"trade"])
            for symbol, entries in zip(known, answers, strict=True)
            for _, fields in entries
        ]
        trades = as_trades(rows)
        ids = [sequence_of(i) for i in trades["trade_id"].tolist()]
        first = len(ids)  # of those that have no gap up to the last one
        while first and (first == len(ids) or ids[first - 1] + 1 == ids[first]):
            first -= 1
        dense = trades[first:]
        if self.ring.published + 1 != (ids[first] if ids else last + 1):
            if not anew:
                raise _MissedError
            self._ring.begin_after(ids[first] - 1 if ids else last)
        self._ring.publish(dense[-RING_TRADES:])
        if self.ring.published != last:
            if not anew:
                raise _MissedError
            self._ring.begin_after(last)

    def _stand_at(self, position: int, late_s: float) -> None:
        self.position, self._current_s = position, time.monotonic() - late_s
        for sequence, reached in self._waiting:
            if sequence <= position and not reached.done():
                reached.set_result(None)

    def _note(self, why: str) -> None:
        """There is no picture now."""
        if self.away is None:
            logger.error("shard %d: %s", self.shard, why)
            self._lost()
        self.away = why


def _late_s(fields: Mapping[bytes, bytes]) -> float:
    """Return how old, at the most, what is written was when that was done."""
    return int(fields.get(b"late_ms", b"0")) / 1_000
