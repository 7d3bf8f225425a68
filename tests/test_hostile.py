"""The bench of hostile clients: each attack runs and stops, and what is lost is found."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from bench.hostile.aimed import aimed_ids
from bench.hostile.checks import check_numbers, check_share
from bench.hostile.crowd import ATTACKS
from bench.hostile.honest import reports_of
from bench.hostile.run import GENERATORS, Bench, Kind, Outcome, Plan, settings
from bench.load import generators
from bench.products import Product
from frontend.demo.checks import both_sides
from ipc.arrays import Records
from ipc.records import ORDER, TRADE, make_id
from ipc.wire.client_codec import report_records
from ipc.wire.frames import frame
from ipc.wire.messages import MassCancelReport, Reject, Report
from tests.product import running


@pytest.fixture(scope="module")
def outcome() -> Iterator[Outcome]:
    """What one foe of each attack does within a few seconds, beside few honest orders."""
    plan = Plan(
        seconds=3,
        clients=len(ATTACKS),
        rounds=1,
        orders_s=500,
        reads_s=10,
        only=(),
        keyed=True,
        pin=False,
        seed=1,
        settle_s=0,
        warm_commands=2_000,
    )
    config, keys = settings(plan)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="sb-")))
        senders = stack.enter_context(generators(len(GENERATORS)))
        product = Product(stack.enter_context(running(config)))
        yield Bench(plan, product, keys, scratch, senders).run()


def test_every_attack_runs_and_stops(outcome: Outcome) -> None:
    [hostile] = [phase for phase in outcome.phases if phase.kind is Kind.HOSTILE]
    assert hostile.tolls.keys() == ATTACKS.keys()
    for name, toll in hostile.tolls.items():
        assert toll.turns + toll.refused + toll.overdue > 0, name
    assert sum(toll.sent_bytes for toll in hostile.tolls.values()) > 0


def test_nothing_of_the_honest_ones_is_lost(outcome: Outcome) -> None:
    assert outcome.lost == []
    assert outcome.trades > 0
    assert all(phase.orders >= 1_500 for phase in outcome.phases)


def story() -> tuple[Records, Records, Records]:
    """Return fills, orders and log: one trades alone, with a stranger, and strangers trade."""
    log = np.zeros(4, TRADE)
    log["trade_id"] = [make_id(0, 1), make_id(0, 2), make_id(1, 1), make_id(0, 3)]
    log["price"], log["quantity"] = 100, [5, 3, 2, 7]
    log["buy_order_id"], log["sell_order_id"] = [1, 8, 2, 8], [2, 1, 9, 9]
    log["taker_side"] = 1
    orders = np.zeros(2, ORDER)
    orders["order_id"], orders["cum_qty"] = [1, 2], [8, 7]
    sides = both_sides(log)
    return sides[np.isin(sides["order_id"], [1, 2])], orders, log


def test_what_was_told_is_found_in_the_log_beside_the_trades_of_others() -> None:
    fills, orders, log = story()
    assert len(fills) == 4
    assert check_share(fills, orders, log) is None
    assert check_share(fills[::-1], orders[::-1], log) is None
    assert check_numbers(log, [0, 1]) is None


CHANGES: dict[str, Callable[[Records, Records, Records], tuple[Records, Records, Records]]] = {
    "a fill that was not told": lambda fills, orders, log: (fills[1:], orders, log),
    "a fill that was told twice": lambda fills, orders, log: (fills[[0, 0, 1, 2, 3]], orders, log),
    "a trade that is not logged": lambda fills, orders, log: (fills, orders, log[1:]),
    "a trade that is logged twice": lambda fills, orders, log: (
        fills,
        orders,
        log[[0, 0, 1, 2, 3]],
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_missing_or_there_twice_is_named(name: str) -> None:
    found = check_share(*CHANGES[name](*story()))
    assert found is not None
    assert f"trade {make_id(0, 1)}" in found


def test_what_differs_is_named() -> None:
    fills, orders, log = story()
    fills["price"][-1] = 101
    assert f"trade {fills['trade_id'][-1]}" in str(check_share(fills, orders, log))
    fills, orders, log = story()
    orders["cum_qty"][1] = 8
    assert "order 2: its last report says cum_qty 8" in str(check_share(fills, orders, log))


@pytest.mark.parametrize("rows", [[0, 1, 2], [1, 0, 2, 3], [0, 1, 1, 2, 3], [1, 2, 3]])
def test_a_log_with_a_gap_a_repetition_or_out_of_order_is_found(rows: list[int]) -> None:
    log = story()[2]
    log["trade_id"][2] = make_id(0, 4)
    assert check_numbers(log[[0, 1, 3, 2]], [0]) is None
    assert "shard 0" in str(check_numbers(log[rows], [0]))


def test_all_that_a_client_got_becomes_records() -> None:
    messages: list[Report | Reject | MassCancelReport] = [
        Report(0, 0, 1, 1, 1, 2, 1, 0, 0, 0, 1, n, n, n, 100, 5, 0, 5, 0, 0, 0, 1, n, n)
        for n in range(1, 20_000)
    ]
    messages[5] = Reject(2, 1, 77, 0, 3, 33, "UNKNOWN_ORDER", "order_id", "must be known", 1, 6, 6)
    messages[-1] = MassCancelReport(0, 1, 2, 1, 0, 0)
    data = b"".join(map(frame, messages))
    assert np.array_equal(reports_of(data), report_records(messages))
    assert np.array_equal(reports_of(data[:-3]), report_records(messages[:-1]))


def test_aimed_ids_had_one_hash() -> None:
    account, place = 0x1234_5678_9ABC_DEF1, 3
    ids = aimed_ids(account, place, 5_000, 1_000)
    assert len(np.unique(ids)) == 1_000
    hashes = set()
    for client_order_id in ids.tolist():
        assert 0 < client_order_id < 1 << 63
        mixed = client_order_id ^ place * 0xC2B2AE3D27D4EB4F ^ account * 0x9E3779B97F4A7C15
        mixed = mixed * 0xFF51AFD7ED558CCD % (1 << 64)
        mixed = (mixed ^ mixed >> 29) * 0x9E3779B97F4A7C15 % (1 << 64)
        hashes.add(mixed >> 32)
    assert len(hashes) == 1
