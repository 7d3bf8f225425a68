"""What Redis should have of a product, and what it has: for tests of the exporter into it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.books.contract import Records
from engine.cache.exporter import Cache
from engine.cache.names import Names
from engine.history.tables import STATUS_WORDS
from engine.plan import Plan
from engine.shard.follower import Follower
from ipc.records import LEVEL, ORDER
from ipc.vocabulary import OrdStatus, Side
from tests.kept import commands_for, plan_of, write_journal
from tests.redis_server import RedisServer
from tests.test_snapshot import SMALL, log_trades


class Picture(NamedTuple):
    """All that is current of one shard, as plain values."""

    orders: dict[int, tuple[Any, ...]]
    open_orders: dict[int, set[int]]
    trades: dict[str, list[int]]
    books: dict[str, tuple[Any, ...]]


def export(plan: Plan) -> Cache:
    """Write all that there is; the exporter stays open."""
    cache = Cache(plan)
    idle = 0
    while idle < 3:
        done = cache.step()
        assert cache.away is None, cache.away
        idle = 0 if done else idle + 1
    return cache


def planned(directory: Path, server: RedisServer, prefix: str, more: str = "") -> Plan:
    """Return the plan of a product of one shard that is exported."""
    return plan_of(directory, SMALL + server.text(prefix, more))


def written(plan: Plan, count: int = 3_000, seed: int = 1) -> None:
    """Have a journal and its trade log."""
    write_journal(plan, commands_for(plan, count, seed))
    log_trades(plan)


@contextmanager
def exported(plan: Plan) -> Iterator[Cache]:
    cache = export(plan)
    try:
        yield cache
    finally:
        cache.close()


def in_redis(plan: Plan, client: Any, shard: int = 0) -> Picture:
    """Return what Redis has of a shard."""
    names = Names(plan.config.redis.prefix).of(shard)
    orders = {}
    for key in client.scan_iter(f"{names.order}*", count=1_000):
        found = client.hgetall(key)
        entry, state = json.loads(found["entry"]), json.loads(found["state"])
        orders[entry["order_id"]] = (
            int(entry["account"]), entry["client_order_id"], entry["symbol"], state["status"],
            state["price"], state["quantity"], state["filled"], state["remaining"],
            entry["created"], state["updated"], found.get("stop_price"),
        )  # fmt: skip
    open_orders = {
        int(key.rpartition(":")[2]): set(map(int, client.zrange(key, 0, -1)))
        for key in client.scan_iter(f"{names.all}open_orders:*", count=1_000)
    }
    trades, books = {}, {}
    for instrument in plan.instruments_of(shard):
        symbol = instrument.symbol
        entries = client.xrange(names.trades(symbol))
        trades[symbol] = [json.loads(fields["trade"])["trade_id"] for _, fields in entries]
        assert [int(name.partition("-")[0]) for name, _ in entries] == trades[symbol]
        newest = client.xrevrange(names.depth(symbol), count=1)
        sides = [json.loads(newest[0][1][side]) if newest else [] for side in ("bids", "asks")]
        books[symbol] = tuple(sides)
    return Picture(orders, open_orders, trades, books)


def as_it_is(plan: Plan, shard: int = 0, trades: int = 10_000) -> Picture:
    """Return what a shard's journal comes to, carried out from its beginning."""
    follower = Follower(plan, shard, 0, plan.data_dir / f"picture-{shard}")
    by_number = {i.number: i for i in plan.instruments_of(shard)}
    made: dict[str, list[int]] = {i.symbol: [] for i in by_number.values()}
    try:
        while (batch := follower.step()) is not None:
            for trade in batch.trades:
                made[by_number[int(trade["symbol"])].symbol].append(int(trade["trade_id"]))
        rows = follower.shard.table.contents()
        books = {}
        for instrument in by_number.values():
            sides = []
            for side in (Side.BUY, Side.SELL):
                levels = np.zeros(plan.config.redis.depth_levels, LEVEL)
                count = follower.shard.book.depth(instrument.number, side, levels)
                sides.append(
                    [
                        [instrument.tick.text(price), instrument.lot.text(lots), orders]
                        for price, lots, orders in levels[:count].tolist()
                    ]
                )
            books[instrument.symbol] = tuple(sides)
    finally:
        follower.close()
    orders = {int(row["order_id"]): _values(row, by_number) for row in rows}
    live = rows[np.isin(rows["ord_status"], (OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED))]
    return Picture(
        orders,
        _by_account(live),
        {symbol: ids[-trades:] for symbol, ids in made.items()},
        books,
    )


def _values(row: np.void, by_number: dict[int, Any]) -> tuple[Any, ...]:
    order = dict(zip(ORDER.names or (), row.item(), strict=True))
    instrument = by_number[order["symbol"]]
    price, lots = instrument.tick.text, instrument.lot.text
    return (
        order["account"], order["client_order_id"], instrument.symbol,
        STATUS_WORDS[order["ord_status"]], price(order["price"]) if order["price"] else None,
        lots(order["quantity"]), lots(order["cum_qty"]), lots(order["leaves_qty"]),
        order["created_ns"], order["updated_ns"],
        price(order["stop_price"]) if order["stop_price"] else None,
    )  # fmt: skip


def _by_account(orders: Records) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for order in orders:
        found.setdefault(int(order["account"]), set()).add(int(order["order_id"]))
    return found
