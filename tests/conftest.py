"""Fixtures that many tests share."""

import compileall
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from engine.warm import warm
from engine.warm_apart import warm_apart
from frontend.roles import ROLES
from ipc.memory.mapping import run_directory
from tests.books import BOOKS, WIDE, Desk, MakeBook
from tests.fork_server import ROOT

# A run of a random test says how to repeat it; its speed is not a fault.
settings.register_profile("shardbook", deadline=None, print_blob=True)
settings.load_profile("shardbook")


LONG = ["recovery", "simulation", "faults", "ladder", "serve", "kills", "judge", "differential"]
"""Files that take longest: they come first, so that no worker is left with one at the end."""

PACKAGES = ["bench", "engine", "frontend", "ipc", "tests"]

pytest_plugins = [
    "tests.product",
    "tests.postgres",
    "tests.mongo",
    "tests.redis_server",
    "tests.kafka_brokers",
    "tests.histories",
    "tests.failing_disk",
    "tests.peer",
    "tests.two_machines",
    "tests.browser",
]


def pytest_configure(config: pytest.Config) -> None:
    """Keep to the order that ``LONG`` makes."""
    config.option.loadscopereorder = False


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile on all cores what numba's cache does not have, before several workers would.

    Python's own code too: tests start many interpreters, also where these would keep nothing.
    """
    if not (session.config.option.collectonly or hasattr(session.config, "workerinput")):
        for package in PACKAGES:
            compileall.compile_dir(ROOT / package, quiet=2, rx=re.compile("/test_"))
        warm_apart("ladder", ROLES.warm, lambda text: None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the files that take long first; skip what needs servers that nobody has started."""
    if "servers" not in config.option.markexpr:
        for item in items:
            if "servers" in item.keywords:
                item.add_marker(pytest.mark.skip("needs servers: .ci/servers, then -m servers"))
    places = {f"test_{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Load, or compile, before a test's time counts."""
    if session.items and not session.config.option.collectonly:
        warm("ladder", ROLES.warm)


@pytest.fixture(scope="session", autouse=True)
def shared_memory_is_given_back(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Remove what tests of killed and halved products leave in shared memory."""
    yield
    for directory, _, _ in os.walk(tmp_path_factory.getbasetemp()):
        shutil.rmtree(run_directory(Path(directory)), ignore_errors=True)


@pytest.fixture(autouse=True)
def umask_is_given_back() -> Iterator[None]:
    """A command keeps its files from others, also where it is run in the test's own process."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of a random test; printed, with the command that repeats it, where it fails."""
    seed = int(os.environ.get("SHARDBOOK_SEED") or secrets.randbits(32))
    print(f"repeat: SHARDBOOK_SEED={seed} python -m pytest '{request.node.nodeid}'")
    return seed


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
