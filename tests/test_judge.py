"""The books under the public matching-engine judge: its edge cases and its five workloads."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import judge
from bench.drive import Output, Room, run
from bench.equality import BOOKS, first_difference
from engine.books.contract import Book, Records
from ipc.records import LEVEL
from ipc.vocabulary import Side

ROOMY = (Room(1 << 16, 1 << 16),)
REFERENCE_MESSAGES = 100_000
RECENT_ORDERS = 1 << 16
NONE = {Side.BUY: np.iinfo(np.int64).min, Side.SELL: np.iinfo(np.int64).max}
"""What the judge writes for the best price of an empty side."""


@pytest.fixture(scope="session")
def judge_dir(data_dir: Path) -> Path:
    return data_dir / "judge"


def best_price(book: Book, side: Side) -> int | None:
    level = np.zeros(1, LEVEL)
    return int(level["price"][0]) if book.depth(judge.SYMBOL, side, level) else None


def quantity_at(book: Book, side: Side, price: int) -> int:
    levels = np.zeros(1 << 14, LEVEL)
    levels = levels[: book.depth(judge.SYMBOL, side, levels)]
    return int(levels["quantity"][levels["price"] == price].sum())


# The edge cases --------------------------------------------------------------------------------


def conformance_cases(judge_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (judge_dir / "conformance34.jsonl").open()]


def run_case(book: Book, case: dict[str, Any]) -> tuple[bytes, list[list[int | None]]]:
    """Return the report text of a case and the state after each operation that it gives one for."""
    parts, states = [], []
    operations = case["ops"]
    commands = judge.case_commands(operations)
    each = case["state_after"] == "each op"
    done = 0
    for stop in range(1, len(operations) + 1) if each else [len(operations)]:
        parts.append(judge.rows(run(book, commands[done:stop], ROOMY)))
        done = stop
        _, side, _, _, _, price = operations[stop - 1]
        best = [best_price(book, which) for which in Side]
        states.append([*best, quantity_at(book, Side(side + 1), price)])
    return judge.text(np.concatenate(parts)), states


@pytest.mark.parametrize("name", BOOKS)
def test_every_edge_case_gives_the_judges_reports_and_states(judge_dir: Path, name: str) -> None:
    cases = conformance_cases(judge_dir)
    assert len(cases) == 34
    for case in cases:
        # The judge lets an id be used again as soon as its order ended, where we would remember
        # it: so the book remembers no order but the live ones.
        book = BOOKS[name](0, [judge.LIMITS], 0)
        text, states = run_case(book, case)
        assert text.decode() == "\n".join(case["reports"]), case["note"]
        assert hashlib.sha256(text).hexdigest() == case["sha256"], case["name"]
        assert states == case["state"], case["note"]
        book.check()


def test_an_id_that_a_recent_order_had_is_a_duplicate_here(judge_dir: Path) -> None:
    [case] = [c for c in conformance_cases(judge_dir) if c["name"] == "reuse_id_after_cancel"]
    for make_book in BOOKS.values():
        with pytest.raises(judge.JudgeError, match="not a report of the judge's"):
            run_case(make_book(0, [judge.LIMITS], RECENT_ORDERS), case)


# The workloads ---------------------------------------------------------------------------------


def expected_reports(judge_dir: Path, workload: str) -> Records:
    """Return the judge's own reports of the first REFERENCE_MESSAGES messages."""
    with np.load(judge_dir / f"reports200k_{workload}_s{judge.SEED}.npz") as columns:
        rows = np.zeros(len(columns["seq"]), judge.ROW)
        for field in judge.ROW.names or ():
            rows[field] = columns[field]
    return rows[rows["seq"] < REFERENCE_MESSAGES]


@pytest.mark.parametrize("workload", judge.WORKLOADS)
def test_the_reference_gives_the_judges_reports(judge_dir: Path, workload: str) -> None:
    commands = judge.workload(judge_dir, workload)[:REFERENCE_MESSAGES]
    book = BOOKS["reference"](0, [judge.LIMITS], RECENT_ORDERS)
    rows = judge.rows(run(book, commands, ROOMY))
    names = ("the book", "the judge")
    found = first_difference("report", names, rows, expected_reports(judge_dir, workload))
    assert found is None, found
    digest = judge.ReportDigest()
    digest.update(rows)
    checkpoints = judge.manifest(judge_dir)[workload]["checkpoints"]
    assert digest.hexdigest() == checkpoints[str(REFERENCE_MESSAGES)]
    book.check()


@pytest.mark.parametrize("workload", judge.WORKLOADS)
def test_the_ladder_gives_the_judges_whole_report_stream(judge_dir: Path, workload: str) -> None:
    """About 2 million messages in batches that end where the judge tells its book's state."""
    book = BOOKS["ladder"](0, [judge.LIMITS], RECENT_ORDERS)
    commands = judge.workload(judge_dir, workload)
    with np.load(judge_dir / f"state_{workload}_s{judge.SEED}.npz") as columns:
        samples = [columns[name].tolist() for name in columns.files]
        fields = columns.files
    digest = judge.ReportDigest()
    start = 0
    for sample in zip(*samples, strict=True):
        state = dict(zip(fields, sample, strict=True))
        stop = state["index"] + 1
        digest.update(judge.rows(run(book, commands[start:stop], ROOMY)))
        start = stop
        side = Side(state["side"] + 1)
        bid, ask = (best_price(book, side) or NONE[side] for side in Side)
        assert (bid, ask) == (state["best_bid"], state["best_ask"]), f"after message {stop - 1}"
        assert quantity_at(book, side, state["price"]) == state["depth"], f"message {stop - 1}"
    digest.update(judge.rows(run(book, commands[start:], ROOMY)))
    described = judge.manifest(judge_dir)[workload]
    assert len(commands) == described["messages"]
    assert digest.hexdigest() == described["sha256"]
    book.check()


# The adapter itself ----------------------------------------------------------------------------


def test_the_text_is_that_of_plain_formatting() -> None:
    rng = np.random.default_rng(5)
    rows = np.zeros(70_000, judge.ROW)
    rows["type"] = rng.integers(0, 6, len(rows))
    for field in (judge.ROW.names or ())[1:]:
        rows[field] = rng.integers(0, 10 ** rng.integers(1, 19, len(rows)), dtype=np.uint64)
    rows["price"][:3] = 0, 9, 2**64 - 1
    printed = {
        0: ("seq", "side", "id", "price", "qty"),
        1: ("seq", "price", "qty", "maker", "taker"),
        2: ("seq", "side", "id", "price"),
        3: ("seq", "side", "id", "price", "qty"),
        4: ("seq", "id"),
        5: ("seq", "id"),
    }
    lines = [
        ",".join(str(row[field]) for field in ("type", *printed[int(row["type"])])) for row in rows
    ]
    assert judge.text(rows).decode() == "\n".join(lines)
    digest = judge.ReportDigest()
    for part in (rows[:0], rows[:1], rows[1:1], rows[1:40_000], rows[40_000:]):
        digest.update(part)
    assert digest.hexdigest() == hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("field", ["price", "quantity", "sell_order_id", "sequence", "trade_id"])
def test_a_trade_that_is_not_the_reports_is_an_error(field: str) -> None:
    book = BOOKS["reference"](0, [judge.LIMITS], RECENT_ORDERS)
    output = run(book, judge.case_commands([[0, 1, 0, 5, 1, 100], [0, 0, 0, 5, 2, 100]]), ROOMY)
    assert judge.text(judge.rows(output)) == b"0,0,1,1,100,5\n0,1,0,2,100,5\n1,1,100,5,1,2"
    wrong = output.trades.copy()
    wrong[field] += 1
    with pytest.raises(judge.JudgeError, match="of a report differs from trade"):
        judge.rows(Output(output.reports, wrong))
    with pytest.raises(judge.JudgeError, match="0 trades, but 1 takers"):
        judge.rows(Output(output.reports, wrong[:0]))
