"""The numbers of a shard's reports: of all of them, and of each account's own.

An account's reports are numbered without a gap, so that a client knows what it has missed and a
frontend where to go on. The numbers follow from the reports alone, in the order in which the book
gave them: a replay of the same commands gives the same numbers. The answer to a mass cancel over
all shards is for the frontend, which adds the shards up, and has no number. Nor has what is told to
an account before its first accepted order: who only asks leaves nothing behind.

Users choose the numbers of their accounts, by their user ids: where one is kept is keyed with the
shard's secret.
"""

from typing import Any, NamedTuple

import numpy as np

from engine.books.secret import factors
from ipc.arrays import Records, Words
from ipc.codes import EXEC_TYPE_MASS_CANCELED, EXEC_TYPE_REJECTED, FLAG_AGGREGATE
from ipc.native.compiled import compiled, inlined
from ipc.native.keyed_kernel import home_of
from ipc.native.views import address_of
from ipc.records import REPORT, make_id

_START_SLOTS = 1024

NUMBERING = np.dtype(
    [
        (name, "<u8")
        for name in ("accounts", "sequences", "slots", "known", "reports", "base", "factor")
    ]
)
"""Where the counters of a shard are, for compiled code, and what they have come to."""
_ACCOUNTS, _SEQUENCES, _SLOTS, _KNOWN, _REPORTS, _BASE, _FACTOR = range(7)
PROBE_LIMIT = 128
"""Accounts that may be passed over in one search; one that does has the table made anew."""


class SequenceState(NamedTuple):
    """All that numbers the next report: how many there were, and each account's last number."""

    reports: int
    accounts: Words
    sequences: Words


@inlined
def find_slot(account: Any, factor: Any, accounts: Words) -> Any:
    """Return the slot that an account has in an open-addressed table, or where it would go."""
    mask = np.uint64(len(accounts) - 1)
    slot = home_of(account, factor, len(accounts))
    while accounts[slot] != np.uint64(0) and accounts[slot] != account:
        slot = (slot + np.uint64(1)) & mask
    return slot


@compiled
def slot_of(account: np.uint64, factor: np.uint64, accounts: Words) -> int:
    """``find_slot`` by itself."""
    return int(find_slot(account, factor, accounts))


@inlined
def number_report(
    report: Any, base: Any, factor: Any, accounts: Words, sequences: Words, room: int
) -> int:
    """Number one report; return how many accounts are new by it, 0 or 1.

    -1, and nothing is done: its account would be one more than there is ``room`` for, or takes too
    long to find.
    """
    if report["exec_type"] == EXEC_TYPE_MASS_CANCELED and report["flags"] & FLAG_AGGREGATE:
        report["account_sequence"] = 0
        return 0
    new = 0
    slot = find_slot(report["account"], factor, accounts)
    passed = np.uint64(slot) - home_of(report["account"], factor, len(accounts))
    if passed & np.uint64(len(accounts) - 1) > np.uint64(PROBE_LIMIT):
        return -1
    if accounts[slot] == np.uint64(0):
        if (
            report["exec_type"] == EXEC_TYPE_REJECTED
            or report["exec_type"] == EXEC_TYPE_MASS_CANCELED
        ):
            report["account_sequence"] = 0
            return 0
        if room <= 0:
            return -1
        accounts[slot] = report["account"]
        new = 1
    sequences[slot] += np.uint64(1)
    report["account_sequence"] = np.uint64(base) | sequences[slot]
    return new


@compiled
def number_reports(
    reports: Records,
    start: int,
    base: int,
    factor: Any,
    accounts: Words,
    sequences: Words,
    room: int,
) -> tuple[int, int]:
    """Number ``reports`` from ``start`` on; stop where ``number_report`` does not number one.

    Returns the first report without a number, and how many accounts were new.
    """
    new = 0
    for index in range(start, len(reports)):
        more = number_report(reports[index], base, factor, accounts, sequences, room - new)
        if more < 0:
            return index, new
        new += more
    return len(reports), new


@compiled
def place_all(accounts: Words, sequences: Words, factor: Any, into: Words, beside: Words) -> None:
    """Put accounts, each once, into an empty open-addressed table."""
    for index in range(len(accounts)):
        slot = find_slot(accounts[index], factor, into)
        into[slot] = accounts[index]
        beside[slot] = sequences[index]


class AccountSequences:
    """The counters of one shard. Memory: 32 to 64 bytes for each account that ever had an order."""

    def __init__(self, shard: int, secret: int = 0) -> None:
        """Begin with none. ``secret`` is the shard's, and decides which accounts share a place."""
        record = np.zeros(1, NUMBERING)
        self.address = address_of(record)
        """Where the NUMBERING record of these counters is."""
        self._words = record.view(np.uint64).data
        self.base = make_id(shard, 0)
        self._words[_BASE] = self.base
        self._secret, self.generation = secret, -1
        self._draw_factor()
        self._take(np.zeros(_START_SLOTS, np.uint64), np.zeros(_START_SLOTS, np.uint64))

    @property
    def reports(self) -> int:
        """How many reports were numbered so far, those without an account's number too."""
        return self._words[_REPORTS]

    @property
    def known(self) -> int:
        """How many accounts have a number."""
        return self._words[_KNOWN]

    def _take(self, accounts: Words, sequences: Words) -> None:
        """Count on in these: by slot, an open-addressed table that is at most half full."""
        self.accounts, self.sequences = accounts, sequences
        words = self._words
        words[_ACCOUNTS], words[_SEQUENCES] = address_of(accounts), address_of(sequences)
        words[_SLOTS] = len(accounts)

    def number(self, reports: Records) -> int:
        """Fill in ``account_sequence`` of REPORT records, in their order.

        Returns the number of the first of them among all of the shard: where it stands in the
        report ring.
        """
        first, done = self.reports + 1, 0
        while len(reports):
            done, new = number_reports(
                reports,
                done,
                self.base,
                self.factor,
                self.accounts,
                self.sequences,
                self.room,
            )
            self._words[_KNOWN] += new
            if done == len(reports):
                break
            self.grow()
        self._words[_REPORTS] += len(reports)
        return first

    @property
    def room(self) -> int:
        """How many further accounts there is room for before ``grow``."""
        return len(self.accounts) // 2 - self.known

    def last(self, account: int) -> int:
        """Return the account_sequence of an account's newest report.

        Where there was none yet it is the shard's id of 0, after which the first one comes.
        """
        slot = slot_of(np.uint64(account), self.factor, self.accounts)
        return self.base | int(self.sequences[slot])

    def state(self) -> SequenceState:
        """Return a copy of the counters, by account: equal counters, equal arrays."""
        known = np.flatnonzero(self.accounts)
        known = known[np.argsort(self.accounts[known])]
        return SequenceState(self.reports, self.accounts[known], self.sequences[known])

    def restore(self, state: SequenceState) -> None:
        """Go on from counters that ``state`` returned."""
        self._words[_REPORTS], self._words[_KNOWN] = state.reports, len(state.accounts)
        slots = _START_SLOTS
        while slots // 2 < self.known:
            slots *= 2
        self._take(np.zeros(slots, np.uint64), np.zeros(slots, np.uint64))
        place_all(state.accounts, state.sequences, self.factor, self.accounts, self.sequences)

    def grow(self) -> None:
        """Make room for twice as many accounts where there is none, and let others collide."""
        slots = len(self.accounts) * (1 if self.room > 0 else 2)
        self._draw_factor()
        accounts, sequences = np.zeros(slots, np.uint64), np.zeros(slots, np.uint64)
        known = np.flatnonzero(self.accounts)
        place_all(self.accounts[known], self.sequences[known], self.factor, accounts, sequences)
        self._take(accounts, sequences)

    def _draw_factor(self) -> None:
        self.generation += 1
        [factor] = factors(self._secret, b"accounts", self.generation, 1)
        self.factor = np.uint64(factor)
        self._words[_FACTOR] = factor


def warm() -> None:
    """Compile or load what numbers."""
    reports = np.zeros(1, REPORT)
    reports["account"] = 1
    counters = AccountSequences(0)
    counters.number(reports)
    counters.restore(counters.state())
    counters.last(1)
