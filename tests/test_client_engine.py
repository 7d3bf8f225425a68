"""Both clients with a running engine: every method, decimals in and out, several sessions."""

import asyncio
import itertools
import socket
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from engine.config import ConfigError, parse_config
from engine.plan import Plan
from frontend.client import AsyncClient, Client
from frontend.client.blocking import Order
from frontend.client.errors import InvalidOrderError, OrderRejectedError
from frontend.client.results import Execution
from frontend.gateway.matcher_links import RECEIVE_BYTES
from ipc.records import COMMAND
from ipc.vocabulary import (
    RULES,
    CommandType,
    ExecType,
    Liquidity,
    OrderType,
    OrdStatus,
    Reason,
    Side,
    TimeInForce,
)
from ipc.wire.messages import (
    MAX_BODY,
    NewOrder,
    Reject,
    Replace,
    Report,
    Trade,
    TradeList,
    TradesQuery,
    encoder,
)
from tests.peer import Awaited
from tests.product import Wire, running

CONFIG = """
[engine]
matchers = 2
pin = false
[frontend]
tcp = "127.0.0.1:0"
[query]
max_trades = 10000
[[instruments]]
symbol = "AA"
tick_size = "0.05"
max_price = "1000"
[[instruments]]
symbol = "BB"
tick_size = "1"
lot_size = "0.001"
"""


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    """An engine of two matchers, a symbol each: AA in twentieths, BB in thousandths of a lot."""
    text = CONFIG.replace('tcp = "127.0.0.1:0"', "")
    with running(parse_config(text, "test")) as plan:
        yield plan


ROUNDS = itertools.count(1)
Login = Callable[[str], Any]


@pytest.fixture(params=[Client, Awaited], ids=["blocking", "async"])
def login(request: pytest.FixtureRequest, plan: Plan) -> Iterator[Login]:
    """Logs users in, with clients of both kinds in turn; their orders are cancelled at the end."""
    clients: list[Any] = []
    number = next(ROUNDS)

    def make(user_id: str) -> Any:
        clients.append(request.param(plan.addresses()[0], f"{user_id}-{number}"))
        return clients[-1]

    yield make
    for client in clients:
        client.cancel_all()
        client.close()
        if isinstance(client, Awaited):
            client.end()


def free_port() -> int:
    """Return a TCP port of the loopback address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def take(client: Any, count: int) -> list[Execution]:
    """Return the next ``count`` reports of a client."""
    reports = client.reports(timeout_s=20)
    return [next(reports) for _ in range(count)]


def test_the_instruments_are_known(login: Login) -> None:
    client = login("alice")
    listed = {
        listing.symbol: (listing.price(1), listing.quantity(1)) for listing in client.instruments
    }
    assert listed == {"AA": (Decimal("0.05"), 1), "BB": (1, Decimal("0.001"))}
    assert client.server_version


def test_an_order_from_entry_to_cancel(login: Login) -> None:
    client = login("alice")
    entered = client.submit("AA", "buy", 10, "99.95", client_order_id=7)
    assert (entered.exec_type, entered.ord_status) == (ExecType.NEW, OrdStatus.NEW)
    assert (entered.symbol, entered.side, entered.client_order_id) == ("AA", Side.BUY, 7)
    assert (entered.price, entered.quantity, entered.leaves_qty) == (Decimal("99.95"), 10, 10)
    replaced = client.replace(entered.order_id, symbol="AA", price="99.90", quantity=8)
    assert (replaced.exec_type, replaced.order_id) == (ExecType.REPLACED, entered.order_id)
    assert (replaced.price, replaced.leaves_qty) == (Decimal("99.90"), 8)
    reduced = client.reduce(symbol="AA", client_order_id=7, quantity=3)
    assert reduced.leaves_qty == 5
    state = client.order(entered.order_id)
    assert (state.price, state.leaves_qty, state.ord_status) == (Decimal("99.90"), 5, OrdStatus.NEW)
    canceled = client.cancel(symbol="AA", client_order_id=7)
    assert (canceled.exec_type, canceled.reason) == (ExecType.CANCELED, Reason.CANCEL_REQUESTED)
    assert client.order(entered.order_id).ord_status == OrdStatus.CANCELED
    assert list(client.reports(timeout_s=0)) == []


def test_a_replace_leaves_alone_what_it_is_not_given(login: Login) -> None:
    client = login("alice")
    order_id = client.submit("AA", "buy", 10, "99.95").order_id
    client.replace(order_id, symbol="AA", price="99.90")
    found = client.replace(order_id, symbol="AA", quantity=5)
    assert (found.price, found.quantity) == (Decimal("99.90"), 5)
    login("bob").submit("AA", "sell", 2, "99.90")
    found = client.replace(order_id, symbol="AA", price="99.85")
    assert (found.price, found.quantity, found.leaves_qty) == (Decimal("99.85"), 5, 3)
    found = client.replace(order_id, symbol="AA", price="99.80", reinsert=True)
    assert (found.price, found.quantity, found.leaves_qty) == (Decimal("99.80"), 5, 3)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "price"),
        ({"reinsert": True}, "price"),
        ({"price": 0}, "price"),
        ({"price": 0, "quantity": 5}, "price"),
        ({"quantity": 0}, "quantity"),
        ({"price": 99, "quantity": 0}, "quantity"),
    ],
)
def test_a_replace_of_nothing_or_by_nought_names_the_field(
    login: Login, given: dict[str, Any], field: str
) -> None:
    client = login("alice")
    order_id = client.submit("AA", "buy", 10, "99.95").order_id
    with pytest.raises(InvalidOrderError, match="must be") as caught:
        client.replace(order_id, symbol="AA", **given)
    assert caught.value.field == field
    assert client.order(order_id).leaves_qty == 10


def test_nought_is_no_word_for_unchanged_on_the_wire(plan: Plan) -> None:
    """What a client forgot to fill in does not pass for what it left out."""
    with Wire(plan, "nought") as wire:
        wire.send(NewOrder(1, 1, 0, 1, 2, 1, 100, 5))
        order = wire.receive()
        assert isinstance(order, Report)
        for price, quantity, code in (
            (0, None, Reason.INVALID_PRICE),
            (None, 0, Reason.INVALID_QUANTITY),
            (0, 5, Reason.INVALID_PRICE),
            (None, None, Reason.INVALID_REPLACE),
        ):
            wire.send(Replace(1, 2, order.order_id, 0, price, quantity))
            answer = wire.receive()
            assert isinstance(answer, Reject)
            assert (answer.code, answer.field, answer.text) == (code, *RULES[code])


def test_a_trade_is_told_to_both_sides(login: Login) -> None:
    maker, taker = login("maker"), login("taker")
    resting = maker.submit("BB", "sell", "2.5", 100)
    entered = taker.submit("BB", "buy", "1.001", 105)
    assert entered.leaves_qty == Decimal("1.001")
    (bought,), (sold,) = take(taker, 1), take(maker, 1)
    assert bought.exec_type == sold.exec_type == ExecType.TRADE
    assert (bought.trade_id, bought.last_price) == (sold.trade_id, sold.last_price)
    assert (bought.last_price, bought.last_qty) == (100, Decimal("1.001"))
    assert (bought.liquidity, sold.liquidity) == (Liquidity.TAKER, Liquidity.MAKER)
    assert (bought.request_id, sold.request_id) == (entered.request_id, 0)
    assert (bought.cum_qty, bought.leaves_qty) == (Decimal("1.001"), 0)
    assert (sold.cum_qty, sold.leaves_qty) == (Decimal("1.001"), Decimal("1.499"))
    (trade,) = taker.trades("BB", limit=1)
    assert (trade.trade_id, trade.price, trade.quantity) == (bought.trade_id, 100, bought.last_qty)
    assert (trade.buy_order_id, trade.sell_order_id) == (entered.order_id, resting.order_id)
    assert (trade.taker_side, trade.symbol) == (Side.BUY, "BB")
    assert taker.trades(limit=1) == [trade]
    book = taker.book("BB")
    assert (book.symbol, book.bids) == ("BB", [])
    assert book.asks == [(100, Decimal("1.499"), 1)]


def test_what_does_not_rest_is_cancelled_after_its_fills(login: Login) -> None:
    client = login("alice")
    client.submit("AA", Side.SELL, 4, 50)
    market = client.submit("AA", Side.BUY, 6, order_type="market")
    assert (market.order_type, market.price) == (OrderType.MARKET, 0)
    bought, sold, rest = take(client, 3)
    assert (bought.last_qty, sold.order_id != bought.order_id) == (4, True)
    assert (rest.exec_type, rest.reason) == (ExecType.CANCELED, Reason.MARKET_REMAINDER)
    client.submit("AA", "buy", 1, 50, time_in_force="fok")
    (unfilled,) = take(client, 1)
    assert unfilled.reason == Reason.FOK_UNFILLED
    client.submit("AA", "buy", 1, 50, time_in_force=TimeInForce.IOC)
    (remainder,) = take(client, 1)
    assert remainder.reason == Reason.IOC_REMAINDER


def test_what_the_engine_judges_is_told_with_field_and_rule(login: Login) -> None:
    client, stranger = login("alice"), login("bob")
    first = client.submit("AA", "buy", 1, 10, client_order_id=70)
    with pytest.raises(OrderRejectedError) as twice:
        client.submit("AA", "buy", 1, 10, client_order_id=70)
    assert twice.value.code == Reason.DUPLICATE_CLIENT_ORDER_ID
    assert (twice.value.field, twice.value.order_id) == ("client_order_id", first.order_id)
    with pytest.raises(OrderRejectedError) as band:
        client.submit("AA", "buy", 1, "1000.05")
    assert (band.value.code, band.value.field) == (Reason.PRICE_OUT_OF_BAND, "price")
    with pytest.raises(OrderRejectedError) as others:
        stranger.cancel(first.order_id)
    assert others.value.code == Reason.UNKNOWN_ORDER
    with pytest.raises(OrderRejectedError) as query:
        stranger.order(first.order_id)
    assert query.value.code == Reason.UNKNOWN_ORDER
    with pytest.raises(OrderRejectedError) as post_only:
        stranger.submit("AA", "sell", 1, 10, post_only=True)
    assert post_only.value.code == Reason.POST_ONLY_WOULD_TRADE
    assert client.order(first.order_id).ord_status == OrdStatus.NEW


def test_a_batch(login: Login) -> None:
    client = login("alice")
    orders = [Order("AA" if n % 2 else "BB", "buy", 1, n, client_order_id=n) for n in range(1, 301)]
    orders[17] = Order("AA", "buy", 1, "0.01")
    orders[18] = orders[20]
    results = client.submit_batch(orders)
    assert isinstance(results[17], InvalidOrderError)
    errors = [n for n, result in enumerate(results) if isinstance(result, OrderRejectedError)]
    assert errors == [20]
    for n, result in enumerate(results):
        if n not in (17, 20):
            assert (result.symbol, result.client_order_id) == (
                orders[n].symbol,
                orders[n].client_order_id,
            )
    assert client.cancel_all("AA") == sum(order.symbol == "AA" for order in orders) - 2
    assert client.cancel_all() == 149
    assert {execution.exec_type for execution in take(client, 298)} == {ExecType.CANCELED}


def test_sessions_of_one_account_see_each_other(login: Login) -> None:
    first, second = login("alice"), login("alice")
    entered = [first.submit("AA", "buy", 1, 10), second.submit("AA", "buy", 1, 11)]
    assert [take(first, 1)[0].raw, take(second, 1)[0].raw] == [entered[1].raw, entered[0].raw]
    assert second.cancel(entered[0].order_id).order_id == entered[0].order_id


def test_an_idle_engine_answers_pings(login: Login) -> None:
    login("alice").ping()


def test_an_answer_longer_than_the_buffers_on_its_way_comes_whole(plan: Plan) -> None:
    count = 8_000
    orders = np.zeros(count + 1, COMMAND)
    orders["command_type"], orders["symbol"] = CommandType.NEW, 2  # of shard 1: its ids are long
    orders["order_type"], orders["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
    orders["side"], orders["price"], orders["quantity"] = Side.BUY, 100, 1
    orders["side"][0], orders["quantity"][0] = Side.SELL, count
    with Client(plan.addresses()[0], "many") as client:
        answers = client.submit_array(orders)
    with Wire(plan, "reader") as wire:
        wire.send(TradesQuery(2, 3, 10_000))
        found = wire.receive()
    assert isinstance(found, TradeList)
    assert len(encoder.encode(found)) > RECEIVE_BYTES
    buyers = [trade.buy_order_id for trade in reversed(found.trades)]
    assert buyers[-count:] == answers["order_id"][1:].tolist()


def test_the_longest_answer_of_all_is_within_the_bound_of_a_frame() -> None:
    most = 10_000
    with pytest.raises(ConfigError, match="max_trades"):
        parse_config(CONFIG.replace(f"max_trades = {most}", f"max_trades = {most + 1}"), "test")
    trade = Trade(*[2**63 - 1] * len(Trade.__struct_fields__))
    assert len(encoder.encode(TradeList(2**63 - 1, [trade] * most))) < MAX_BODY


def test_over_tcp() -> None:
    port = free_port()
    text = CONFIG.replace("127.0.0.1:0", f"127.0.0.1:{port}")

    async def run() -> Execution:
        async with AsyncClient(f"tcp:127.0.0.1:{port}", "alice") as client:
            return await client.submit("AA", "buy", 1, 10)

    with running(parse_config(text, "test")) as plan:
        entered = asyncio.run(run())
        with Client(plan.addresses()[1], "alice") as client:
            assert client.cancel(entered.order_id).order_id == entered.order_id
