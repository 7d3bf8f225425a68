"""A user's days: what was bought and sold each day (UTC) of each symbol, from the histories."""

import time
from typing import NamedTuple

from msgspec import Raw

from engine.history.history import ALWAYS_NS, History, Page, everything
from engine.history.rows import signed
from frontend.http.api import Api
from frontend.http.errors import ApiError
from frontend.http.market import Market
from frontend.http.market_models import UserDay, UserDaysAnswer, UserDaysQuery
from frontend.http.queries import read_query
from frontend.http.request import Request
from ipc.instruments import Scale
from ipc.records import shard_of
from ipc.wire.messages import UserId

MOST_TRADES = 200_000
"""That are added up for one answer."""
_AT_ONCE = 10_000
DAY_NS = 86_400 * 10**9


class _Asked(UserDaysQuery, frozen=True, rename={"from_": "from"}, kw_only=True):
    """With the user whom the path names."""

    user_id: UserId


class _Sum:
    """Of a day and a symbol: lots, and ticks times lots."""

    __slots__ = ("bought", "paid", "received", "sold", "trades")

    def __init__(self) -> None:
        self.trades = self.bought = self.sold = self.paid = self.received = 0


class _Days(NamedTuple):
    """Sums by day (its number since the epoch) and symbol, and the day that was not added up any
    more; None: all were."""

    sums: dict[tuple[int, int], _Sum]
    next: int | None


async def user_days(request: Request) -> UserDaysAnswer:
    """Show what a user has bought and sold, by day and symbol, the newest day first."""
    api = request.api
    query = read_query(_Asked, request.query_of_user())
    account = request.account(query.user_id)
    market = None if query.symbol is None else api.state.markets.named(query.symbol)
    if not api.history.kept:
        raise ApiError("NOT_FOUND", "no history is kept here")
    page = Page(
        everything(api.state.shards if market is None else [market.shard]),
        _AT_ONCE,
        None if market is None else market.number,
        account,
        query.from_ or 0,
        ALWAYS_NS if query.to is None else query.to,
    )
    answered = await api.history.ask(request.user_id, lambda history: _added_up(history, page))
    if answered is None:
        raise ApiError("BUSY", "the history cannot be read now; try again")
    days, quoted = answered.rows, query.numbers == "string"
    shown = [
        _shown(api, key, days.sums[key], quoted)
        for key in sorted(days.sums, key=lambda key: (-key[0], key[1]))
    ]
    return UserDaysAnswer(
        timestamp=time.time_ns(),
        days=shown,
        count=len(shown),
        next=None if days.next is None else (days.next + 1) * DAY_NS,
        source=answered.source,
    )


def _added_up(history: History, page: Page) -> _Days:
    """Add up the trades of a page's account; whole days, the newest first."""
    assert page.account is not None
    whose = signed(page.account)
    sums: dict[tuple[int, int], _Sum] = {}
    below, left = dict(page.below), MOST_TRADES
    while left > 0:
        rows = history.trades(page._replace(below=below))
        for row in rows:
            key = int(row["timestamp_ns"]) // DAY_NS, int(row["symbol"])
            found = sums.setdefault(key, _Sum())
            lots = int(row["quantity"])
            found.trades += 1
            if row["buyer"] == whose:
                found.bought += lots
                found.paid += lots * int(row["price"])
            if row["seller"] == whose:
                found.sold += lots
                found.received += lots * int(row["price"])
        if len(rows) < page.limit:
            return _Days(sums, None)
        for trade_id in rows["trade_id"].tolist():
            below[shard_of(trade_id)] = min(below[shard_of(trade_id)], trade_id)
        left -= len(rows)
    oldest = min(day for day, _ in sums)
    whole = {key: found for key, found in sums.items() if key[0] > oldest}
    if not whole:  # of a single day as much as was looked at
        return _Days(sums, oldest - 1)
    return _Days(whole, oldest)


def _shown(api: Api, key: tuple[int, int], found: _Sum, quoted: bool) -> UserDay:
    day, number = key
    market = api.state.markets.by_number[number]
    quantities = market.quantities[quoted]
    return UserDay(
        timestamp=day * DAY_NS,
        symbol=market.symbol,
        trades=found.trades,
        bought=quantities[found.bought],
        sold=quantities[found.sold],
        paid=_value(market, found.paid, quoted),
        received=_value(market, found.received, quoted),
    )


def _value(market: Market, value: int, quoted: bool) -> Raw:
    """Return ticks times lots as JSON."""
    tick, lot = market.instrument.tick, market.instrument.lot
    text = Scale(tick.mantissa * lot.mantissa, tick.digits + lot.digits).text(value)
    return Raw(f'"{text}"' if quoted else text)
