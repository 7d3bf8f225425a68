"""Fixtures that many tests share."""

import os
from pathlib import Path

import pytest

from tests.books import BOOKS, WIDE, Desk, MakeBook


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Where the recorded order flows and public cases lie; without them the test is skipped."""
    directory = os.environ.get("SHARDBOOK_DATA")
    if not directory:
        pytest.skip("SHARDBOOK_DATA is not set: it names the directory of the recorded data")
    return Path(directory)


@pytest.fixture(params=BOOKS)
def make_book(request: pytest.FixtureRequest) -> MakeBook:
    """The constructor of each implementation of a book in turn."""
    return BOOKS[request.param]


@pytest.fixture
def desk(make_book: MakeBook) -> Desk:
    """A desk at a book of one symbol, shard 0, that remembers the last 1,000 orders."""
    return Desk(make_book(0, [WIDE], 1000))
