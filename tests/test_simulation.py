"""Crashes at every write, sync and rename, and what a checker makes of it: ``bench.simulation``."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from bench.simulation import MakeKeeper, WrongError, simulate
from engine.books.contract import Records
from engine.journal.format import JournalError
from engine.shard.durability import Durability

SEEDS = 300
PARTS = 10


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_is_lost_or_doubled_whatever_crashes(part: int) -> None:
    """Other seeds each time; one that fails says how to repeat it."""
    crashes = snapshots = 0
    for _ in range(SEEDS // PARTS):
        simulation = simulate(secrets.randbits(31))
        crashes += simulation.crashes
        snapshots += simulation.snapshots
    assert crashes > SEEDS // PARTS
    assert snapshots > SEEDS // PARTS


def test_a_seed_repeats_a_run_exactly() -> None:
    runs = [simulate(7) for _ in range(2)]
    assert runs[0].history == runs[1].history
    assert runs[0].history != simulate(8).history


class AnswersFirst(Durability):
    """Keeps a batch after it was carried out and answered."""

    batch: tuple[Records, int] | None = None

    def keep(self, commands: Records, timestamp_ns: int) -> bool:
        self.batch = commands.copy(), timestamp_ns
        return False

    @property
    def waiting(self) -> bool:
        return self.batch is not None or super().waiting

    def ready(self) -> Iterator[Records]:
        if self.batch is not None:
            batch, self.batch = self.batch, None
            yield batch[0]
            super().keep(*batch)
        for _ in super().ready():
            pass


class AnswersBeforeTheSync(Durability):
    """Carries out what is in the file, but maybe not on the disk."""

    def wait(self) -> None:
        pass

    def ready(self) -> Iterator[Records]:
        while self._waiting:
            yield self._waiting.popleft()[1]


class ForgetsTheTorn(Durability):
    """Goes on behind what a crash left, without cutting it off."""

    def _begin(self, recovered: Any, clock: Any) -> None:
        recovered.end.path = None
        super()._begin(recovered, clock)


def first_failure(seeds: int, make_keeper: MakeKeeper = Durability) -> Exception:
    """Return what the first seed that goes wrong raises."""
    for seed in range(seeds):
        try:
            simulate(seed, make_keeper)
        except Exception as error:
            return error
    raise AssertionError(f"{seeds} seeds found nothing")


def test_what_goes_wrong_says_how_to_repeat_it() -> None:
    error = first_failure(200, AnswersFirst)
    assert "repeat: python -m bench.simulation --first" in error.__notes__[0]


@pytest.mark.parametrize("bug", [AnswersFirst, AnswersBeforeTheSync])
def test_a_keeper_that_does_not_keep_its_promise_is_caught(bug: MakeKeeper) -> None:
    """By the checker, or by a start that knows that the end of the journal is lost."""
    assert isinstance(first_failure(200, bug), WrongError | JournalError)


def test_going_on_behind_a_torn_batch_is_caught() -> None:
    assert "is damaged" in str(first_failure(200, ForgetsTheTorn))


def test_removing_what_a_start_may_need_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is behind, and the snapshot that it needs is gone."""
    monkeypatch.setattr("engine.shard.snapshotter._durably_logged", lambda *_: 1 << 40)
    assert "no snapshot can be used" in str(first_failure(400))
