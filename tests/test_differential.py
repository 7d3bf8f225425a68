"""The compiled book against the reference: equal reports, trades and state after every batch.

A seeded run that fails ends with the command that repeats it; hypothesis prints its own example.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.drive import Room, StalledError, run
from bench.equality import (
    BOOKS,
    MAX_BATCH,
    ROOMS,
    DifferenceError,
    Pair,
    Tally,
    compare,
    first_difference,
    repeat_command,
)
from bench.flows import PROFILES, Flow
from bench.recorded import RECORDED, recorded_commands, recorded_limits
from engine.books.contract import Book, BookLimits, Counters, Progress, Records
from engine.books.id_memory import NO_SHARES, IdShares
from engine.books.reference.book import ReferenceBook
from engine.books.rules import SWEEP_ORDERS
from frontend.replay.flow_file import message_of, read_flow
from ipc.records import REPORT
from ipc.vocabulary import MAX_PRICE, MAX_RESTING_ORDERS, ExecType, Flag, Reason, Side
from ipc.wire.messages import MassCancel, NewOrder
from tests.books import TIME_NS, WORLD, command_batches, commands_of

SEED = 20_251
COMMANDS = 12_000
"""Of each profile; over all of them more than 200,000."""

LIMITS = (BookLimits(1, 1, MAX_PRICE, MAX_RESTING_ORDERS),)
ROOMY = ROOMS[-1]


def pair_of(limits: Sequence[BookLimits], recent_orders: int, shares: IdShares = NO_SHARES) -> Pair:
    given = (0, limits, recent_orders, Counters(0, 0, 0), 0, shares)
    return Pair({name: make_book(*given) for name, make_book in BOOKS.items()})


# Random commands -------------------------------------------------------------------------------


@cache
def tally_of(profile: str) -> Tally:
    print(repeat_command(profile, SEED, COMMANDS))
    return compare(profile, SEED, COMMANDS, BOOKS)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_books_are_equal_on_every_profile(profile: str) -> None:
    assert tally_of(profile).commands == COMMANDS


def test_the_profiles_cover_every_answer_of_a_book() -> None:
    assert len(PROFILES) * COMMANDS >= 200_000
    at_the_edge = {Reason.NONE, Reason.INVALID_MESSAGE, Reason.UNKNOWN_TAG}
    at_the_edge |= {Reason.BUSY, Reason.SHARD_DOWN, Reason.NOT_LOGGED_IN}
    answers = {answer for profile in PROFILES for answer in tally_of(profile).answers}
    assert {reason for _, reason in answers} - {Reason.NONE} == set(Reason) - at_the_edge
    assert {exec_type for exec_type, _ in answers} == set(ExecType)


def test_the_books_are_equal_on_the_largest_batch() -> None:
    profile = PROFILES["sweeps"]
    pair = pair_of(profile.limits, profile.recent_orders, profile.shares)
    output = pair.process(Flow(profile, SEED).commands(MAX_BATCH), (ROOMY, ROOMY))
    assert len(output.reports) > MAX_BATCH
    pair.check([limits.symbol for limits in profile.limits])


rooms = st.lists(
    st.builds(Room, st.integers(2, 6), st.integers(0, 3)), min_size=1, max_size=3
).filter(lambda choices: any(room.trades for room in choices))


@settings(max_examples=150, deadline=None, print_blob=True)
@given(st.lists(st.tuples(command_batches(), rooms, rooms), min_size=1, max_size=5))
def test_the_books_are_equal_on_any_commands(
    batches: list[tuple[Records, list[Room], list[Room]]],
) -> None:
    pair = Pair({name: WORLD.book(make_book) for name, make_book in BOOKS.items()})
    for commands, room, other_room in batches:
        pair.process(commands, (room, other_room))
        pair.check([limits.symbol for limits in WORLD.limits])


@pytest.mark.parametrize("room", ROOMS)
def test_a_command_that_fills_many_buffers_goes_on_where_it_was(room: Sequence[Room]) -> None:
    """One taker meets 3,000 makers; a mass cancel takes every second of 3,000 orders, in parts."""
    count = 3_000
    ids = range(1, count + 1)
    accounts = [number % 2 + 1 for number in ids]
    makers = [NewOrder(1, 0, number, Side.BUY, 2, 1, 777, 7) for number in ids]
    taker = NewOrder(1, 0, count + 1, Side.SELL, 2, 1, 777, 7 * count + 5)
    whole = commands_of([MassCancel(1, 0)] * -(-count // SWEEP_ORDERS), 1, TIME_NS)
    whole["flags"][1:] = Flag.CONTINUE
    for commands, expected_reports, expected_trades in (
        (commands_of([taker], 1, TIME_NS), 1 + 2 * count, count),
        (whole, count // 2 + 1, 0),
    ):
        pair = pair_of(LIMITS, 0)
        resting = commands_of(makers, 1, TIME_NS)
        resting["account"] = accounts
        pair.process(resting, (ROOMY, ROOMY))
        reports, trades = pair.process(commands, (ROOMY, room))
        assert (len(reports), len(trades)) == (expected_reports, expected_trades)
        pair.check([1])


# Recorded flows --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDED)
def test_the_books_are_equal_on_recorded_flows(data_dir: Path, name: str) -> None:
    flow = read_flow(data_dir / RECORDED[name])
    commands = recorded_commands(flow)[:60_000]
    limits = [recorded_limits(flow)]
    pair = pair_of(limits, 1 << 16)
    for start in range(0, len(commands), 10_000):
        pair.process(commands[start : start + 10_000], (ROOMY, ROOMS[start // 10_000]))
    pair.check([1])


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_commands_are_those_of_the_flows_messages(data_dir: Path, name: str) -> None:
    flow = read_flow(data_dir / RECORDED[name])
    commands = recorded_commands(flow)
    first_of_its_kind = np.unique(flow.rows[["op", "tif"]], return_index=True)[1]
    places = sorted({*range(0, len(flow), 97), *first_of_its_kind.tolist()})
    rows = list(flow)
    messages = [message_of(rows[place], 1, place + 1) for place in places]
    expected = commands_of(messages, 1, 0)
    expected["timestamp_ns"] = flow.rows["ts_ns"][places]
    names = ("message", "recorded")
    assert first_difference("command", names, expected, commands[places]) is None


# The comparison itself -------------------------------------------------------------------------


class Liar(ReferenceBook):
    """A book that changes one field of what it gives from its 500th command on."""

    def __init__(self, field: str, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self.field = field

    def process(self, commands: Records, reports: Records, trades: Records) -> Progress:
        progress = super().process(commands, reports, trades)
        if self.counters().sequence > 500:
            for records in (reports[: progress.reports], trades[: progress.trades]):
                if self.field in (records.dtype.names or ()):
                    records[self.field] += 1
        return progress

    def recent(self) -> Records:
        recent = super().recent()
        return recent[1:] if self.field == "recent" and len(recent) > 100 else recent

    def resting(self) -> Records:
        resting = super().resting()
        if self.field == "cum_qty of an order" and len(resting) > 50:
            resting["cum_qty"][7] += 1
        return resting


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("leaves_qty", r"report \d+: leaves_qty \d+ in reference, \d+ in liar"),
        ("taker_side", r"trade \d+: taker_side"),
        ("recent", r"recent order 0: order_id"),
        ("cum_qty of an order", r"resting order 7: cum_qty"),
    ],
)
def test_a_difference_is_found_and_named(field: str, said: str) -> None:
    def make_liar(*given: object) -> Book:
        return Liar(field, *given)

    with pytest.raises(DifferenceError, match=said) as caught:
        compare("mixed", SEED, 3_000, {"reference": ReferenceBook, "liar": make_liar})
    assert caught.value.__notes__[0].endswith(
        f"python -m bench.equality --profile mixed --seed {SEED} --commands 3000"
    )


def test_reports_that_are_missing_are_a_difference() -> None:
    reports = np.zeros(3, REPORT)
    said = first_difference("report", ("one", "other"), reports, reports[:2])
    assert said is not None
    assert said.startswith("report: 3 in one, 2 in other; the first one too many: (0,")
    assert first_difference("report", ("one", "other"), reports, reports.copy()) is None


def test_a_book_that_does_not_go_on_is_noticed() -> None:
    class Idle(ReferenceBook):
        def process(self, commands: Records, reports: Records, trades: Records) -> Progress:
            return Progress(0, 0, 0)

    with pytest.raises(StalledError, match="nothing came of"):
        run(Idle(0, LIMITS, 0), Flow(PROFILES["mixed"], 1).commands(1), ROOMS[0])


def test_a_flow_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    def drawn(seed: int, sizes: Sequence[int]) -> bytes:
        flow = Flow(PROFILES["mixed"], seed)
        return b"".join(flow.commands(size).tobytes() for size in sizes)

    assert drawn(1, (10, 200)) == drawn(1, (10, 200))
    assert drawn(1, (10, 200)) != drawn(2, (10, 200))
