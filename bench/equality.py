"""Holds two books against each other: ``python -m bench.equality --commands 10000000 --seed 1``.

Both get the same random commands (``bench.flows``), in batches of 1 to 65,536 and through buffers
of their own, down to two reports and no trade, and must give the same bytes, and after each batch
have the same state hash. The command ends at the first difference with the line that repeats it.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from bench.drive import Output, Room, run
from bench.flows import PROFILES, Flow, Texts
from engine.books.contract import Book, Counters, Records, state_hash
from engine.books.ladder import LadderBook
from engine.books.reference.book import ReferenceBook
from ipc.records import LEVEL
from ipc.vocabulary import ExecType, Reason, Side

MAX_BATCH = 65_536
SHARD = 3
START = Counters(0, 0, 0)

ROOMS: tuple[tuple[Room, ...], ...] = (
    (Room(2, 1),),
    (Room(2, 0), Room(2, 1)),
    (Room(3, 1),),
    (Room(5, 0), Room(4, 3), Room(2, 1)),
    (Room(64, 1),),
    (Room(100, 500),),
    (Room(MAX_BATCH, MAX_BATCH),),
)
"""The rooms that a book's calls take in turn; for each batch one of these is drawn."""

MakeBook = Callable[..., Book]
BOOKS: dict[str, MakeBook] = {"reference": ReferenceBook, "ladder": LadderBook}


class DifferenceError(AssertionError):
    """The books differ."""


class Tally(NamedTuple):
    """What a comparison covered."""

    commands: int
    batches: int
    most_resting: int
    answers: Counter[tuple[ExecType, Reason]]


def first_difference(what: str, names: Sequence[str], one: Records, other: Records) -> str | None:
    """Return where two arrays of the same dtype differ first, by field, or None."""
    shared = min(len(one), len(other))
    unequal = np.flatnonzero(one[:shared] != other[:shared])
    if len(unequal):
        place = int(unequal[0])
        mine, theirs = one[place], other[place]
        fields = [
            f"{name} {mine[name]} in {names[0]}, {theirs[name]} in {names[1]}"
            for name in one.dtype.names or ()
            if np.any(mine[name] != theirs[name])
        ]
        return f"{what} {place}: {'; '.join(fields)}\n  {names[0]}: {mine}\n  {names[1]}: {theirs}"
    if len(one) != len(other):
        longer = one if len(one) > len(other) else other
        counts = f"{len(one)} in {names[0]}, {len(other)} in {names[1]}"
        return f"{what}: {counts}; the first one too many: {longer[shared]}"
    return None


class Pair:
    """Two books of different make that are given the same commands."""

    def __init__(self, books: dict[str, Book]) -> None:
        self.names = tuple(books)
        self.books = tuple(books.values())

    def process(self, commands: Records, rooms: Sequence[Sequence[Room]]) -> Output:
        """Let both process ``commands``, each in rooms of its own; return what both gave.

        Raises DifferenceError where their reports, their trades or their states then differ.
        """
        one, other = (run(book, commands, r) for book, r in zip(self.books, rooms, strict=True))
        found = self._difference(commands, one, other) or self._state_difference()
        if found:
            raise DifferenceError(found)
        return one

    def check(self, symbols: Sequence[int] = ()) -> None:
        """Let both check their structure, and compare all levels of these symbols."""
        for book in self.books:
            book.check()
        for symbol in symbols:
            for side in Side:
                one, other = (_levels(book, symbol, side) for book in self.books)
                found = first_difference(f"{side.name} level of {symbol}", self.names, one, other)
                if found:
                    raise DifferenceError(found)

    def _difference(self, commands: Records, one: Output, other: Output) -> str | None:
        found = first_difference("report", self.names, one.reports, other.reports)
        if found and len(one.reports) and len(other.reports):
            shared = min(len(one.reports), len(other.reports))
            unequal = np.flatnonzero(one.reports[:shared] != other.reports[:shared])
            place = int(unequal[0]) if len(unequal) else shared - 1
            number = one.reports["sequence"][place] - one.reports["sequence"][0]
            found += f"\n  command: {commands[min(int(number), len(commands) - 1)]}"
        return found or first_difference("trade", self.names, one.trades, other.trades)

    def _state_difference(self) -> str | None:
        one, other = self.books
        if state_hash(one) == state_hash(other):
            return None
        if one.counters() != other.counters():
            return f"counters: {one.counters()} and {other.counters()}"
        return (
            first_difference("resting order", self.names, one.resting(), other.resting())
            or first_difference("recent order", self.names, one.recent(), other.recent())
            or "state_hash: differs, though counters, resting and recent do not"
        )


def _levels(book: Book, symbol: int, side: Side) -> Records:
    levels = np.zeros(MAX_BATCH, LEVEL)
    return levels[: book.depth(symbol, side, levels)]


def repeat_command(profile: str, seed: int, commands: int) -> str:
    """Return the command line that makes the same comparison again."""
    return f"python -m bench.equality --profile {profile} --seed {seed} --commands {commands}"


def compare(profile_name: str, seed: int, commands: int, makers: dict[str, MakeBook]) -> Tally:
    """Run ``commands`` commands of a profile through two books; return what that covered.

    Raises DifferenceError, or what a book raised, after naming the command line that repeats it.
    """
    profile = PROFILES[profile_name]
    random = np.random.default_rng([seed, 1])
    flow, texts = Flow(profile, seed, SHARD), Texts()
    pair = Pair(
        {
            name: make(SHARD, profile.limits, profile.recent_orders, START, 0, profile.shares)
            for name, make in makers.items()
        }
    )
    symbols = [limits.symbol for limits in profile.limits[:4]]
    answers: Counter[tuple[ExecType, Reason]] = Counter()
    done, batches, resting, most_resting = 0, 0, 0, 0
    try:
        while done < commands:
            size = _batch_size(random, resting, commands)
            drawn = flow.commands(min(size, commands - done))
            batch = texts.given(drawn)
            rooms = [ROOMS[number] for number in random.integers(0, len(ROOMS), 2)]
            output = pair.process(batch, rooms)
            flow.learn(output.reports)
            done, batches = done + len(drawn), batches + 1
            answers += _answers(output.reports)
            resting = len(pair.books[0].resting())
            most_resting = max(most_resting, resting)
            if random.random() < 0.2 or done == commands:
                pair.check(symbols)
    except Exception as error:
        where = f"after {done} commands and {batches} batches"
        error.add_note(f"{where}; again: {repeat_command(profile_name, seed, commands)}")
        raise
    return Tally(done, batches, most_resting, answers)


def _batch_size(random: np.random.Generator, resting: int, commands: int) -> int:
    """Draw 1 to MAX_BATCH, often few, but not so few that hashing the state is all there is."""
    largest = min(MAX_BATCH, max(commands // 4, 1))
    few = random.random() < 0.3
    size = int(random.integers(1, 4)) if few else int(largest ** random.random())
    return max(size, resting // 2)


def _answers(reports: Records) -> Counter[tuple[ExecType, Reason]]:
    codes = reports["exec_type"].astype(np.uint32) << np.uint32(16) | reports["reason"]
    values, counts = np.unique(codes, return_counts=True)
    return Counter(
        {
            (ExecType(value >> 16), Reason(value & 0xFFFF)): count
            for value, count in zip(values.tolist(), counts.tolist(), strict=True)
        }
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.equality", description=__doc__)
    parser.add_argument("--commands", type=int, default=1_000_000, help="over all profiles")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", choices=PROFILES, help="this one only")
    parser.add_argument("--books", nargs=2, choices=BOOKS, default=list(BOOKS))
    return parser.parse_args()


def main() -> None:
    """Compare over one profile or all, print a line for each and what they covered in all."""
    arguments = _arguments()
    names = [arguments.profile] if arguments.profile else list(PROFILES)
    makers = {name: BOOKS[name] for name in arguments.books}
    share = -(-arguments.commands // len(names))
    started = time.monotonic()
    answers: Counter[tuple[ExecType, Reason]] = Counter()
    commands = 0
    for name in names:
        tally = compare(name, arguments.seed, share, makers)
        answers += tally.answers
        commands += tally.commands
        print(
            f"{name:18}{tally.commands:10,} commands {tally.batches:7,} batches "
            f"{sum(tally.answers.values()):11,} reports {tally.most_resting:9,} orders at most",
            flush=True,
        )
    for (exec_type, reason), count in sorted(answers.items()):
        print(f"  {exec_type.name:14}{reason.name if reason else '':28}{count:12,}")
    seconds = time.monotonic() - started
    equal = " and ".join(arguments.books)
    print(f"equal: {equal}, {commands:,} commands, seed {arguments.seed}, {seconds:.0f} s")


if __name__ == "__main__":
    main()
