"""Turns of work: a budget for all, each client in its turn, and who asks for little first."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from frontend.gateway.turns import FEW, Turns


class Work:
    """What clients have to do, one piece at a time, and in which order it was done."""

    def __init__(self, budget: float) -> None:
        self.turns = Turns(budget, rest_s=0.0)
        self.done: list[str] = []

    def ask(self, whose: str, pieces: int, name: str = "") -> None:
        """Do a client's pieces, as many as may be done now, and the others in later turns."""
        for left in range(pieces, 0, -1):
            if not self.turns.may(whose):
                self.turns.wait(whose, lambda left=left: self.ask(whose, left, name))  # type: ignore[misc]
                return
            self.turns.spend(whose, 1)
            self.done.append(name or whose)

    async def until(self, count: int) -> str:
        """Return what was done, once it is so much."""
        while len(self.done) < count:
            await asyncio.sleep(0)
        return "".join(self.done)


def run(case: Callable[[Work], Coroutine[Any, Any, None]], budget: float = 4) -> None:
    async def begin() -> None:
        await case(Work(budget))

    asyncio.run(asyncio.wait_for(begin(), 60))


def test_all_together_do_no_more_in_a_turn_than_the_budget() -> None:
    async def case(work: Work) -> None:
        for whose in "abcdef":
            work.ask(whose, 3)
        assert work.done == list("aaab")
        before = len(work.done)
        while len(work.done) < 18:
            await asyncio.sleep(0)
            assert len(work.done) - before <= 4
            before = len(work.done)

    run(case)


def test_who_comes_new_goes_before_those_who_have_had_a_turn() -> None:
    async def case(work: Work) -> None:
        for whose in "abcd":
            work.ask(whose, 40)
        await work.until(16)
        work.ask("n", 1)
        assert (await work.until(40)).index("n") <= 20
        for whose in "abcd":
            assert work.done[:40].count(whose) >= 4

    run(case)


def test_many_connections_of_one_have_its_turns_and_no_more() -> None:
    async def case(work: Work) -> None:
        for name in "abcdefgh":
            work.ask("many", 8, name)
        work.ask("one", 8, "o")
        told = await work.until(72)
        assert told.index("o") <= 8
        # Each has every other turn from then on.
        assert told[: told.rindex("o")].count("o") >= len(told[: told.rindex("o")]) // 2 - 4

    run(case)


def test_whose_turn_passes_with_nothing_to_do_is_new_again() -> None:
    async def case(work: Work) -> None:
        work.ask("a", 1)
        for _ in range(3):
            await asyncio.sleep(0)
        assert not work.turns._waiting
        assert work.turns.may("a")

    run(case)


def test_a_turn_that_is_waited_for_comes_with_those_of_others_and_counts() -> None:
    async def case(work: Work) -> None:
        await work.turns.turn("a", 4)
        work.ask("b", 2)
        assert work.done == [], "all of the turn is used"
        await work.until(2)
        work.ask("c", 40)
        await work.turns.turn("a", 4)
        assert len(work.done) <= 2 + 3 * 4, "others are to go on, but not to their ends"
        await work.until(42)

    run(case)


def test_work_that_is_more_than_the_budget_is_done_all_the_same() -> None:
    async def case(work: Work) -> None:
        work.turns.spend("a", 100)
        work.ask("b", 2)
        assert work.done == []
        assert await work.until(2) == "bb"

    run(case)


def test_who_has_little_waiting_goes_before_those_with_much_who_go_on_all_the_same() -> None:
    async def case(work: Work) -> None:
        work.turns.spend("x", 4)
        for name in "mno":
            for _ in range(FEW + 40):
                work.ask(name, 1)
        for name in "abc":
            for _ in range(FEW):
                work.ask(name, 1)
        told = await work.until(3 * FEW + 4)
        assert 3 <= sum(name in "mno" for name in told) <= 8
        await work.until(3 * (2 * FEW + 40))

    run(case)


def test_who_asked_for_little_waits_for_nobody_and_the_others_leave_the_loop_time() -> None:
    async def case(work: Work) -> None:
        loop = asyncio.get_running_loop()
        work.turns._rest_s = 0.001
        for whose in "abc":
            work.ask(whose, 400)
        await work.until(300)
        work.turns.spend("a", 4)
        work.ask("n", 1)
        assert work.done[-1] == "n", "though the turn is used up"
        begun_s, before = loop.time(), len(work.done)
        await work.until(before + 40)
        assert loop.time() - begun_s >= 9 * 0.001, "ten turns, with rests in between"
        work.ask("n", 200)
        assert 30 <= work.done.count("n") <= 50, "as much as it is ahead, and no more"

    run(case)


def failures() -> list[BaseException]:
    """Return what is raised in the running loop's calls from now on."""
    found: list[BaseException] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, told: found.append(told["exception"]))
    return found


def test_a_piece_that_fails_leaves_the_others_theirs() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async def case(work: Work) -> None:
        failed = failures()
        work.turns.spend("x", 4)
        work.turns.wait("a", fail)
        work.ask("b", 2)
        assert await work.until(2) == "bb"
        assert [type(error) for error in failed] == [ZeroDivisionError]

    run(case)


def test_a_turn_that_nobody_waits_for_any_more_passes() -> None:
    async def case(work: Work) -> None:
        failed = failures()
        work.turns.spend("x", 4)
        waiting = work.turns.turn("a", 1)
        waiting.send(None).cancel()
        work.ask("b", 2)
        assert await work.until(2) == "bb"
        assert not failed
        waiting.close()

    run(case)
