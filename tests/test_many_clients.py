"""200 clients at once with random disconnects: every order's fate is known, and nothing leaks."""

import asyncio
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from engine.plan import Plan
from engine.trade_log.log import read_trades
from frontend.client import AsyncClient, Client
from frontend.client.commands import Order
from frontend.client.errors import ClientError, ConnectionLostError, OrderRejectedError
from ipc.memory.order_table_reader import OrderTableReader
from ipc.memory.ring import RingReader
from ipc.memory.status import StatusReader
from ipc.records import sequence_of
from ipc.vocabulary import Reason, Side
from tests.product import SYMBOLS, make_config, running, until

CLIENTS = 200
ORDERS = 500
BATCH = 25


class Trader:
    """One client: sends its orders in batches, hangs up at random, and asks what became of them."""

    def __init__(self, plan: Plan, number: int, seed: int) -> None:
        self.chance = random.Random(f"{seed} {number}")
        self.address = plan.addresses()[0]
        self.user_id = f"trader {number}"
        self.placed: dict[int, Order] = {}
        self.hang_ups = 0

    def order(self, client_order_id: int) -> Order:
        chance = self.chance
        side = chance.choice(["buy", "sell"])
        price = None if chance.random() < 0.05 else f"{chance.randint(9_990, 10_010) / 100:.2f}"
        symbol, quantity = chance.choice(SYMBOLS), chance.randint(1, 9)
        kind = "market" if price is None else "limit"
        return Order(
            symbol, side, quantity, price, order_type=kind, client_order_id=client_order_id
        )

    async def run(self) -> None:
        """Enter every order, so that the order_id of each is known in the end."""
        for first in range(1, ORDERS + 1, BATCH):
            batch = [self.order(first + place) for place in range(BATCH)]
            while batch:
                batch = await self.enter(batch)

    async def enter(self, batch: list[Order]) -> list[Order]:
        """Try a batch on a connection of its own; return the orders whose fate is unknown."""
        async with AsyncClient(self.address, self.user_id, timeout_s=60) as client:
            waiting = asyncio.ensure_future(client.submit_batch(batch))
            if self.chance.random() < 0.3:
                self.hang_ups += 1
                for _ in range(self.chance.randrange(4)):
                    await asyncio.sleep(0)
                await client.close()
            results = await asyncio.gather(waiting, return_exceptions=True)
        if isinstance(results[0], BaseException):
            assert isinstance(results[0], ConnectionLostError), results[0]
            return batch
        return [
            order
            for order, result in zip(batch, results[0], strict=True)
            if not self.settled(order, result)
        ]

    def settled(self, order: Order, result: object) -> bool:
        """Note the order_id that an outcome gives; an accepted or repeated order has one."""
        if isinstance(result, ConnectionLostError):
            return False
        if isinstance(result, OrderRejectedError):
            assert result.code == Reason.DUPLICATE_CLIENT_ORDER_ID, result
            order_id = result.order_id
        else:
            assert not isinstance(result, ClientError), result
            order_id = result.order_id
        assert order_id not in self.placed
        self.placed[order_id] = order
        return True


async def trade(traders: list[Trader]) -> None:
    await asyncio.gather(*(trader.run() for trader in traders))


def open_journals(plan: Plan) -> None:
    """Have every matcher begin its journal's first segment, which stays open."""
    with Client(plan.addresses()[0], "first") as client:
        for symbol in SYMBOLS:
            client.submit(symbol, "buy", 1, "0.01")
        assert client.cancel_all() == len(SYMBOLS)
    until(lambda: not connections(plan))


def connections(plan: Plan) -> int:
    """Return how many connections the frontends have open."""
    processes = StatusReader(plan.status_path).processes()
    return sum(p.counters["connections"] for p in processes if p.role == "frontend")


def descriptors(plan: Plan) -> dict[str, int]:
    """Return how many files each process of the product has open."""
    return {
        f"{p.role} {p.number}": len(list(Path(f"/proc/{p.pid}/fd").iterdir()))
        for p in StatusReader(plan.status_path).processes()
    }


@pytest.mark.timeout(240)
def test_every_fate_is_known_and_nothing_leaks(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running(make_config(2, 8), tmp_path_factory.mktemp("s")) as plan:
        open_journals(plan)
        before = descriptors(plan)
        traders = [Trader(plan, number, seed) for number in range(CLIENTS)]
        asyncio.run(trade(traders))
        placed = {order_id: order for t in traders for order_id, order in t.placed.items()}
        assert len(placed) == CLIENTS * ORDERS
        assert sum(trader.hang_ups for trader in traders) > CLIENTS
        check_tables(plan, placed)
        published = sum(RingReader(plan.ring_path(shard)).published for shard in plan.shards)
        until(lambda: descriptors(plan) == before)
        pids = [p.pid for p in StatusReader(plan.status_path).processes()]
    check_log(plan, placed, published)
    assert not plan.run_dir.exists()
    assert not Path(plan.addresses()[0].path).exists()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def check_tables(plan: Plan, placed: dict[int, Order]) -> None:
    """Every order is in the order table, and the two sides of each symbol were filled alike."""
    tables = [OrderTableReader(plan.table_path(shard)) for shard in plan.shards]
    shard_of = {i.symbol: i.shard for i in plan.instruments}
    filled: dict[tuple[str, Side], int] = defaultdict(int)
    for order_id, order in placed.items():
        state = tables[shard_of[order.symbol]].get(order_id)
        assert state is not None, order_id
        assert state["quantity"] == order.quantity
        assert state["client_order_id"] == order.client_order_id
        filled[order.symbol, Side(int(state["side"]))] += int(state["cum_qty"])
    for symbol in SYMBOLS:
        assert filled[symbol, Side.BUY] == filled[symbol, Side.SELL] > 0


def check_log(plan: Plan, placed: dict[int, Order], published: int) -> None:
    """Each trade is logged once, in its shard's order, between two orders that were placed."""
    last: Counter[int] = Counter()
    logged = 0
    for trade in read_trades(plan.log_dir):
        shard = next(i.shard for i in plan.instruments if i.symbol == trade.symbol)
        sequence = sequence_of(trade.trade_id)
        assert sequence == last[shard] + 1
        last[shard] = sequence
        logged += 1
        assert placed[trade.buy_order_id].side == "buy"
        assert placed[trade.sell_order_id].side == "sell"
    assert logged == published
