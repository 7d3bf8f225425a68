"""Each account's last reports are there for who comes back, however much others are told."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.shard.account_sequences import AccountSequences
from engine.shard.report_shares import ReportShares
from frontend.gateway.report_history import ReportHistory, TooOldError
from ipc.memory.order_table import create_table
from ipc.memory.order_table_reader import OrderTableReader
from ipc.memory.ring import REPORTS, RingReader, RingWriter, create_ring
from ipc.records import REPORT, make_id
from ipc.vocabulary import ExecType
from ipc.wire.frames import FrameSplitter
from ipc.wire.messages import MAX_BODY, NewOrder, Report, server_decoder
from tests.product import Wire
from tests.test_recovery import kill_everything, kill_matcher
from tests.test_serve import Served, served

SHARE = 32
ENGINE = f"ring_reports = 256\nkept_reports = 256\naccount_reports = {SHARE}"


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("p")


def flood(serving: Served) -> None:
    """Let another account be told four times as much as both rings hold."""
    with Wire(serving.plan, "mallory") as wire:
        for _ in range(20):
            wire.send(*(NewOrder(1, n, 0, 1, 2, 3, 50, 1) for n in range(1, 51)))
            wire.until(lambda m: isinstance(m, Report) and m.request_id == 50)


def missed(serving: Served, position: int) -> list[bytes]:
    """Come back, and return the reports after a position."""
    with Wire(serving.plan, "carol", resume=[position]) as wire:
        assert wire.welcome is not None
        last = wire.welcome.account_sequences[0]
        return [repr(wire.receive()).encode() for _ in range(last - position)]


@pytest.mark.parametrize("book", ["ladder", "reference"])
def test_a_flood_of_another_account_displaces_no_report(directory: Path, book: str) -> None:
    """Nor after the death of the matcher and of everything."""
    engine = f'{ENGINE}\nbook = "{book}"'
    with served(directory, engine=engine) as serving:
        with Wire(serving.plan, "carol") as wire:
            wire.send(*(NewOrder(1, n + 1, 0, 1, 2, 1, 50, 1) for n in range(SHARE)))
            told = [wire.receive() for _ in range(SHARE)]
        assert all(isinstance(m, Report) and m.exec_type == ExecType.NEW for m in told)
        expected = [repr(message).encode() for message in told]
        position = make_id(0, 0)
        flood(serving)
        assert missed(serving, position) == expected
        assert missed(serving, position + 30) == expected[30:]
        assert serving.member("matcher", 0).counters["displaced_reports"] == 0
        kill_matcher(serving)
        flood(serving)
        assert missed(serving, position)[: len(expected)] == expected
        kill_everything(serving)
    with served(directory, engine=engine) as serving:
        flood(serving)
        assert missed(serving, position)[: len(expected)] == expected


# The rings alone ---------------------------------------------------------------------------------


class Rings:
    """The two rings of a shard, and who reads them."""

    def __init__(self, directory: Path, capacity: int, kept: int, share: int, most: int) -> None:
        paths = directory / "reports", directory / "kept"
        for path, size in zip(paths, (capacity, kept), strict=True):
            create_ring(path, 0, size, 0, 0, REPORTS)
        self.ring, self.kept = (RingWriter(path, REPORTS) for path in paths)
        self.numbers = AccountSequences(0)
        self.shares = ReportShares(self.ring, self.kept, self.numbers, share, most)
        rings = ({0: RingReader(path, REPORTS)} for path in paths)
        create_table(directory / "orders", 0, 1)
        self.history = ReportHistory(*rings, {0: OrderTableReader(directory / "orders")})

    def tell(self, *accounts: int) -> None:
        """Publish a report to each of these accounts, as one round."""
        reports = np.zeros(len(accounts), REPORT)
        reports["account"], reports["exec_type"] = accounts, ExecType.NEW
        self.shares.make_way()
        first = self.numbers.number(reports)
        self.ring.publish_new(reports, first)
        self.shares.take(reports)
        assert self.kept.published <= self.kept.reserved, "a row without memory was written"

    def told(self, account: int, last_reports: int) -> list[int]:
        """Return the numbers of an account's last reports, as who comes back gets them."""
        last = self.numbers.last(account)
        frames = self.history.frames(account, last - last_reports, last)
        bodies = [body for _, body in FrameSplitter(MAX_BODY).feed(frames)]
        numbers = [server_decoder.decode(body).account_sequence for body in bodies]  # type: ignore[union-attr]
        assert numbers == list(range(last - last_reports + 1, last + 1))
        return numbers


MakeRings = Callable[..., Rings]


@pytest.fixture
def make_rings(tmp_path: Path) -> MakeRings:
    return lambda *given: Rings(tmp_path, *given)


@pytest.mark.parametrize("capacity", [64, 512])
def test_the_last_reports_of_many_accounts_stay(
    make_rings: MakeRings, capacity: int, seed: int
) -> None:
    """Also where a round publishes more than the ring holds."""
    rings = make_rings(capacity, 512, 8, 200)
    random = np.random.default_rng(seed)
    for _ in range(300):
        accounts = np.minimum(random.geometric(0.1, int(random.integers(1, 200))), 40)
        rings.tell(*accounts.tolist())
    for account in range(1, 41):
        count = min(8, rings.numbers.last(account))
        assert len(rings.told(account, count)) == count
        assert rings.history.newest(0, account) == rings.numbers.last(account)
    assert rings.shares.displaced == 0


def test_where_all_have_too_many_the_oldest_go_and_are_counted(make_rings: MakeRings) -> None:
    rings = make_rings(64, 64, 8, 10)
    for account in range(1, 100):
        rings.tell(*[account] * 8)
    assert rings.shares.displaced > 0
    with pytest.raises(TooOldError, match=r"the oldest kept is [2-9]$"):
        rings.told(1, 8)
    assert len(rings.told(99, 8)) == 8
