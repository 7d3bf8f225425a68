"""client_order_ids that are texts, over the socket, REST, WebSocket, command line and replay."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import quote

import pytest

from engine.journal.snapshot import read_snapshot, snapshots_of
from engine.plan import Plan
from frontend.cli import main
from frontend.client import AsyncClient, Client
from frontend.client.errors import InvalidOrderError, OrderRejectedError
from frontend.replay.run import replay
from ipc.bounds import TEXT_BIT
from ipc.client_ids import number_of
from ipc.memory.status import StatusReader
from ipc.records import COMMAND, make_id
from ipc.wire.messages import Cancel, NewOco, NewOrder, Reject, Report
from tests.http import API, Http
from tests.nodes import KINDS, serving_by
from tests.product import Wire, make_config, running, until
from tests.test_http_socket import Ws
from tests.test_serve import linked

UUID = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
BY_ID = f"{API}/orders/by_client_order_id"
_numbers = count(1)


@pytest.fixture(scope="module", params=KINDS)
def plan(request: pytest.FixtureRequest) -> Iterator[Plan]:
    with serving_by(request.param, 'default_symbol = "AA"', matchers=1) as plan:
        yield plan


@pytest.fixture
def text() -> str:
    """A text that no order has had."""
    return f"{UUID}/{next(_numbers)}"


# The socket ---------------------------------------------------------------------------------------


def test_an_order_is_entered_found_and_cancelled_by_its_text(plan: Plan, text: str) -> None:
    with Client(plan.addresses()[0], "alice") as client:
        order = client.submit("AA", "buy", 5, "1.00", client_order_id=text)
        assert order.client_order_id == text
        with pytest.raises(OrderRejectedError) as refused:
            client.submit("AA", "buy", 5, "1.00", client_order_id=text)
        assert (refused.value.code_name, refused.value.order_id, refused.value.client_order_id) == (
            "DUPLICATE_CLIENT_ORDER_ID", order.order_id, text,
        )  # fmt: skip
        changed = client.replace(symbol="AA", client_order_id=text, price="1.01")
        assert (changed.order_id, changed.client_order_id) == (order.order_id, text)
        less = client.reduce(symbol="AA", client_order_id=text, quantity=1)
        assert (less.leaves_qty, less.client_order_id) == (4, text)
        with Client(plan.addresses()[0], "bob") as other:
            with pytest.raises(OrderRejectedError, match="UNKNOWN_ORDER"):
                other.cancel(symbol="AA", client_order_id=text)
            other.submit("AA", "sell", 1, "1.01", client_order_id=text)
        fill = next(client.reports(timeout_s=10))
        assert (fill.cum_qty, fill.client_order_id) == (1, text)
        assert client.order(order.order_id).client_order_id == text
        assert client.cancel(symbol="AA", client_order_id=text).client_order_id == text


def test_the_asynchronous_client_has_texts_too(plan: Plan, text: str) -> None:
    async def trade() -> None:
        async with AsyncClient(plan.addresses()[0], "carol") as client:
            order = await client.submit("AA", "buy", 5, "1.00", client_order_id=text)
            assert order.client_order_id == text
            canceled = await client.cancel(symbol="AA", client_order_id=text)
            assert (canceled.order_id, canceled.client_order_id) == (order.order_id, text)

    asyncio.run(trade())


def test_the_orders_of_a_list_have_their_place_behind_the_text(plan: Plan, text: str) -> None:
    with Client(plan.addresses()[0], "dave") as client:
        first = client.submit_bracket(
            "BB", "buy", 5, "1.00", take_price="2.00", stop_price="0.50", client_order_id=text
        )
        assert first.client_order_id == text
        named = [client.order(first.order_id + n).client_order_id for n in range(3)]
        assert named == [text, f"{text}.2", f"{text}.3"]
        assert client.cancel(symbol="BB", client_order_id=f"{text}.3").order_id == (
            first.order_id + 2
        )
        client.cancel_all("BB")


def test_a_list_leaves_room_behind_its_text(plan: Plan) -> None:
    longest, prices = "x" * 62, {"take_price": "2.00", "stop_price": "0.50"}
    with Client(plan.addresses()[0], "olivia") as client:
        first = client.submit_bracket("BB", "buy", 5, "1.00", **prices, client_order_id=longest)
        assert client.order(first.order_id + 2).client_order_id == f"{longest}.3"
        with pytest.raises(InvalidOrderError, match="must be 1 to 62 visible"):
            client.submit_bracket("BB", "buy", 5, "1.00", **prices, client_order_id="x" * 63)
        client.cancel_all("BB")
    with Wire(plan, "olivia") as wire:
        wire.send(NewOco(2, 7, 1, "x" * 63, 1, 100, 5, 200))
        answer = wire.receive()
        assert isinstance(answer, Reject)
        assert (answer.request_id, answer.field) == (7, "client_order_id")
    with Http(plan) as http:
        pair = {"user_id": "olivia", "list_type": "OCO", "side": "sell", "quantity": 1, "price": 9}
        pair |= {"stop_price": "0.5", "client_order_id": "x" * 63}
        reply = http.call("POST", f"{API}/orders/list", pair)
        assert (reply.status, reply.body["error"]["details"]["field"]) == (400, "client_order_id")


@pytest.mark.parametrize("wrong", ["", "12", "a b", "x" * 65, "é"])
def test_what_is_no_text_is_refused_before_it_is_sent(plan: Plan, wrong: str) -> None:
    with (
        Client(plan.addresses()[0], "eve") as client,
        pytest.raises(InvalidOrderError, match="client_order_id"),
    ):
        client.submit("AA", "buy", 1, "1.00", client_order_id=wrong)


def test_the_wire_says_what_is_wrong_with_a_text(plan: Plan) -> None:
    with Wire(plan, "eve") as wire:
        wire.send(NewOrder(1, 7, "a b", 1, 2, 1, 100, 5))
        answer = wire.receive()
        assert isinstance(answer, Reject)
        assert (answer.request_id, answer.field) == (7, "client_order_id")
        assert "must fit" in answer.text
        wire.send(Cancel(1, 8, 0, UUID))
        answer = wire.receive()
        assert isinstance(answer, Reject)
        assert (answer.code_name, answer.client_order_id) == ("UNKNOWN_ORDER", UUID)


def test_numbers_and_texts_share_frames_and_batches(plan: Plan, text: str) -> None:
    with Wire(plan, "frank") as wire:
        sent = [text if n % 3 else n + 1 for n in range(90)]
        ids = [f"{one}/{n}" if isinstance(one, str) else one for n, one in enumerate(sent)]
        wire.send(*(NewOrder(1, n + 1, one, 1, 2, 1, 100, 5) for n, one in enumerate(ids)))
        answers = [wire.receive() for _ in ids]
        assert [a.client_order_id for a in answers] == ids  # type: ignore[union-attr]
        wire.send(*(Cancel(1, n + 1, 0, one) for n, one in enumerate(ids)))
        answers = [wire.receive() for _ in ids]
        assert [a.client_order_id for a in answers] == ids  # type: ignore[union-attr]
        assert all(isinstance(answer, Report) for answer in answers)


def test_arrays_have_the_numbers_of_texts(plan: Plan, text: str) -> None:
    import numpy as np

    with Client(plan.addresses()[0], "grace") as client:
        client.submit("AA", "buy", 5, "1.00", client_order_id=text)
        commands = np.zeros(1, COMMAND)
        commands["command_type"], commands["symbol"] = 5, 1
        [answer] = client.submit_array(commands)
        assert answer["quantity"] == 1
        reports = client.receive_array(timeout_s=10)
        assert reports["client_order_id"].tolist() == [number_of(text)]
        assert number_of(text) >= TEXT_BIT


def test_a_session_that_comes_back_gets_texts(plan: Plan, text: str) -> None:
    with Wire(plan, "heidi") as wire:
        wire.send(NewOrder(1, 1, text, 1, 2, 1, 100, 5), Cancel(1, 2, 0, "none"))
        first, refused = wire.receive(), wire.receive()
    assert isinstance(first, Report)
    with Wire(plan, "heidi", resume=[make_id(0, 0)]) as wire:
        again, told = wire.receive(), wire.receive()
        assert isinstance(again, Report)
        assert (again.account_sequence, again.client_order_id) == (first.account_sequence, text)
        # Only the order table keeps texts, and a command that was refused is in none.
        assert isinstance(told, Reject)
        assert isinstance(refused, Reject)
        assert (refused.client_order_id, told.client_order_id) == ("none", number_of("none"))


# REST and WebSocket -------------------------------------------------------------------------------


def test_rest_shows_finds_and_cancels_by_text(plan: Plan, text: str) -> None:
    with Http(plan) as http:
        made = http.order("ivan", "buy", 5, "1.00", client_order_id=text)
        assert made["client_order_id"] == text
        path = f"{BY_ID}/{quote(text, safe='')}?user_id=ivan"
        for seen in (http.get(path), http.get(f"{API}/orders/{made['order_id']}")):
            order = seen["order"]
            assert (order["order_id"], order["client_order_id"]) == (made["order_id"], text)
        [listed] = http.get(f"{API}/orders?user_id=ivan")["orders"]
        assert listed["client_order_id"] == text
        again = http.call("POST", f"{API}/orders", {
            "user_id": "ivan", "side": "buy", "order_type": "limit", "price": 1, "quantity": 1,
            "client_order_id": text,
        })  # fmt: skip
        assert (again.status, again.code) == (409, "DUPLICATE_CLIENT_ORDER_ID")
        moved = http.call("PATCH", f"{API}/orders/{made['order_id']}?user_id=ivan", {"price": 2})
        assert moved.body["client_order_id"] == text
        gone = http.call("DELETE", path).body
        assert (gone["order_id"], gone["status"]) == (made["order_id"], "CANCELLED")
        until(lambda: http.call("DELETE", path).code == "ORDER_NOT_OPEN")  # a node hears of it
        ended = http.call("DELETE", path)
        assert (ended.status, ended.code) == (409, "ORDER_NOT_OPEN")
        assert text in ended.body["error"]["message"]
        unknown = http.call("DELETE", f"{BY_ID}/{quote('x' + text, safe='')}?user_id=ivan")
        assert (unknown.status, unknown.code) == (404, "ORDER_NOT_FOUND")


@pytest.mark.parametrize("wrong", ["12", "", "a b", "x" * 65, 1.5, -1, None])
def test_rest_names_a_wrong_text(plan: Plan, wrong: object) -> None:
    with Http(plan) as http:
        order = {"user_id": "u", "side": "buy", "order_type": "limit", "price": 1, "quantity": 1}
        reply = http.call("POST", f"{API}/orders", order | {"client_order_id": wrong})
        assert (reply.status, reply.code) == (400, "INVALID_REQUEST")
        assert reply.body["error"]["details"]["field"] == "client_order_id"


def test_batches_and_lists_have_texts(plan: Plan, text: str) -> None:
    order = {"user_id": "judy", "side": "buy", "order_type": "limit", "price": 1, "quantity": 1}
    with Http(plan) as http:
        batch = [order | {"client_order_id": f"{text}-{n}"} for n in range(3)]
        items = http.post(f"{API}/orders/batch", {"orders": batch})["results"]
        assert [item["client_order_id"] for item in items] == [f"{text}-{n}" for n in range(3)]
        pair = {
            "user_id": "judy", "list_type": "OCO", "side": "sell", "quantity": 1, "price": 9,
            "stop_price": "0.5", "client_order_id": text,
        }  # fmt: skip
        made = http.post(f"{API}/orders/list", pair)
        assert made["client_order_id"] == text
        second = http.get(f"{BY_ID}/{quote(text + '.2', safe='')}?user_id=judy")["order"]
        assert second["order_id"] == made["order_ids"][1]
        http.call("DELETE", f"{API}/orders?user_id=judy")


def test_a_websocket_tells_texts(plan: Plan, text: str) -> None:
    with Ws(plan) as ws, Http(plan) as http:
        ws.subscribe("orders", user_id="mallory")
        order = {"user_id": "mallory", "side": "buy", "order_type": "limit", "price": 1}
        ws.send(op="order", order=order | {"quantity": 1, "client_order_id": text})
        found = [ws.receive(), ws.receive()]
        told = {message.get("channel", "answer"): message for message in found}
        assert told["orders"]["client_order_id"] == text
        assert told["answer"]["result"]["client_order_id"] == text
        http.call("DELETE", f"{API}/orders?user_id=mallory")


def test_the_description_has_both(plan: Plan) -> None:
    with Http(plan) as http:
        schemas = json.loads(http.call("GET", "/openapi.json").raw)["components"]["schemas"]
        kinds = schemas["NewOrder"]["properties"]["client_order_id"]["anyOf"]
        assert {kind["type"] for kind in kinds} == {"integer", "string"}


# Command line, replay, and what survives ----------------------------------------------------------


def test_replay_takes_texts_for_ids(tmp_path: Path) -> None:
    flow, fills = tmp_path / "AA_1.csv", tmp_path / "fills.csv"
    flow.write_text(
        "seq,ts_ns,op,id,side,price,qty,tif\n"
        f"1,1,N,{UUID},S,100,5,GTC\n2,2,N,7,S,101,5,GTC\n3,3,L,take-1,B,101,6,IOC\n"
        f"4,4,R,7,S,0,1,\n5,5,C,7,S,0,0,\n6,6,N,9,B,90,1,GTC\n7,7,M,9,B,91,2,\n"
    )
    told = replay([flow], fills=fills)
    assert (told.commands, told.trades, told.rejects) == (7, 2, {})
    lines = fills.read_text().splitlines()[1:]
    assert lines == [f"3,take-1,0,{UUID},100,5,0", "3,take-1,1,7,101,1,4"]


def kill_matcher(plan: Plan) -> None:
    """Kill the matcher of a product, and wait until another serves in its place."""
    status = StatusReader(plan.status_path)

    def pid() -> int:
        return next(process.pid for process in status.processes() if process.role == "matcher")

    before = pid()
    os.kill(before, signal.SIGKILL)
    until(lambda: pid() not in (before, 0))
    with Wire(plan, "nobody") as wire:
        linked(wire)


def test_texts_survive_a_killed_matcher_and_a_restart(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path_factory.mktemp("t")
    config = make_config(1, 2, "[journal]\nsnapshot_commands = 8\n")
    texts = [f"{UUID}-{n}" for n in range(12)]
    with running(config, directory) as plan:
        with Client(plan.addresses()[0], "alice") as client:
            orders = [client.submit("AA", "buy", 5, "1.00", client_order_id=t) for t in texts]
        until(lambda: bool(snapshots_of(plan.journal_dir(0))))
        kill_matcher(plan)
        with Client(plan.addresses()[0], "alice", timeout_s=60) as client:
            assert client.cancel(symbol="AA", client_order_id=texts[0]).client_order_id == texts[0]
            assert [client.order(o.order_id).client_order_id for o in orders] == texts
    newest = read_snapshot(snapshots_of(plan.journal_dir(0))[0])
    assert len(newest.texts) >= 4
    with running(config, directory) as plan:
        with Client(plan.addresses()[0], "alice") as client:
            with pytest.raises(OrderRejectedError, match="DUPLICATE"):
                client.submit("AA", "buy", 5, "1.00", client_order_id=texts[3])
            assert client.cancel(symbol="AA", client_order_id=texts[1]).client_order_id == texts[1]
            assert [client.order(o.order_id).client_order_id for o in orders] == texts
        capsys.readouterr()
        arguments = ["order", str(orders[0].order_id), "--json", "--data-dir", str(directory)]
        assert main(arguments) == 0
        row = json.loads(capsys.readouterr().out)
        assert (row["client_order_id"], row["ord_status"]) == (texts[0], "CANCELED")
