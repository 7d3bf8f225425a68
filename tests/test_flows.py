"""Recorded order flows of real markets: the books give exactly the fills that they must."""

import csv
import gzip
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bench.recorded import recorded_commands
from engine.books.contract import BookLimits, Records
from frontend.replay.flow_file import Flow, FlowFileError, Op, message_of, orders_of, read_flow
from ipc.records import LEVEL, REPORT, TRADE
from ipc.vocabulary import MAX_RESTING_ORDERS, ExecType, Liquidity, Reason, Side
from ipc.wire.matcher_codec import command_row
from ipc.wire.messages import Cancel, NewBracket, NewOco, NewOrder, Reduce, Replace
from tests.books import MakeBook, commands_of, run

BATCH = 4096
NO_LEVEL = 9_999_999_999


@cache
def flow_commands(path: Path) -> tuple[Flow, Records]:
    flow = read_flow(path)
    messages = (message_of(row, 1, number) for number, row in enumerate(flow, start=1))
    return flow, commands_of(messages, account=1, timestamp_ns=1)


def expected_fills(path: Path) -> Iterator[tuple[int, ...]]:
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            names = ("taker_seq", "taker_id", "maker_id", "price", "qty", "maker_left")
            yield tuple(int(row[name]) for name in names)


def fills_of(reports: Records, flow: Flow) -> list[tuple[int, ...]]:
    """Return taker's row and id, maker's id, price, quantity and what the maker has left."""
    trades = reports[reports["exec_type"] == ExecType.TRADE]
    takers = trades[trades["liquidity"] == Liquidity.TAKER]
    makers = trades[trades["liquidity"] == Liquidity.MAKER]
    columns = (
        flow.rows["seq"][takers["sequence"] - 1],
        takers["client_order_id"],
        makers["client_order_id"],
        makers["last_price"],
        makers["last_qty"],
        makers["leaves_qty"],
    )
    return list(zip(*(column.tolist() for column in columns), strict=True))


def limits_of(flow: Flow) -> BookLimits:
    return BookLimits(1, flow.min_price, flow.max_price, MAX_RESTING_ORDERS)


@pytest.mark.parametrize("name", ["GOOG_merged", "BTCUSD"])
def test_fills_of_a_real_flow(make_book: MakeBook, data_dir: Path, name: str) -> None:
    flow, commands = flow_commands(data_dir / f"{name}_flow.csv.gz")
    book = make_book(0, [limits_of(flow)], recent_orders=10_000)
    outcome = run(book, commands, report_room=2 * BATCH, trade_room=BATCH)
    book.check()

    expected = list(expected_fills(data_dir / f"{name}_fills.csv.gz"))
    assert fills_of(outcome.reports, flow) == expected
    assert len(outcome.trades) == len(expected)
    # Post-only orders that would have traded are the only commands that such a flow has rejected.
    rejected = outcome.reports[outcome.reports["exec_type"] == ExecType.REJECTED]
    assert set(rejected["reason"].tolist()) <= {Reason.POST_ONLY_WOULD_TRADE}


def checkpoints(path: Path) -> Iterator[tuple[int, list[list[tuple[int, int]]]]]:
    """Yield the flow's row, and price and size of the asks' and bids' best ten levels."""
    with gzip.open(path, "rt") as file:
        lines = csv.reader(file)
        next(lines)
        for line in lines:
            _, _, seq_merged, *numbers = map(int, line)
            levels = [list(zip(numbers[n::4], numbers[n + 1 :: 4], strict=True)) for n in (0, 2)]
            yield seq_merged, [[x for x in side if abs(x[0]) != NO_LEVEL] for side in levels]


def test_depth_agrees_with_the_exchange(make_book: MakeBook, data_dir: Path) -> None:
    flow, commands = flow_commands(data_dir / "GOOG_merged_flow.csv.gz")
    book = make_book(0, [limits_of(flow)], recent_orders=10_000)
    reports, trades = np.zeros(2 * BATCH, REPORT), np.zeros(BATCH, TRADE)
    levels = np.zeros(10, LEVEL)
    done = checked = 0
    for seq, expected in checkpoints(data_dir / "GOOG_checkpoints.csv.gz"):
        end = int(np.searchsorted(flow.rows["seq"], seq, side="right"))
        while done < end:
            done += book.process(commands[done:end], reports, trades).commands
        for side, ladder in zip((Side.SELL, Side.BUY), expected, strict=True):
            count = book.depth(1, side, levels)
            shown = list(zip(levels["price"].tolist(), levels["quantity"].tolist(), strict=True))
            assert shown[:count] == ladder, f"{side.name} after row {seq}"
            checked += count
    assert checked > 5_000


# The file itself -------------------------------------------------------------------------------

HEADER = "seq,lob_row,ts_ns,op,id,side,price,qty,tif,src"
GOOD = "7,0,34200,N,11,B,100,5,GTC,msg"


def write(path: Path, *lines: str, name: str = "ABC_flow.csv", end: str = "\n") -> Path:
    file = path / name
    file.write_text(end.join(lines) + end)
    return file


def test_a_flow_file_gives_its_rows_in_order(tmp_path: Path) -> None:
    rows = [
        GOOD,
        "8,0,34201,L,12,S,101,6,GTC,msg",
        "9,0,34202,C,11,B,1,5,,msg",
        "10,0,34203,N,13,S,0,7,MKT,msg",
        "11,0,34204,R,12,S,9999,2,,",
    ]
    flow = read_flow(write(tmp_path, HEADER, *rows))
    assert (flow.symbol, flow.min_price, flow.max_price, len(flow)) == ("ABC", 100, 101, 5)
    assert list(flow) == [
        (7, 34200, Op.N, Side.BUY, 100, 5, 11, 1, 0, 0, 0, 0, 0, 0),
        (8, 34201, Op.L, Side.SELL, 101, 6, 12, 1, 0, 0, 0, 0, 0, 0),
        (9, 34202, Op.C, Side.BUY, 1, 5, 11, 0, 0, 0, 0, 0, 0, 0),
        (10, 34203, Op.N, Side.SELL, 0, 7, 13, 4, 0, 0, 0, 0, 0, 0),
        (11, 34204, Op.R, Side.SELL, 9999, 2, 12, 0, 0, 0, 0, 0, 0, 0),
    ]


def test_columns_are_found_by_name_and_gzip_by_its_first_bytes(tmp_path: Path) -> None:
    lines = "tif,id,price,qty,side,op,ts_ns,seq\r\nPO,4,10,3,S,N,2,1\r\n"
    (tmp_path / "X.csv").write_bytes(gzip.compress(lines.encode()))
    flow = read_flow(tmp_path / "X.csv")
    assert (flow.symbol, list(flow)) == (
        "X",
        [(1, 2, Op.N, Side.SELL, 10, 3, 4, 3, 0, 0, 0, 0, 0, 0)],
    )


def test_a_flow_longer_than_a_chunk_is_whole(tmp_path: Path) -> None:
    rows = (f"{n},0,{n},N,{n + 1},B,{100 + n % 7},1,GTC," for n in range(20_000))
    flow = read_flow(write(tmp_path, HEADER, *rows))
    assert [row.seq for row in flow] == list(range(20_000))
    assert (flow.min_price, flow.max_price) == (100, 106)


def test_an_empty_flow_is_a_flow(tmp_path: Path) -> None:
    flow = read_flow(write(tmp_path, HEADER))
    assert (len(flow), list(flow), flow.min_price, flow.max_price) == (0, [], 1, 1)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "line 1: seq: must be in the header once"),
        ([GOOD], "line 1: seq: must be in the header once"),
        ([HEADER.replace("src", "qty")], "line 1: qty: must be in the header once"),
        ([HEADER, GOOD, GOOD + ",1"], "line 3: 11 columns, must be the header's 10"),
        ([HEADER, GOOD, ""], "line 3: 0 columns, must be the header's 10"),
        ([HEADER, GOOD.replace(",N,", ",Q,")], "line 2: op: 'Q', must be one of N, L, X, C, R, M"),
        ([HEADER, GOOD.replace(",B,", ",b,")], "line 2: side: 'b', must be one of B, S"),
        (
            [HEADER, GOOD, GOOD.replace("GTC", "DAY")],
            "line 3: tif: 'DAY', must be one of (empty), GTC, IOC, PO, MKT",
        ),
        (
            [HEADER, GOOD, GOOD.replace(",100,", ",1.5,")],
            "line 3: price: '1.5', must be an integer from 0 to 9007199254740992",
        ),
        ([HEADER, GOOD.replace(",100,", f",{2**53 + 1},")], "line 2: price: '9007199254740993',"),
        ([HEADER, GOOD.replace(",5,", ",-5,")], "line 2: qty: '-5', must be an integer from 0"),
        ([HEADER, GOOD.replace(",11,", ",0,")], "line 2: id: '0', must be an integer from 1"),
        ([HEADER, GOOD.replace("34200", "9" * 99)], f"line 2: ts_ns: '{'9' * 40}...', must be"),
        ([HEADER, "é" + GOOD], "line 2: seq: '\\\\xc3\\\\xa97', must be an integer from 0"),
    ],
)
def test_a_fault_names_file_line_column_and_rule(
    tmp_path: Path, lines: list[str], said: str
) -> None:
    file = write(tmp_path, *lines) if lines else tmp_path / "ABC_flow.csv"
    file.touch()
    with pytest.raises(FlowFileError) as caught:
        read_flow(file)
    assert str(caught.value).startswith(f"{file}: {said}")


def test_the_first_fault_of_a_file_is_the_one_named(tmp_path: Path) -> None:
    early, late = GOOD.replace("GTC", "?"), GOOD.replace("7,", "x,")
    with pytest.raises(FlowFileError, match="line 3: tif"):
        read_flow(write(tmp_path, HEADER, GOOD, early, late))


def test_a_fault_far_down_names_its_line(tmp_path: Path) -> None:
    file = write(tmp_path, HEADER, *[GOOD] * 20_000, GOOD.replace(",B,", ",?,"))
    with pytest.raises(FlowFileError, match="line 20002: side"):
        read_flow(file)


def test_a_packed_byte_that_is_no_ascii_fits_no_rule(tmp_path: Path) -> None:
    lines = f"{HEADER}\n{GOOD.replace('GTC', 'é')}\n"
    (tmp_path / "ABC.csv.gz").write_bytes(gzip.compress(lines.encode()))
    with pytest.raises(FlowFileError, match="line 2: tif"):
        read_flow(tmp_path / "ABC.csv.gz")


def test_a_torn_gzip_file_is_a_fault(tmp_path: Path) -> None:
    packed = gzip.compress("\n".join([HEADER, *[GOOD] * 1000]).encode())
    (tmp_path / "ABC.csv.gz").write_bytes(packed[:-20])
    with pytest.raises(FlowFileError, match="must be a whole gzip file"):
        read_flow(tmp_path / "ABC.csv.gz")


def test_more_rows_than_the_bound_are_a_fault(tmp_path: Path) -> None:
    file = write(tmp_path, HEADER, GOOD, GOOD, GOOD)
    assert len(read_flow(file, max_rows=3)) == 3
    with pytest.raises(FlowFileError, match="line 4: must have at most 2 rows"):
        read_flow(file, max_rows=2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD, NewOrder(3, 9, 11, 1, 2, 1, 100, 5, False)),
        (GOOD.replace(",N,", ",L,"), NewOrder(3, 9, 11, 1, 2, 1, 100, 5, False)),
        (GOOD.replace("GTC", "PO"), NewOrder(3, 9, 11, 1, 2, 1, 100, 5, True)),
        (GOOD.replace("GTC", "IOC"), NewOrder(3, 9, 11, 1, 2, 3, 100, 5, False)),
        ("7,0,1,X,11,S,100,5,IOC,", NewOrder(3, 9, 11, 2, 2, 3, 100, 5, False)),
        ("7,0,1,X,11,S,100,5,GTC,", NewOrder(3, 9, 11, 2, 2, 3, 100, 5, False)),
        ("7,0,1,N,11,S,0,5,MKT,", NewOrder(3, 9, 11, 2, 1, 3, 0, 5, False)),
        ("7,0,1,C,11,S,100,5,,", Cancel(3, 9, 0, 11)),
        ("7,0,1,R,11,S,100,5,,", Reduce(3, 9, 0, 11, 5)),
        ("7,0,1,M,11,S,100,5,,", Replace(3, 9, 0, 11, 100, 5, True)),
    ],
)
def test_the_message_of_a_row(
    tmp_path: Path, line: str, message: NewOrder | Cancel | Reduce | Replace
) -> None:
    [row] = read_flow(write(tmp_path, HEADER, line))
    assert message_of(row, symbol_number=3, request_id=9) == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("N,11,S,0,5,MKT,95", NewOrder(3, 9, 11, 2, 3, 3, 0, 5, False, 95)),
        ("N,11,S,90,5,GTC,95", NewOrder(3, 9, 11, 2, 4, 1, 90, 5, False, 95)),
        ("N,11,S,90,5,GTC,", NewOrder(3, 9, 11, 2, 2, 1, 90, 5, False)),
        ("M,11,S,90,5,,95", Replace(3, 9, 0, 11, 90, 5, True, 95)),
    ],
)
def test_a_file_may_have_stop_prices(
    tmp_path: Path, line: str, message: NewOrder | Replace
) -> None:
    header = "seq,ts_ns,op,id,side,price,qty,tif,stop_price"
    flow = read_flow(write(tmp_path, header, f"7,1,{line}"))
    [row] = flow
    assert message_of(row, symbol_number=3, request_id=9) == message
    assert flow.max_price == max(95 if message.stop_price else 0, message.price or 0)
    [command] = recorded_commands(flow)
    expected = commands_of([message_of(row, 1, 1)], 1, 1)
    assert command.item() == expected[0].item()
    with pytest.raises(FlowFileError, match="line 2: stop_price: 'x', must be an integer"):
        read_flow(write(tmp_path, header, "7,1,N,11,S,90,5,GTC,x"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("N,11,S,90,5,GTC,2", NewOrder(3, 9, 11, 2, 2, 1, 90, 5, display_quantity=2)),
        ("N,11,S,90,5,GTC,", NewOrder(3, 9, 11, 2, 2, 1, 90, 5)),
        ("M,11,S,90,5,,3", Replace(3, 9, 0, 11, 90, 5, True, display_quantity=3)),
    ],
)
def test_a_file_may_have_display_quantities_alone(
    tmp_path: Path, line: str, message: NewOrder | Replace
) -> None:
    header = "seq,ts_ns,op,id,side,price,qty,tif,display_quantity"
    flow = read_flow(write(tmp_path, header, f"7,1,{line}"))
    [row] = flow
    assert message_of(row, symbol_number=3, request_id=9) == message
    [command] = recorded_commands(flow)
    assert command.item() == commands_of([message_of(row, 1, 1)], 1, 1)[0].item()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("N,11,S,90,5,GTC,77,", NewOrder(3, 9, 11, 2, 2, 6, 90, 5, expire_time_ns=77)),
        ("X,11,S,90,5,,,4", NewOrder(3, 9, 11, 2, 2, 3, 90, 5, minimum_quantity=4)),
        ("N,11,S,90,5,,,", NewOrder(3, 9, 11, 2, 2, 1, 90, 5)),
    ],
)
def test_a_file_may_have_times_and_minima(tmp_path: Path, line: str, message: NewOrder) -> None:
    header = "seq,ts_ns,op,id,side,price,qty,tif,expire_time_ns,minimum_quantity"
    flow = read_flow(write(tmp_path, header, f"7,1,{line}"))
    [row] = flow
    assert message_of(row, symbol_number=3, request_id=9) == message
    [command] = recorded_commands(flow)
    assert command.item() == commands_of([message_of(row, 1, 1)], 1, 1)[0].item()


@pytest.mark.parametrize(
    ("line", "message", "orders"),
    [
        ("P,11,S,110,5,GTC,90,,", NewOco(3, 9, 2, 11, 1, 110, 5, 90), 2),
        ("P,11,S,110,5,,90,,85", NewOco(3, 9, 2, 11, 1, 110, 5, 90, 85), 2),
        ("B,11,B,100,5,PO,90,120,", NewBracket(3, 9, 1, 11, 2, 1, 100, 5, 120, 90, 0, True), 3),
        ("B,11,B,0,5,MKT,90,,85", NewBracket(3, 9, 1, 11, 1, 3, 0, 5, 0, 90, 85), 2),
    ],
)
def test_a_file_may_have_lists(
    tmp_path: Path, line: str, message: NewOco | NewBracket, orders: int
) -> None:
    header = "seq,ts_ns,op,id,side,price,qty,tif,stop_price,take_price,stop_limit_price"
    flow = read_flow(write(tmp_path, header, f"7,1,{line}"))
    [row] = flow
    assert message_of(row, symbol_number=3, request_id=9) == message
    given = (row.price, row.stop_price, row.take_price, row.stop_limit_price)
    prices = [price for price in given if price]
    assert (flow.min_price, flow.max_price) == (min(prices), max(prices))
    assert orders_of(flow.rows).tolist() == [orders]
    [command] = recorded_commands(flow)
    expected = command_row(message_of(row, 1, 1), 1, 1)  # type: ignore[arg-type]
    assert command.item() == tuple(expected)


def test_a_row_of_no_known_op_has_no_message(tmp_path: Path) -> None:
    [row] = read_flow(write(tmp_path, HEADER, GOOD))
    with pytest.raises(ValueError, match="op: 9, must be one of"):
        message_of(row._replace(op=9), 1, 1)
