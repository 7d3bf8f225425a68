"""What a WebSocket client is told that has fallen behind: a fresh state, and nothing between."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from frontend.http.feeds import Feed, Feeds
from frontend.http.sockets import Socket
from ipc.memory.depth_board import BoardBusyError
from tests.product import UNTIL_S

MOST = 8


class Counting(Feed):
    """A feed whose state is a number, one higher at each look."""

    conflated = True

    def __init__(self, busy: bool) -> None:
        self.subscribers = set()
        self.state = 0
        self.busy = busy

    def look(self) -> bool:
        if self.busy:
            raise BoardBusyError("its writer is at it")
        self.state += 1
        for subscriber in self.subscribers:
            subscriber.push(self, f"change to {self.state}")
        return True

    def first(self) -> str:
        return f"state {self.state}"


@pytest.mark.parametrize("busy", [False, True])
def test_who_has_missed_a_change_is_told_the_state_before_the_next_change(busy: bool) -> None:
    async def run() -> None:
        sent: list[str] = []
        told = asyncio.Event()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message["text"])
            if message["text"].startswith("state"):
                told.set()

        api: Any = SimpleNamespace(
            config=SimpleNamespace(max_unread_messages=4 * MOST, heartbeat_s=60),
            status=SimpleNamespace(add=lambda *_: None),
            feeds=Feeds(SimpleNamespace(), SimpleNamespace()),  # type: ignore[arg-type]
            problem=lambda error: pytest.fail(f"{error!r}"),
        )
        socket, feed = Socket(api, None, send, lambda _: None), Counting(False)
        feed.subscribers.add(socket)
        for _ in range(MOST + 3):
            feed.look()
        feed.busy = busy
        serving = asyncio.create_task(socket.serve(asyncio.Event().wait))
        await told.wait()
        last = MOST + 3 if busy else MOST + 4
        assert sent == [f"change to {n}" for n in range(1, MOST + 1)] + [f"state {last}"]
        told.clear()
        feed.busy = False
        feed.look()
        while len(sent) < MOST + 2:
            await asyncio.sleep(0)
        assert sent[-1] == f"change to {last + 1}"
        serving.cancel()

    asyncio.run(asyncio.wait_for(run(), UNTIL_S))
