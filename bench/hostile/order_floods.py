"""Attacks with orders, over order entry: what a user with a key can do to the others."""

import asyncio

import numpy as np

from bench.hostile.aimed import aimed_ids
from bench.hostile.foe import HIGH, LOW, Foe, attack
from ipc.records import account_of
from ipc.vocabulary import OrderType, Side, TimeInForce
from ipc.wire.frames import frame
from ipc.wire.messages import (
    BookQuery,
    Cancel,
    MassCancel,
    NewOrder,
    OrderQuery,
    Ping,
    Replace,
    TradesQuery,
)

BLOCK = 2_000
"""Commands that are sent in one piece."""


async def _aim(foe: Foe, tif: TimeInForce) -> None:
    line = await foe.login()
    line.drink()
    symbol = foe.symbol
    place = (symbol - 1) // foe.scene.matchers
    # Each turn and each foe has ids of its own.
    first = foe.dice.randrange(1 << 28)
    for turn in range(50):
        ids = aimed_ids(account_of(foe.user), place, first + turn * 3 * BLOCK, BLOCK)
        await line.send(foe.orders(BLOCK, LOW, tif, ids=ids, symbol=symbol))


@attack()
async def aimed_ids_of_ended_orders(foe: Foe) -> None:
    """IOC orders under client_order_ids that collide in a hash without a secret."""
    await _aim(foe, TimeInForce.IOC)


@attack()
async def aimed_ids_of_resting_orders(foe: Foe) -> None:
    """The same ids on orders that rest, and one mass cancel of them."""
    await _aim(foe, TimeInForce.GTC)
    line = await foe.login()
    line.drink()
    await line.send(frame(MassCancel(0, 1)))
    await asyncio.sleep(1)


@attack()
async def flood_of_ids(foe: Foe) -> None:
    """Orders with plain new ids, as fast as they are taken: others' ids are to be forgotten."""
    line = await foe.login()
    line.drink()
    first = foe.dice.randrange(1 << 60)
    for turn in range(50):
        ids = np.arange(first + turn * BLOCK, first + (turn + 1) * BLOCK, dtype=np.uint64)
        await line.send(foe.orders(BLOCK, LOW, TimeInForce.IOC, ids=ids))


@attack()
async def flood_at_one_price(foe: Foe) -> None:
    """Orders without end that rest at one price of one symbol."""
    line = await foe.login()
    line.drink()
    block = foe.orders(BLOCK, LOW, symbol=foe.scene.symbols[0][0])
    for _ in range(20):
        await line.send(block)


@attack()
async def book_filled(foe: Foe) -> None:
    """As many resting orders as a symbol takes, on a level each."""
    line = await foe.login()
    line.drink()
    symbol = foe.symbol
    for price in foe.dice.sample(range(HIGH, 2 * HIGH), 100):
        await line.send(foe.orders(BLOCK, price, side=Side.SELL, symbol=symbol))


@attack()
async def mass_cancel_storm(foe: Foe) -> None:
    """An order and a mass cancel of everything, over and over."""
    line = await foe.login()
    line.drink()
    pair = foe.orders(1) + frame(MassCancel(0, 2))
    for _ in range(200):
        await line.send(pair * 50)


@attack()
async def big_mass_cancels(foe: Foe) -> None:
    """Mass cancels of as many orders as rest of one account."""
    line = await foe.login()
    line.drink()
    symbol = foe.symbol
    for _ in range(10):
        await line.send(foe.orders(10 * BLOCK, LOW, symbol=symbol))
    await line.send(frame(MassCancel(symbol, 1)))
    await asyncio.sleep(1)


@attack()
async def replace_storm(foe: Foe) -> None:
    """One order that is replaced without end, and always goes to the back of a long queue."""
    line = await foe.login()
    line.drink()
    symbol, number = foe.symbol, foe.dice.randrange(1, 1 << 60)
    terms = number, Side.BUY, OrderType.LIMIT, TimeInForce.GTC, LOW, 5
    await line.send(frame(NewOrder(symbol, 1, *terms)))
    storm = b"".join(
        frame(Replace(symbol, n, 0, number, LOW + n % 50, 5, True)) for n in range(1, BLOCK)
    )
    for _ in range(50):
        await line.send(storm)


@attack()
async def cancels_of_nothing(foe: Foe) -> None:
    """Cancels of orders that never were, by either id."""
    line = await foe.login()
    line.drink()
    storm = b"".join(
        frame(Cancel(foe.symbol, n, foe.dice.randrange(1 << 50) * (n % 2), n)) for n in range(BLOCK)
    )
    for _ in range(50):
        await line.send(storm)


@attack()
async def trades_with_itself(foe: Foe) -> None:
    """A sale and a purchase that takes it, without end: trades, reports and a log of nothing."""
    line = await foe.login()
    line.drink()
    symbol, price = foe.symbol, foe.dice.randrange(HIGH, 2 * HIGH)
    sale = foe.orders(1, price, side=Side.SELL, symbol=symbol)
    block = (sale + foe.orders(1, price, TimeInForce.IOC, symbol=symbol)) * (BLOCK // 2)
    for _ in range(50):
        await line.send(block)


@attack()
async def sweeps(foe: Foe) -> None:
    """Market orders that take all that rests on either side."""
    line = await foe.login()
    line.drink()
    both = [
        frame(NewOrder(number, 1, 0, side, OrderType.MARKET, TimeInForce.IOC, 0, 1_000))
        for number, _ in foe.scene.symbols
        for side in Side
    ]
    for _ in range(100):
        await line.send(b"".join(both))
        await asyncio.sleep(0.02)


@attack()
async def wrong_commands(foe: Foe) -> None:
    """Commands that are rejected: sides, types, symbols and quantities that there are not."""
    line = await foe.login()
    line.drink()
    wrong = [
        NewOrder(foe.symbol, 1, 0, 9, 2, 1, 5, 5),
        NewOrder(65_535, 1, 0, 1, 2, 1, 5, 5),
        NewOrder(foe.symbol, 1, 0, 1, 77, 200, 5, 5),
        NewOrder(foe.symbol, 1, 0, 1, 2, 1, (1 << 63) - 1, (1 << 63) - 1),
        Replace(foe.symbol, 1, 0, 0, 0, 0),
    ]
    storm = b"".join(map(frame, wrong)) * (BLOCK // len(wrong))
    for _ in range(50):
        await line.send(storm)


@attack()
async def never_reads_reports(foe: Foe) -> None:
    """A flood whose answers are not read."""
    line = await foe.login()
    block = foe.orders(BLOCK, LOW, TimeInForce.IOC)
    for _ in range(500):
        await line.send(block)


@attack()
async def unread_then_wrong(foe: Foe) -> None:
    """Answers that are not read, then a frame that closes the connection: it cannot end."""
    line = await foe.login()
    for _ in range(40):
        await line.send(foe.orders(BLOCK, LOW, TimeInForce.IOC))
        await asyncio.sleep(0.02)
    await line.send(b"\xff" * 16)
    await asyncio.sleep(foe.dice.uniform(2, 6))


@attack()
async def many_sessions_of_one_account(foe: Foe) -> None:
    """Sessions of one account, each told all reports of a flood, of which one reads."""
    lines = [await foe.login() for _ in range(6)]
    lines[0].drink()
    for _ in range(20):
        await lines[0].send(foe.orders(BLOCK, LOW, TimeInForce.IOC))


@attack()
async def queries_unread(foe: Foe) -> None:
    """Queries of the longest answers there are, unread."""
    line = await foe.login()
    block = b"".join(
        frame(TradesQuery(0, n, 1_000)) + frame(BookQuery(foe.symbol, n, 1_024)) for n in range(100)
    )
    for _ in range(50):
        await line.send(block)


@attack()
async def queries(foe: Foe) -> None:
    """Queries of trades, books and orders, as fast as they are answered."""
    line = await foe.login()
    line.drink()
    block = b"".join(
        frame(TradesQuery(0, n, 1_000))
        + frame(BookQuery(foe.symbol, n, 1_024))
        + frame(OrderQuery(0, n, foe.dice.randrange(1 << 50)))
        for n in range(100)
    )
    for _ in range(50):
        await line.send(block)


@attack()
async def pings_unread(foe: Foe) -> None:
    """Pings without end, their answers unread."""
    line = await foe.login()
    block = frame(Ping(7)) * BLOCK
    for _ in range(2_000):
        await line.send(block)


@attack()
async def cancel_on_disconnect_churn(foe: Foe) -> None:
    """Sessions that ask for cancel on disconnect, enter orders and end by an RST."""
    line = await foe.login(cancel_on_disconnect=True)
    await line.send(foe.orders(50))
    line.reset()
