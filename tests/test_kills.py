"""Processes killed under load from eight clients: what these are told is what is kept.

``python -m bench.kills`` does the same for as long as it is let.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.kill_check import check_entries, check_numbers, check_order_of_log
from bench.kills import KINDS, kills_config, run
from engine.config import parse_config
from engine.plan import Plan
from ipc.records import REPORT, TRADE, make_id
from ipc.vocabulary import ExecType

KILLED = frozenset(KINDS)


@pytest.mark.parametrize(("when_down", "kills"), [("reject", 28), ("hold", 28)])
def test_nobody_is_told_what_is_not_kept(when_down: str, kills: int, seed: int) -> None:
    with TemporaryDirectory(prefix="sb-") as directory:
        outcome = run(kills_config(when_down=when_down), Path(directory), kills, seed)
    assert outcome.differences == []
    assert sum(outcome.kills[r] for r in KILLED) >= kills
    assert min(outcome.kills.values()) > 0
    assert {"persister stopped", "query stopped"} <= outcome.kills.keys()
    assert {"matcher without room", "persister without room"} <= outcome.kills.keys()


# The checks themselves ---------------------------------------------------------------------------


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two shards that nobody runs."""
    return Plan(parse_config(kills_config(), "kills"), tmp_path)


def told(*numbers: int) -> Any:
    """Return reports with these numbers."""
    reports = np.zeros(len(numbers), REPORT)
    reports["account_sequence"] = numbers
    return reports


def test_missing_and_doubled_reports_are_found(plan: Plan) -> None:
    second = [make_id(1, 1), make_id(1, 2)]
    assert check_numbers(plan, "a", told(1, 2, 0, *second, 3)) is None
    for wrong in ([1, 3], [2], [1, 1, 2], [1, *second, second[1]]):
        found = check_numbers(plan, "a", told(*wrong))
        assert found is not None
        assert "missing or were told twice" in found


def entered(*orders: tuple[int, int]) -> Any:
    """Return acceptances of orders, each a client_order_id and an order_id."""
    reports = np.zeros(len(orders), REPORT)
    reports["exec_type"] = ExecType.NEW
    for report, (client_order_id, order_id) in zip(reports, orders, strict=True):
        report["client_order_id"], report["order_id"] = client_order_id, order_id
    return reports


def test_doubled_orders_and_wrong_outcomes_are_found() -> None:
    trader: Any = SimpleNamespace(user_id="a", duplicates={5: 70})
    assert check_entries(trader, entered((4, 60), (5, 70))) is None
    for reports, text in (
        (entered((4, 60), (5, 70), (4, 61)), "order 4 was entered more than once"),
        (entered((4, 60), (5, 71)), "order 5 was entered as 71, its repetition was told 70"),
        (entered((4, 60)), "order 5 was entered as None"),
    ):
        found = check_entries(trader, reports)
        assert found is not None
        assert text in found


def test_a_log_with_a_hole_or_a_double_is_found(plan: Plan) -> None:
    def log(*ids: int) -> Any:
        trades = np.zeros(len(ids), TRADE)
        trades["trade_id"] = ids
        return trades

    assert check_order_of_log(plan, log(1, make_id(1, 1), 2, make_id(1, 2))) is None
    for wrong in ((1, 3), (2, 1), (1, 1), (make_id(1, 2),)):
        assert check_order_of_log(plan, log(*wrong)) is not None
