"""Reads that take long go in pieces, each asker's in turn: nobody else waits for all of them."""

import asyncio
import select
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import ExitStack
from typing import Any

import pytest

from frontend.http import searches as module
from frontend.http.errors import ApiError
from frontend.http.searches import MOST_OF_USER, MOST_SEARCHES, Searches, ThreadedSearches, Work
from tests.http import API, Http, serving
from tests.product import until

PIECE_S = 2 * module.SLICE_S
Run = Callable[[str | None, Work[Any]], Awaitable[Any]]


def pieces(count: int, name: str = "", log: list[str] | None = None) -> Work[str]:
    """Work of so many pieces, each of which takes a slice."""
    for _ in range(count):
        if log is not None:
            log.append(name)
        end = time.monotonic() + PIECE_S
        while time.monotonic() < end:
            pass
        yield
    return name


async def result(found: Any) -> Any:
    """Return what a search comes to, at once or later."""
    return await found if asyncio.iscoroutine(found) else found


@pytest.fixture(params=[Searches, ThreadedSearches], ids=["loop", "thread"])
def carry_out(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run a coroutine that is given a way to search, of each kind in turn."""

    def run(main: Callable[[Run], Coroutine[Any, Any, Any]], timeout_s: float = 60.0) -> Any:
        async def begin() -> Any:
            threaded = request.param is ThreadedSearches
            kind = ThreadedSearches("test", timeout_s) if threaded else Searches(timeout_s)

            async def ask(who: str | None, work: Work[Any]) -> Any:
                return await result(kind.run(who, work))

            try:
                return await main(ask)
            finally:
                if isinstance(kind, ThreadedSearches):
                    kind.close()

        return asyncio.run(begin())

    return run


def test_the_loop_goes_on_between_two_pieces() -> None:
    async def main() -> None:
        searches, log = Searches(60.0), list[str]()
        searching = asyncio.ensure_future(result(searches.run(None, pieces(20, "piece", log))))
        while not searching.done():
            log.append("else")
            await asyncio.sleep(0)
        assert await searching == "piece"
        assert log.count("piece") == 20
        assert "piece piece" not in " ".join(log)

    asyncio.run(main())


def test_what_is_short_is_answered_at_once() -> None:
    async def main() -> None:
        searches = Searches(60.0)

        def short() -> Work[int]:
            yield
            return 7

        assert searches.run("alice", short()) == 7
        waiting = [searches.run("bob", pieces(3)), searches.run("alice", short())]
        assert all(map(asyncio.iscoroutine, waiting))
        assert await asyncio.gather(*waiting) == ["", 7]  # type: ignore[call-overload]

    asyncio.run(main())


@pytest.mark.parametrize("whose", [["mallory"] * 20, [None] * 20], ids=["one user", "no users"])
def test_who_asks_for_little_does_not_wait_for_those_who_ask_for_much(
    carry_out: Callable[..., Any], whose: list[str | None]
) -> None:
    log: list[str] = []

    async def main(run: Run) -> None:
        many = [asyncio.ensure_future(run(who, pieces(10, "much", log))) for who in whose]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        before = len(log)
        await run("alice", pieces(2, "little", log))
        for search in many:
            search.cancel()
        await asyncio.gather(*many, return_exceptions=True)
        first = log.index("little")
        second = log.index("little", first + 1)
        others = len(set(whose)) if whose[0] else len(whose)
        assert second - first - 1 <= others
        assert first - before <= others + 2  # who was at work when she asked, and the thread's next

    carry_out(main)


def test_how_many_may_wait_is_bounded(
    carry_out: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_SEARCHES", MOST_OF_USER + 20)
    going_on = threading.Event()

    def endless() -> Work[None]:
        while not going_on.is_set():
            yield

    async def main(run: Run) -> list[Any]:
        asked = [asyncio.ensure_future(run("mallory", endless())) for _ in range(MOST_OF_USER + 9)]
        asked += [asyncio.ensure_future(run(None, endless())) for _ in range(30)]
        while sum(search.done() for search in asked) < 17:
            await asyncio.sleep(0)
        going_on.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    found = carry_out(main)
    # One may be under way beside those that wait.
    refused = [error for error in found if error is not None]
    assert {error.code for error in refused} == {"BUSY"}
    assert 17 <= len(refused) <= 19
    assert MOST_OF_USER < MOST_SEARCHES


def test_one_that_takes_too_long_is_ended(carry_out: Callable[..., Any]) -> None:
    ended = []

    def endless() -> Generator[None, None, None]:
        try:
            while True:
                yield
        finally:
            ended.append(True)

    async def main(run: Run) -> None:
        with pytest.raises(ApiError, match="took too long"):
            await run("alice", endless())
        assert await run("alice", pieces(1, "next")) == "next"

    carry_out(main, timeout_s=0.05)
    assert ended == [True]


def test_one_that_fails_says_so(carry_out: Callable[..., Any]) -> None:
    def fails() -> Work[None]:
        yield from pieces(2)
        raise OSError("no disk")

    async def main(run: Run) -> None:
        for _ in range(2):
            with pytest.raises(OSError, match="no disk"):
                await run(None, fails())

    carry_out(main)


MANY = 1_000
ASKERS = 30


def test_the_health_of_a_worker_is_told_between_pieces_of_long_reads() -> None:
    order = {"user_id": "maker", "order_type": "limit", "side": "buy", "price": 5, "quantity": 1}
    with serving(1) as plan, Http(plan) as http, ExitStack() as stack:
        batch = {"orders": [order | {"symbol": "AA"}] * MANY}
        assert http.post(f"{API}/orders/batch", batch)["summary"]["successful"] == MANY
        askers = [stack.enter_context(Http(plan)) for _ in range(ASKERS)]
        for client in (*askers, http):
            client.get(f"{API}/health")  # it is connected then
        until(lambda: answered_meanwhile(http, askers) < ASKERS // 2)


def answered_meanwhile(http: Http, askers: list[Http]) -> int:
    """Let many ask for much, and then one for little; return how many had their answers first."""
    for asker in askers:
        asker.connection.request("GET", f"{API}/orders?user_id=maker&limit={MANY}")
    http.get(f"{API}/health")
    sockets = [asker.connection.sock for asker in askers]
    served = len(select.select(sockets, [], [], 0)[0])
    for asker in askers:
        reply = asker.connection.getresponse()
        assert reply.status == 200
        assert reply.read().count(b'"order_id"') == MANY
    return served
