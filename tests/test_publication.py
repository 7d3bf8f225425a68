"""One compiled pass shows what its parts show one after the other, whatever has to grow."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import publication
from engine.account_sequences import AccountSequences
from engine.publication import Publication
from ipc.backend import Link
from ipc.compiled import HAVE_NUMBA
from ipc.records import REPORT, account_of, make_id
from ipc.ring import REPORTS, RingReader, RingWriter, create_ring
from ipc.table import OrderTableWriter, TableFullError, create_table
from ipc.vocabulary import ExecType, Flag, OrdStatus, Reason
from tests.test_codec import reports_of

SHARD = 3
CAPACITY = 64
RING = 16
SYMBOLS = [2, 5]

A_REPORT = st.fixed_dictionaries(
    {
        "exec_type": st.sampled_from([int(exec_type) for exec_type in ExecType]),
        "ord_status": st.sampled_from([int(status) for status in OrdStatus]),
        "symbol": st.sampled_from([0, *SYMBOLS]),
        "flags": st.sampled_from([0, int(Flag.AGGREGATE)]),
        "reason": st.sampled_from([int(reason) for reason in Reason if reason]),
        "account": st.integers(1, 40),
        "order_id": st.integers(1, 50).map(lambda number: make_id(SHARD, number)),
        "price": st.integers(0, 2**64 - 1),
    }
)


class Shown:
    """A publication, and all that it writes to; two connections, which share some accounts."""

    def __init__(self, directory: Path, capacity: int = CAPACITY) -> None:
        directory.mkdir()
        create_table(directory / "orders", SHARD, capacity)
        create_ring(directory / "ring", SHARD, RING, 0, 0, REPORTS)
        self.reports = np.zeros(4096, REPORT)
        self.table = OrderTableWriter(directory / "orders")
        self.numbers = AccountSequences(SHARD)
        self.links = [Link(None), Link(None)]  # type: ignore[arg-type]
        for account in range(1, 30):
            self.links[account % 2].open_stream(account, account)
            self.links[0].open_stream(account, account)
        ring = RingWriter(directory / "ring", REPORTS)
        self.publication = Publication(self.reports, self.table, ring, self.numbers, SYMBOLS)
        self.ring = RingReader(directory / "ring", REPORTS)

    def publish(self, reports: np.ndarray) -> object:
        self.reports[: len(reports)] = reports
        return self.publication.publish(len(reports), self.links)

    def state(self) -> list[object]:
        """Return all that anyone can see of it."""
        return [
            self.table.contents().tobytes(),
            self.ring.last(RING).tobytes(),
            self.ring.published,
            [bytes(link.outbox.unsent()) for link in self.links],
            self.numbers.reports,
            [part.tolist() for part in self.numbers.state()[1:]],
        ]


@pytest.mark.skipif(not HAVE_NUMBA, reason="without numba there is one way only")
@given(st.lists(A_REPORT, max_size=80), st.integers(1, 80))
def test_the_pass_is_equal_to_its_parts(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, int]], batch: int
) -> None:
    directory = tmp_path_factory.mktemp("both")
    compiled, plain = Shown(directory / "compiled"), Shown(directory / "plain")
    reports = reports_of(rows)
    for first in range(0, len(reports), batch):
        part = reports[first : first + batch]
        touched = compiled.publish(part)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(publication, "HAVE_NUMBA", False)
            assert touched == plain.publish(part)
        assert np.array_equal(compiled.reports[: len(part)], plain.reports[: len(part)])
    assert compiled.state() == plain.state()


def test_accounts_and_slots_grow_in_the_midst_of_a_batch(tmp_path: Path) -> None:
    shown = Shown(tmp_path / "grown", capacity=10_000)
    rows = [
        {
            "exec_type": int(ExecType.NEW),
            "account": account_of(f"user {number}"),
            "order_id": make_id(SHARD, number + 1),
            "symbol": SYMBOLS[0],
        }
        for number in range(4096)
    ]
    for _ in range(2):
        assert shown.publish(reports_of(rows)) == ([SYMBOLS[0]], {})
    assert shown.table.live_orders == 4096
    assert shown.numbers.known == 4096
    assert shown.numbers.reports == shown.ring.published == 8192
    assert set(shown.reports["account_sequence"].tolist()) == {make_id(SHARD, 2)}


def test_a_full_table_is_refused_by_name(tmp_path: Path) -> None:
    shown = Shown(tmp_path / "full", capacity=2)
    rows = [
        {"exec_type": int(ExecType.NEW), "account": 1, "order_id": make_id(SHARD, number)}
        for number in (1, 2, 3)
    ]
    with pytest.raises(TableFullError, match=r"2 orders are live.*\(report 2 of 3\)"):
        shown.publish(reports_of(rows))
