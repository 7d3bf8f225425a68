"""One account's flood: little of it is ahead of who sends little, and of another flood."""

import asyncio
from contextlib import ExitStack
from itertools import accumulate

from frontend.gateway.account_channel import AccountChannel
from frontend.gateway.channels import HELD_A_TURN
from frontend.gateway.fairness import (
    CROWDED_S,
    FEW,
    HEAVY_S,
    LIGHT_COMMANDS,
    MODERATE_COMMANDS,
    MODERATE_S,
    MODERATE_WINDOW,
    NARROW_WINDOW,
    SHARED_S,
    Windows,
)
from frontend.gateway.session import Session
from frontend.gateway.turns import Turns
from ipc.wire.messages import NewOrder, Ping, Pong, Report
from tests.product import Wire, make_config, running, until
from tests.test_back_pressure import SLOW, answered, counter, orders, stopped_matcher

COUNT = 3_000
AHEAD = NARROW_WINDOW + LIGHT_COMMANDS
"""Commands that a flood may have at a matcher, whenever another's comes."""


def sequences(wire: Wire) -> list[int]:
    """Return when each order of a flood was matched."""
    reports = [wire.receive() for _ in range(COUNT)]
    assert all(isinstance(report, Report) for report in reports)
    assert [report.request_id for report in reports] == list(range(1, COUNT + 1))  # type: ignore[union-attr]
    return [report.sequence for report in reports]  # type: ignore[union-attr]


def test_little_of_a_flood_is_ahead_of_who_sends_little() -> None:
    with (
        running(make_config(2, 2)) as plan,
        Wire(plan, "flood") as flood,
        Wire(plan, "light") as light,
    ):
        answered(light, SLOW)
        with stopped_matcher(plan):
            flood.send_bytes(orders(COUNT, SLOW))
            until(lambda: counter(plan, "held_reads") == 1)
            light.send(NewOrder(SLOW, 8, 0, 1, 2, 1, 100, 5), Ping(9))
            assert light.receive() == Pong(9)  # so the order before it has passed
        report = light.receive()
        assert isinstance(report, Report)
        assert (report.request_id, report.sequence) <= (8, 2 + AHEAD)
        assert sequences(flood)[-1] == COUNT + 2


def test_a_flood_in_small_pieces_is_narrowed_as_well() -> None:
    with (
        running(make_config(2, 2)) as plan,
        Wire(plan, "flood") as flood,
        Wire(plan, "light") as light,
    ):
        answered(light, SLOW)
        before = counter(plan, "frames_in")
        with stopped_matcher(plan):
            for count in range(8, NARROW_WINDOW + 1, 8):
                flood.send_bytes(orders(8, SLOW))
                until(lambda count=count: counter(plan, "frames_in") == before + count)  # type: ignore[misc]
            until(lambda: counter(plan, "held_reads") == 1)


def test_floods_are_served_side_by_side_beside_who_sends_little() -> None:
    with (
        running(make_config(2, 2)) as plan,
        Wire(plan, "first") as first,
        Wire(plan, "second") as second,
        Wire(plan, "light") as light,
    ):
        answered(light, SLOW)
        with stopped_matcher(plan):
            for held, flood in enumerate([first, second]):
                flood.send_bytes(orders(COUNT, SLOW))
                until(lambda held=held: counter(plan, "held_reads") == held + 1)  # type: ignore[misc]
        owners = sorted([(s, 1) for s in sequences(first)] + [(s, -1) for s in sequences(second)])
        # Neither gets through before the other; one that has to be read from misses a little.
        assert max(map(abs, accumulate(owner for _, owner in owners))) < COUNT - 500


def test_a_flood_by_itself_is_held_to_its_window_alone() -> None:
    extra = f"[frontend]\nwindow = {COUNT - 1}\n"
    with running(make_config(2, 2, extra)) as plan, Wire(plan, "flood") as flood:
        with stopped_matcher(plan):
            flood.send_bytes(orders(COUNT, SLOW))
            until(lambda: counter(plan, "held_reads") == 1)
            until(lambda: counter(plan, "frames_in") == 1 + COUNT - 1)  # the login, and the window
        assert sequences(flood)[-1] == COUNT


def test_accounts_that_have_come_to_send_much_narrow_nobody() -> None:
    windows = Windows(COUNT)
    first, second = (AccountChannel(number, number, [0], COUNT) for number in (1, 2))
    windows.passed(first, 100.0)
    second.under_way = LIGHT_COMMANDS
    assert windows.room(second, 100.0) == NARROW_WINDOW - LIGHT_COMMANDS
    first.under_way = LIGHT_COMMANDS
    for stream in (first, second):
        assert windows.room(stream, 100.0) == COUNT - LIGHT_COMMANDS
    first.under_way = 0
    windows.passed(first, 100.0)
    assert windows.room(second, 100.0) == COUNT - LIGHT_COMMANDS, "it sent much a moment ago"


def window_of(windows: Windows, stream: AccountChannel, under_way: int, now_s: float) -> int:
    """Return the window of an account that has so much under way."""
    stream.under_way = under_way
    room = windows.room(stream, now_s)
    assert room == max(0, stream.window - under_way)
    return stream.window


def test_who_sends_moderately_narrows_floods_to_a_moderate_window() -> None:
    windows = Windows(8_192)
    flood, moderate, light = (AccountChannel(number, number, [0], 8_192) for number in (1, 2, 3))
    assert window_of(windows, flood, MODERATE_COMMANDS, 100.0) == 8_192
    assert window_of(windows, moderate, MODERATE_COMMANDS - 1, 100.0) == 8_192
    windows.passed(moderate, 100.0)
    assert window_of(windows, flood, MODERATE_COMMANDS, 100.0) == MODERATE_WINDOW
    assert window_of(windows, moderate, MODERATE_COMMANDS - 1, 100.0) == 8_192
    assert window_of(windows, flood, MODERATE_COMMANDS, 100.0 + MODERATE_S) == 8_192
    windows.passed(moderate, 102.0)
    windows.passed(light, 102.0)
    assert window_of(windows, flood, MODERATE_COMMANDS, 102.0) == NARROW_WINDOW
    assert window_of(windows, moderate, LIGHT_COMMANDS, 102.0) == NARROW_WINDOW
    assert window_of(windows, flood, MODERATE_COMMANDS, 102.0 + CROWDED_S) == 8_192


def test_a_flood_with_little_under_way_for_a_moment_does_not_send_moderately() -> None:
    windows = Windows(8_192)
    first, second = (AccountChannel(number, number, [0], 8_192) for number in (1, 2))
    for stream in (first, second):
        assert window_of(windows, stream, MODERATE_COMMANDS, 100.0) == 8_192
    first.under_way = LIGHT_COMMANDS
    windows.passed(first, 100.0 + HEAVY_S)
    assert window_of(windows, second, MODERATE_COMMANDS, 100.0 + HEAVY_S) == 8_192
    windows.passed(first, 100.0 + 1.5 * HEAVY_S)
    assert window_of(windows, second, MODERATE_COMMANDS, 100.0 + 1.5 * HEAVY_S) == MODERATE_WINDOW
    windows.forget(first)
    assert window_of(windows, second, MODERATE_COMMANDS, 100.0 + 1.5 * HEAVY_S) == 8_192


def test_who_is_held_to_a_window_is_a_flood_however_narrow_that_is() -> None:
    windows = Windows(8_192)
    first, second = (AccountChannel(number, number, [0], 8_192) for number in (1, 2))
    for stream in (first, second):
        stream.stop_reading()
        assert window_of(windows, stream, MODERATE_WINDOW, 100.0) == 8_192
        windows.passed(stream, 100.0)
    assert window_of(windows, first, MODERATE_WINDOW, 100.0) == 8_192, "both are floods"
    windows.passed(second, 100.0 + 1.5 * HEAVY_S)
    first.resume_reading()
    first.stop_reading()
    assert window_of(windows, first, MODERATE_WINDOW, 100.0 + 1.5 * HEAVY_S) == MODERATE_WINDOW


def test_many_floods_share_what_a_few_are_held_to() -> None:
    windows = Windows(8_192)
    light, *floods = (AccountChannel(number, number, [0], 8_192) for number in range(41))
    windows.passed(light, 100.0)
    for count, flood in enumerate(floods, 1):
        share = max(LIGHT_COMMANDS, FEW * NARROW_WINDOW // max(FEW, count))
        assert window_of(windows, flood, MODERATE_COMMANDS, 100.0) == share
    later = 100.0 + 1.5 * SHARED_S
    for count, flood in enumerate(floods, 1):
        share = max(LIGHT_COMMANDS, FEW * NARROW_WINDOW // max(FEW, count))
        assert window_of(windows, flood, MODERATE_COMMANDS, later) == share
    for gone in floods[FEW:]:
        windows.forget(gone)
    assert window_of(windows, floods[0], MODERATE_COMMANDS, later) == NARROW_WINDOW


class Told(Session):
    """A session that keeps what is asked of it."""

    def __init__(self, told: list[str], name: str) -> None:
        self._told = told
        self._name = name

    def stop_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self) -> None:
        """Take note."""
        self._told.append(self._name)


def test_accounts_that_were_held_are_read_from_again_a_few_in_a_turn() -> None:
    told: list[str] = []

    async def answer_all() -> None:
        turns = Turns(2 * HELD_A_TURN)  # of sessions
        floods = [AccountChannel(number, number, [0], 8, turns) for number in range(5)]
        for flood in floods:
            flood.sessions = [Told(told, f"{flood.number} {n}") for n in range(2)]
            flood.forwarded(8)
        for answers in (4, 1):  # once more before its turn: it goes on once
            for flood in floods:
                flood.answered(answers)
        assert told == [f"{number} {n}" for number in range(HELD_A_TURN) for n in range(2)]
        most = 0
        while len(told) < 10:
            before = len(told)
            await asyncio.sleep(0)
            most = max(most, len(told) - before)
        assert most <= 2 * HELD_A_TURN
        for flood in floods:
            assert not flood.window_full

    asyncio.run(answer_all())
    assert told == [f"{number} {n}" for number in range(5) for n in range(2)]


def test_little_of_many_floods_is_ahead_of_who_sends_little() -> None:
    count = 16
    most = sum(max(LIGHT_COMMANDS, FEW * NARROW_WINDOW // max(FEW, n + 1)) for n in range(count))
    most += count * LIGHT_COMMANDS
    assert most < count * NARROW_WINDOW
    with running(make_config(2, 2)) as plan, ExitStack() as stack:
        light = stack.enter_context(Wire(plan, "light"))
        floods = [stack.enter_context(Wire(plan, f"flood-{n}")) for n in range(count)]
        answered(light, SLOW)
        with stopped_matcher(plan):
            for held, flood in enumerate(floods):
                flood.send_bytes(orders(COUNT, SLOW))
                until(lambda held=held: counter(plan, "held_reads") == held + 1)  # type: ignore[misc]
            light.send(NewOrder(SLOW, 8, 0, 1, 2, 1, 100, 5), Ping(9))
            assert light.receive() == Pong(9)  # so the order before it has passed
        report = light.receive()
        assert isinstance(report, Report)
        assert report.sequence <= 2 + most
