"""A book made from what another returned is the other's equal, now and later."""

from itertools import pairwise, product

import numpy as np
import pytest

from bench.drive import Room, run
from bench.equality import BOOKS
from bench.flows import PROFILES, Flow
from engine.books.contract import Book, Counters, Records, state_hash
from tests.books import MakeBook

ROOM = [Room(4_096, 4_096)]
PAIRS = list(product(BOOKS, repeat=2))


def state_of(book: Book) -> tuple[Counters, Records, Records, Records, Records]:
    state = (book.counters(), book.resting(), book.recent(), book.sweeps())
    return *state, book.last_prices()


def copy_of(book: Book, make_book: MakeBook, *given: object) -> Book:
    copy = make_book(0, *given)
    copy.restore(*state_of(book))
    return copy


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("source", "target"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_a_restored_book_goes_on_as_the_one_it_was_taken_from(
    profile: str, source: str, target: str, seed: int
) -> None:
    market = PROFILES[profile]
    given = (market.limits, market.recent_orders, Counters(0, 0, 0), 0, market.shares)
    rng = np.random.default_rng(seed)
    flow = Flow(PROFILES[profile], seed)
    cuts = sorted({0, *rng.integers(1, 3_000, 2).tolist(), 3_000})
    book = BOOKS[source](0, *given)
    for start, end in pairwise(cuts):
        copy = copy_of(book, BOOKS[target], *given)
        copy.check()
        assert state_hash(copy) == state_hash(book)
        commands = flow.commands(end - start)
        expected, got = run(book, commands, ROOM), run(copy, commands, ROOM)
        assert expected.reports.tobytes() == got.reports.tobytes()
        assert expected.trades.tobytes() == got.trades.tobytes()
        copy.check()
        assert state_hash(copy) == state_hash(book)
