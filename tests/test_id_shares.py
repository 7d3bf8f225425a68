"""Each account has a share of the memory of client_order_ids, which no other account takes."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.books.contract import BookLimits, Counters, KeptIds
from engine.books.id_memory import IdShares, block_of, forgotten_before
from engine.journal.snapshot import read_snapshot, snapshots_of
from engine.shard.snapshotter import take_snapshot
from ipc.vocabulary import OrderType, Reason, Side, TimeInForce
from ipc.wire.messages import NewOrder, Reject, Report
from tests.books import Desk, MakeBook
from tests.product import Wire, until
from tests.test_recovery import kill_everything, kill_matcher
from tests.test_serve import Served, served

RECENT = 256
FLOOD = 1_000
ENGINE = f"recent_orders = {RECENT}"
IOC, BUY = int(TimeInForce.IOC), int(Side.BUY)
WIDE = BookLimits(1, 1, 1_000, 1_000)


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("i")


def enter(wire: Wire, client_order_ids: Sequence[int]) -> list[Report | Reject]:
    """Enter orders that end at once; return the first answer to each."""
    limit, ioc = int(OrderType.LIMIT), int(TimeInForce.IOC)
    wire.send(
        *(NewOrder(1, n + 1, id_, BUY, limit, ioc, 50, 1) for n, id_ in enumerate(client_order_ids))
    )
    answers: list[Report | Reject] = []
    while len(answers) < len(client_order_ids):
        message = wire.receive()
        if isinstance(message, Report | Reject) and message.request_id == len(answers) + 1:
            answers.append(message)
    return answers


def flood(serving: Served, ids: int = 0) -> None:
    """Let another account enter more orders than are recent, with ids from ``ids`` on, or none."""
    with Wire(serving.plan, "mallory") as wire:
        for start in range(0, FLOOD, 100):
            numbers = range(start, start + 100)
            enter(wire, [ids + n if ids else 0 for n in numbers])


def repeat(serving: Served, ids: Sequence[int], first: Sequence[int]) -> None:
    """Enter orders again: each is refused, naming the first one."""
    with Wire(serving.plan, "alice") as wire:
        until(lambda: _is_duplicate(wire, ids[0]))
        answers = enter(wire, ids)
    assert [answer.order_id for answer in answers] == list(first)
    assert all(isinstance(answer, Reject) for answer in answers)
    assert {answer.code for answer in answers if isinstance(answer, Reject)} == {
        Reason.DUPLICATE_CLIENT_ORDER_ID
    }


def _is_duplicate(wire: Wire, client_order_id: int) -> bool:
    """Enter an order again; False where its shard is not there yet."""
    (answer,) = enter(wire, [client_order_id])
    if isinstance(answer, Reject) and answer.code == Reason.SHARD_DOWN:
        return False
    assert isinstance(answer, Reject), "the order has been accepted again"
    return True


@pytest.mark.parametrize("with_ids", [True, False], ids=["with ids", "without ids"])
@pytest.mark.parametrize("book", ["ladder", "reference"])
def test_a_flood_of_another_account_displaces_no_id(
    directory: Path, book: str, with_ids: bool
) -> None:
    """Nor after the death of the matcher, of everything, and a snapshot."""
    ids = list(range(1, 41))
    engine = f'{ENGINE}\nbook = "{book}"'
    with served(directory, engine=engine) as serving:
        with Wire(serving.plan, "alice") as wire:
            first = [answer.order_id for answer in enter(wire, ids)]
        flood(serving, 1 if with_ids else 0)
        repeat(serving, ids, first)
        kept = serving.member("matcher", 0).counters["kept_ids"]
        assert kept >= len(ids)
        kill_matcher(serving)
        repeat(serving, ids, first)
        kill_everything(serving)
    with served(directory, engine=engine) as serving:
        repeat(serving, ids, first)
        plan = serving.plan
        take_snapshot(plan, 0)
        (path, *_) = snapshots_of(plan.journal_dir(0))
        assert len(read_snapshot(path).recent) >= RECENT * 15 // 16 * with_ids + len(ids)
        flood(serving, FLOOD if with_ids else 0)
        kill_everything(serving)
    with served(directory, engine=engine) as serving:
        (said,) = (line for line in serving.lines if "commands of its journal" in line)
        assert int(said.split()[3]) <= FLOOD + 50, "it did not begin with the snapshot"
        repeat(serving, ids, first)


# The rules ---------------------------------------------------------------------------------------


def desk(make_book: MakeBook, recent_orders: int, shares: IdShares) -> Desk:
    return Desk(make_book(0, [WIDE], recent_orders, Counters(0, 0, 0), 0, shares))


def send(desk: Desk, account: int, *client_order_ids: int) -> None:
    for client_order_id in client_order_ids:
        desk.new(BUY, 1, 100, account=account, client_order_id=client_order_id, time_in_force=IOC)


def remembered(desk: Desk, account: int) -> list[int]:
    """Return the ids that an account's memory holds."""
    desk.book.check()
    rows = desk.book.recent()
    ids: list[int] = rows["client_order_id"][rows["account"] == account].tolist()
    return ids


def test_the_last_ids_of_an_account_stay_whatever_others_do(make_book: MakeBook) -> None:
    table = desk(make_book, 16, IdShares(4, 100))
    send(table, 1, *range(1, 9))
    for number in range(10):
        send(table, 2, *range(100 * number + 1, 100 * number + 50))
        assert remembered(table, 1) == [5, 6, 7, 8]
    assert len(remembered(table, 2)) == 16


def test_an_account_s_own_orders_displace_its_oldest(make_book: MakeBook) -> None:
    table = desk(make_book, 16, IdShares(4, 100))
    send(table, 1, 1, 2, 3, 4)
    send(table, 2, *range(1, 50))
    send(table, 1, 5)
    send(table, 2, 50)
    assert remembered(table, 1) == [2, 3, 4, 5]
    send(table, 1, 6, 7, 8)
    send(table, 2, *range(51, 90))
    assert remembered(table, 1) == [5, 6, 7, 8]


def test_orders_without_an_id_take_no_place(make_book: MakeBook) -> None:
    table = desk(make_book, 16, IdShares(4, 100))
    send(table, 1, 1, 2, 3, 4)
    send(table, 1, *[0] * 100)
    assert remembered(table, 1) == [1, 2, 3, 4]


def test_where_all_have_too_many_the_oldest_of_all_go_and_are_counted(
    make_book: MakeBook,
) -> None:
    table = desk(make_book, 16, IdShares(4, 10))
    for account in range(1, 6):
        send(table, account, 1, 2, 3, 4)
    send(table, 9, *range(1, 50))
    assert table.book.kept_ids() == KeptIds(10, 10)
    assert [remembered(table, account) for account in range(1, 6)] == [
        [], [], [3, 4], [1, 2, 3, 4], [1, 2, 3, 4],
    ]  # fmt: skip


def test_a_kept_id_of_an_order_that_rests_is_known_after_its_end(make_book: MakeBook) -> None:
    table = desk(make_book, 16, IdShares(4, 100))
    table.new(BUY, 1, 100, account=1, client_order_id=1)
    send(table, 2, *range(1, 50))
    table.cancel(1, account=1)
    [report] = table.new(BUY, 1, 100, account=1, client_order_id=1)
    assert (report.reason, report.order_id) == (Reason.DUPLICATE_CLIENT_ORDER_ID, 1)


@pytest.mark.parametrize(
    ("recent_orders", "block"), [(0, 1), (1, 1), (5, 1), (16, 1), (64, 4), (1000, 8), (65536, 4096)]
)
def test_orders_are_forgotten_by_the_block(recent_orders: int, block: int) -> None:
    assert block_of(recent_orders) == block
    for last in [0, 1, 7, 8, 9, 63, 64, 65, *range(recent_orders - 1, recent_orders + 2 * block)]:
        recent = max(0, last) - forgotten_before(max(0, last), recent_orders)
        assert min(last, recent_orders - block + 1) <= recent <= recent_orders
