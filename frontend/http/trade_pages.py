"""Pages of trades: where one begins, as text, and what a history is asked for it."""

import re
from typing import NamedTuple

from engine.history.history import ALWAYS_NS, Page
from engine.trade_log.reader import Position
from frontend.http import pages
from frontend.http.errors import broken_rule
from frontend.http.market_models import TradesQuery
from ipc.arrays import Records
from ipc.records import SEQUENCE_BITS, make_id, sequence_of

_CURSOR = re.compile(r"(\d{1,12})\.(\d{1,15})\.(.+)", re.ASCII)


class TradePage(NamedTuple):
    """Where a page begins: below these sequences by shard, and in the log where that is known."""

    below: dict[int, int]
    position: Position | None


def wanted(
    query: TradesQuery,
    symbol: int | None,
    below: dict[int, int],
    limit: int,
    account: int | None = None,
) -> Page:
    """Return what a history is asked for."""
    return Page(
        {shard: make_id(shard, 0) + min(n, 1 << SEQUENCE_BITS) for shard, n in below.items()},
        limit,
        symbol,
        account,
        query.from_ or 0,
        ALWAYS_NS if query.to is None else query.to,
    )


def lower(below: dict[int, int], trades: Records) -> None:
    """Put the bounds of the next page below trades that are shown."""
    ids = trades["trade_id"]
    for shard in below if len(ids) else ():
        mine = ids[ids >> SEQUENCE_BITS == shard] if len(below) > 1 else ids
        if len(mine):
            below[shard] = sequence_of(int(mine[-1]))


def cursor_of(below: dict[int, int], position: Position | None) -> str:
    """Write down where the next page begins; segment 0 means in the rings."""
    segment, offset = position or (0, 0)
    return f"{segment}.{offset}.{pages.written(below.values())}"


def read_cursor(text: str, shards: list[int]) -> TradePage:
    """Return the page that such a text names. Raises ``ApiError``."""
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise broken_rule("cursor", pages.CURSOR_RULE)
    below = pages.read(match[3], shards)
    segment = int(match[1])
    return TradePage(below, Position(segment, int(match[2])) if segment else None)
