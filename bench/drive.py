"""Runs commands through a book, emptying its buffers as often as they fill."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.books.contract import Book, Records
from ipc.records import REPORT, TRADE


class Output(NamedTuple):
    """All that a book gave for some commands: REPORT and TRADE records, in order."""

    reports: Records
    trades: Records


class Room(NamedTuple):
    """The room that one call of ``Book.process`` gets, in records."""

    reports: int
    trades: int


class StalledError(RuntimeError):
    """A book finished no command and gave nothing, though the largest room was offered."""


def run(book: Book, commands: Records, rooms: Sequence[Room]) -> Output:
    """Process all ``commands`` and return what they gave.

    The calls take ``rooms`` in turn, over and over. Raises StalledError where a whole round of
    them brings nothing forward.
    """
    largest = Room(max(room.reports for room in rooms), max(room.trades for room in rooms))
    reports, trades = np.empty(largest.reports, REPORT), np.empty(largest.trades, TRADE)
    # As bytes: numpy takes its time over each structured array that it joins.
    all_reports: list[bytes] = []
    all_trades: list[bytes] = []
    idle_calls = 0
    for room in itertools.cycle(rooms):
        if not len(commands):
            break
        progress = book.process(commands, reports[: room.reports], trades[: room.trades])
        idle_calls = 0 if any(progress) else idle_calls + 1
        if idle_calls > len(rooms):
            raise StalledError(f"nothing came of {commands[0]} in any room of {rooms}")
        commands = commands[progress.commands :]
        all_reports.append(reports[: progress.reports].tobytes())
        all_trades.append(trades[: progress.trades].tobytes())
    return Output(
        np.frombuffer(b"".join(all_reports), REPORT), np.frombuffer(b"".join(all_trades), TRADE)
    )
