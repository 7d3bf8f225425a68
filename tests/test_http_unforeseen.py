"""What nobody foresaw inside an operation: it is answered, counted and logged, and no more."""

import asyncio
import logging
from collections import Counter
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from engine.sections import HttpSection
from frontend.gateway.turns import Turns
from frontend.http import orders, sockets
from frontend.http.api import Api
from frontend.http.connection import TURN_S
from frontend.http.request import Request
from frontend.http.sockets import Socket

WHY = "the request failed for a reason of ours"


class Bare(Api):
    """An ``Api`` without a product behind it."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.config = HttpSection()
        self.status: Any = SimpleNamespace(
            add=lambda name, count: self.counted.update({name: count})
        )
        self.keys: Any = None
        self.feeds: Any = None
        self.state: Any = SimpleNamespace(markets=None)
        self.meter: Any = SimpleNamespace(orders=lambda *_: None)
        self.entry: Any = None
        self.turns = Turns(TURN_S)


def failing(*_: Any) -> Any:
    raise ZeroDivisionError("unforeseen")


def was_logged(caplog: pytest.LogCaptureFixture) -> bool:
    return any(record.exc_info and "unforeseen" in record.exc_text for record in caplog.records)


def test_an_operation_of_a_socket_is_answered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sockets._HANDLERS, "cancel", failing)
    api, answers = Bare(), list[Any]()
    incoming = [
        {"type": "websocket.receive", "text": text}
        for text in ('{"op": "cancel", "id": "a"}', '{"op": "ping", "id": "b"}')
    ]

    async def exchange() -> None:
        both = asyncio.Event()

        async def receive() -> Any:
            if incoming:
                return incoming.pop(0)
            await both.wait()
            return {"type": "websocket.disconnect"}

        async def send(message: Any) -> None:
            answers.append(msgspec.json.decode(message["text"]))
            if len(answers) == 2:
                both.set()

        await Socket(api, None, send, lambda: None).serve(receive)

    with caplog.at_level(logging.ERROR):
        asyncio.run(asyncio.wait_for(exchange(), 60))
    assert [(answer["type"], answer["id"]) for answer in answers] == [("error", "a"), ("pong", "b")]
    assert answers[0]["error"]["code"] == "INTERNAL"
    assert answers[0]["error"]["message"] == WHY
    assert api.counted["internal_errors"] == 1
    assert was_logged(caplog)


@pytest.mark.parametrize("when", ["reading", "entering", "answering"])
def test_the_rest_of_a_batch_is_told_what_became_of_it(
    when: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    api = Bare()
    order = SimpleNamespace(
        user_id="u", command=SimpleNamespace(client_order_id=0), market=None, wrong=False
    )

    def read(data: bytes, *_: Any) -> Any:
        wrong = bytes(data) == b"1"
        if wrong and when == "reading":
            failing()
        return SimpleNamespace(**vars(order) | {"wrong": wrong})

    async def session_of(_: str) -> Any:
        return None

    def ask(_: Any, command: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        future.set_result(command)
        return future

    turns = iter(range(9))

    def check_room(_: Any) -> None:
        if next(turns) == 1 and when == "entering":
            failing()

    answered = iter(range(9))

    def result(*_: Any) -> Any:
        if next(answered) == 1 and when == "answering":
            failing()
        return orders.OrderResult(
            order_id=7,
            status="OPEN",
            filled_quantity=msgspec.Raw(b"0"),
            remaining_quantity=msgspec.Raw(b"1"),
            trades=[],
        )

    monkeypatch.setattr(orders, "read_order", read)
    monkeypatch.setattr(orders, "order_result", result)
    api.entry = SimpleNamespace(session_of=session_of, check_room=check_room, ask=ask)
    request = Request(api, b"", b'{"orders": [0, 1, 2]}', None)
    with caplog.at_level(logging.ERROR):
        found = asyncio.run(orders.create_orders(request))
    assert [item.success for item in found.results] == [True, False, True]
    assert (found.summary.successful, found.summary.failed) == (2, 1)
    error = found.results[1].error
    assert error is not msgspec.UNSET
    assert error.code == "INTERNAL"
    assert api.counted["internal_errors"] == 1
    assert was_logged(caplog)
