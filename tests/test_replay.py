"""Replay: recorded flows through a running engine give the recorded fills, log and books."""

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import ConfigError, parse_config
from engine.plan import Plan
from engine.trade_log.log import read_trades
from frontend.client import Client
from frontend.client.errors import AnswerTimeoutError, InvalidOrderError
from frontend.launch import running_engine
from frontend.replay.fill_file import FillFile
from frontend.replay.flow_file import FLOW_ROW, Flow, Op, Tif, read_flow
from frontend.replay.run import config_for, most_live, replay
from frontend.replay.sender import DAY_NS, FENCE_ID, ReplayError, ReplayRun, interleave
from ipc.records import make_id
from ipc.vocabulary import Liquidity, Side
from ipc.wire.messages import Login, Report
from tests.peer import Caller, Peer
from tests.product import make_config, running

HEADER = "seq,ts_ns,op,id,side,price,qty,tif\n"
COLUMNS = "taker_seq,taker_id,fill_no,maker_id,price,qty,maker_left"


def flow_of(symbol: str, rows: Sequence[tuple[int, ...]]) -> Flow:
    """Return a flow of rows (seq, ts_ns, op, side, price, qty, id, tif), of plain orders."""
    return Flow(symbol, np.array([(*row, *[0] * 6) for row in rows], FLOW_ROW), 1, 1000)


def lines_of(out: io.StringIO | Path) -> list[str]:
    """Return the lines of a file of fills."""
    return (out.getvalue() if isinstance(out, io.StringIO) else out.read_text()).splitlines()


def test_a_flow_may_have_lists(tmp_path: Path) -> None:
    """Of a pair one trades and takes the other along; a bracket's exits come with its fill."""
    flow, fills = tmp_path / "AA_1.csv", tmp_path / "fills.csv"
    flow.write_text(
        "seq,ts_ns,op,id,side,price,qty,tif,stop_price,take_price,stop_limit_price\n"
        "1,1,P,1,B,90,4,GTC,110,,111\n2,2,B,named,S,100,5,GTC,120,80,\n3,3,N,7,B,100,5,GTC,,,\n"
        "4,4,N,8,S,85,4,GTC,,,\n5,5,N,9,S,80,5,GTC,,,\n6,6,C,named.3,B,0,0,,,,\n7,7,C,2,B,0,0,,,,\n"
    )
    told = replay([flow], fills=fills)
    assert (told.commands, told.orders, told.trades) == (7, 8, 3)
    assert told.rejects == {"UNKNOWN_ORDER": 2}
    lines = fills.read_text().splitlines()[1:]
    assert lines == ["3,7,0,named,100,5,0", "4,8,0,1,90,4,0", "5,9,0,named.2,80,5,0"]


# The fills -------------------------------------------------------------------------------------


def trade(
    trade_id: int,
    order: int,
    liquidity: Liquidity,
    leaves: int = 0,
    request: int = 0,
    symbol: int = 1,
) -> Report:
    """Return one side's report of a trade of 5 at 100."""
    head = (15, 1, 1, symbol, 1, 2, 1, 0, int(liquidity), 0, 0, request, 1000 + order, order)
    return Report(*head, 100, 50, 5, leaves, 100, 5, trade_id, 1, 1, 0)


TAKER, MAKER = Liquidity.TAKER, Liquidity.MAKER


def test_fills_are_numbered_by_row_and_have_both_sides() -> None:
    out = io.StringIO(newline="")
    fills = FillFile({1: "AA"}, out)
    fills.answered(1, 900, 44)
    for report in (
        trade(1, 7, TAKER, request=900),
        trade(1, 3, MAKER, leaves=2),
        trade(2, 7, TAKER, request=900),
        trade(2, 4, MAKER),
    ):
        fills.add(report)
    fills.answered(1, 901, 45)
    fills.add(trade(3, 8, TAKER, request=901))
    fills.add(trade(3, 5, MAKER, leaves=1))
    fills.finish()
    assert out.getvalue().split("\r\n") == [
        COLUMNS, "44,7,0,3,100,5,2", "44,7,1,4,100,5,0", "45,8,0,5,100,5,1", "",
    ]  # fmt: skip
    assert fills.trades == 3


def test_a_side_of_another_account_is_empty() -> None:
    out = io.StringIO(newline="")
    fills = FillFile({1: "AA"}, out)
    fills.answered(1, 900, 44)
    fills.add(trade(1, 7, TAKER, request=900))
    fills.add(trade(2, 7, TAKER, request=900))
    fills.add(trade(2, 4, MAKER))
    fills.add(trade(3, 5, MAKER, leaves=9))
    fills.add(trade(4, 6, TAKER, request=12345))
    fills.finish()
    assert lines_of(out)[1:] == [
        "44,7,0,,100,5,", "44,7,1,4,100,5,0", ",,,5,100,5,9", ",6,,,100,5,",
    ]  # fmt: skip
    assert fills.trades == 4


def test_several_symbols_have_a_column_and_do_not_mix() -> None:
    out = io.StringIO(newline="")
    fills = FillFile({1: "AA", 2: "BB"}, out)
    fills.answered(1, 900, 44)
    fills.answered(2, 901, 44)
    fills.add(trade(1, 7, TAKER, request=900))
    fills.add(trade(9, 8, TAKER, request=901, symbol=2))
    fills.add(trade(1, 3, MAKER))
    fills.add(trade(9, 4, MAKER, symbol=2))
    assert lines_of(out) == [f"symbol,{COLUMNS}", "AA,44,7,0,3,100,5,0", "BB,44,8,0,4,100,5,0"]


# The order of rows, and room for them ----------------------------------------------------------


def test_flows_of_one_clock_are_interleaved_by_it() -> None:
    which, due = interleave([np.array([10, 20, 20, 50], "u8"), np.array([5, 20, 30], "u8")])
    assert which.tolist() == [1, 0, 0, 0, 1, 1, 0]
    assert due.tolist() == [0, 5, 15, 15, 15, 25, 45]


def test_flows_of_different_clocks_begin_together() -> None:
    which, due = interleave([np.array([10, 20], "u8"), np.array([DAY_NS + 10, DAY_NS + 15], "u8")])
    assert which.tolist() == [0, 1, 1, 0]
    assert due.tolist() == [0, 0, 5, 10]


def test_a_flow_keeps_its_order_where_its_times_fall() -> None:
    which, due = interleave([np.array([10, 30, 20, 40], "u8"), np.array([25, 35], "u8")])
    assert which.tolist() == [0, 1, 0, 0, 1, 0]
    assert due.tolist() == [0, 15, 20, 20, 25, 30]


def test_rows_of_one_time_keep_the_order_of_the_files() -> None:
    times = np.repeat(np.arange(5, dtype="u8"), 100)
    which, _ = interleave([times, times])
    assert which.tolist() == ([0] * 100 + [1] * 100) * 5


def test_flows_may_be_empty() -> None:
    which, _ = interleave([np.empty(0, "u8"), np.array([7], "u8"), np.empty(0, "u8")])
    assert which.tolist() == [1]
    assert len(interleave([])[0]) == 0


@given(
    st.lists(st.tuples(st.sampled_from([Op.N, Op.L, Op.C, Op.R]), st.integers(1, 8)), max_size=30)
)
def test_the_bound_of_live_orders_holds(rows: list[tuple[Op, int]]) -> None:
    flow = flow_of(
        "AA", [(n, n, int(op), 1, 5, 5, number, 1) for n, (op, number) in enumerate(rows)]
    )
    live: set[int] = set()
    seen: set[int] = set()
    most, early = 1, False
    for op, number in rows:
        if op == Op.C:
            early |= number not in seen
            live.discard(number)
        elif op != Op.R and number not in seen:
            live.add(number)
            seen.add(number)
        most = max(most, len(live))
    assert most <= most_live(flow)
    if not early and len(seen) == sum(op in (Op.N, Op.L) for op, _ in rows):
        assert most == most_live(flow)


def test_an_engine_is_made_to_measure() -> None:
    buy = (1, 1, int(Op.N), int(Side.BUY), 300, 5, 1, int(Tif.GTC))
    flows = [flow_of("AA", [buy]), flow_of("BB", [])]
    config = config_for(flows)
    first, second = config.listed()
    assert (first.symbol, first.shard, second.shard) == ("AA", 0, 1)
    assert (first.tick.text(1), first.lot.text(1)) == ("1", "1")
    assert (first.min_price, first.max_price) == (1, 1000)
    assert first.max_resting_orders == 1
    with pytest.raises(ConfigError, match="symbol"):
        config_for([flow_of("", [buy])])


# With a running engine -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    """An engine of two matchers and four symbols."""
    with running(make_config()) as plan:
        yield plan


def write_flow(directory: Path, name: str, rows: Sequence[str]) -> Path:
    """Write a flow whose rows are ``op,id,side,price,qty,tif``, a millisecond apart."""
    path = directory / name
    text = "".join(f"{n},{n * 1_000_000},{row}\n" for n, row in enumerate(rows))
    path.write_text(HEADER + text)
    return path


CROSSING = ["N,1,S,100,5,GTC", "N,2,S,101,5,GTC", "L,3,B,101,8,GTC", "N,4,B,101,1,PO", "C,9,B,0,0,"]
CROSSED = ["2,3,0,1,100,5,0", "2,3,1,2,101,3,2"]


def test_a_flow_through_an_engine_that_runs(plan: Plan, tmp_path: Path) -> None:
    flow, out = write_flow(tmp_path, "AA_flow.csv", CROSSING), tmp_path / "out.csv"
    told: list[str] = []
    summary = replay([flow], str(plan.addresses()[0]), fills=out, announce=told.append)
    assert lines_of(out) == [COLUMNS, *CROSSED]
    assert (summary.commands, summary.orders, summary.trades) == (5, 4, 2)
    assert summary.rejects == {"POST_ONLY_WOULD_TRADE": 1, "UNKNOWN_ORDER": 1}
    assert told[0] == f"reading {flow}"
    assert told[-1] == "5 of 5 commands answered"
    assert "2 (1 POST_ONLY_WOULD_TRADE, 1 UNKNOWN_ORDER)" in "\n".join(summary.lines())
    again = replay([flow], str(plan.addresses()[0]), fills=out)
    assert again.rejects["DUPLICATE_CLIENT_ORDER_ID"] == 3
    assert lines_of(out) == [COLUMNS]


def test_two_flows_and_a_stranger(plan: Plan, tmp_path: Path) -> None:
    flows = [
        write_flow(tmp_path, "BB_flow.csv", CROSSING),
        write_flow(tmp_path, "CC_flow.csv", ["N,1,B,100,5,GTC", "C,1,B,0,0,"]),
    ]
    out = tmp_path / "out.csv"
    with Client(plan.addresses()[0], "stranger") as stranger:
        stranger.submit("BB", "sell", 1, "0.99")
        replay(flows, str(plan.addresses()[0]), fills=out)
    assert lines_of(out) == [
        f"symbol,{COLUMNS}", "BB,2,3,0,,99,1,", "BB,2,3,1,1,100,5,0", "BB,2,3,2,2,101,2,3",
    ]  # fmt: skip


def test_the_clock_is_kept(plan: Plan, tmp_path: Path) -> None:
    flow = write_flow(tmp_path, "DD_flow.csv", [f"N,{n},B,5,1,GTC" for n in range(1, 202)])
    summary = replay([flow], str(plan.addresses()[0]), speed=2.0)
    assert summary.elapsed_s >= 0.1  # 200 ms at twice the speed
    assert (summary.commands, summary.rejects) == (201, {})


def test_what_cannot_be_replayed(plan: Plan, tmp_path: Path) -> None:
    address = str(plan.addresses()[0])
    unknown = write_flow(tmp_path, "ZZ_flow.csv", CROSSING)
    with pytest.raises(InvalidOrderError, match="'ZZ' is not traded here; there are AA, BB"):
        replay([unknown], address)
    first, second = (write_flow(tmp_path, f"AA_{n}.csv", CROSSING) for n in (1, 2))
    with pytest.raises(ReplayError, match="one symbol"):
        replay([first, second], address)
    kept = write_flow(tmp_path, "AA_3.csv", [f"N,{FENCE_ID},B,5,1,GTC"])
    with pytest.raises(ReplayError, match=f"AA: id: {FENCE_ID}"):
        replay([kept], address)
    with pytest.raises(FileNotFoundError):
        replay([tmp_path / "none.csv"], address)


def test_with_a_configuration_of_the_callers(tmp_path: Path) -> None:
    text = '[engine]\npin = false\nmatchers = 1\n[[instruments]]\nsymbol = "AA"\ntick_size = "0.5"'
    flow, out = write_flow(tmp_path, "AA_flow.csv", CROSSING), tmp_path / "out.csv"
    replay([flow], config=parse_config(text, "test"), fills=out)
    assert lines_of(out) == [COLUMNS, *CROSSED]


def test_an_engine_that_answers_nothing(tmp_path: Path) -> None:
    peer = Peer(tmp_path / "peer.sock")
    sent: list[Any] = []

    def script(caller: Caller) -> None:
        caller.welcome()
        while (message := caller.read()) is not None:
            sent.append(message)

    peer.play(script)
    flow = read_flow(write_flow(tmp_path, "AAPL_flow.csv", ["N,1,B,5,1,GTC"] * 100))
    with Client(peer.address, "replay", timeout_s=0.2) as client:
        run = ReplayRun(client, [flow], window=10)
        with pytest.raises(AnswerTimeoutError, match="10 of 10 commands waited"):
            run.advance(len(run))
    peer.close()
    assert len(sent) == 10
    assert not any(isinstance(message, Login) for message in sent)


# The recorded flows ----------------------------------------------------------------------------


def recorded_fills(path: Path) -> list[str]:
    """Return the lines of a recorded file of fills."""
    with gzip.open(path, "rt") as file:
        return file.read().splitlines()


def client_ids(flow: Flow) -> list[int]:
    """Return the client_order_ids that order sequences stand for; sequence 1 is the first.

    Every post-only order of the recorded flows is rejected, and every other order accepted.
    """
    op, tif = flow.rows["op"], flow.rows["tif"]
    accepted = np.isin(op, [Op.N, Op.L, Op.X]) & (tif != Tif.PO)
    ids: list[int] = flow.rows["id"][accepted].tolist()
    return ids


@pytest.mark.timeout(600)
def test_the_recorded_flows_on_two_matchers(data_dir: Path, tmp_path: Path) -> None:
    files = [data_dir / "GOOG_merged_flow.csv.gz", data_dir / "BTCUSD_flow.csv.gz"]
    out = tmp_path / "out.csv"
    summary = replay(files, fills=out, data_dir=tmp_path)
    assert summary.rejects == {"POST_ONLY_WOULD_TRADE": 100_518}
    assert (summary.commands, summary.trades) == (365_230, 7_759 + 284)
    told = lines_of(out)[1:]
    fills = {
        "GOOG": recorded_fills(data_dir / "GOOG_merged_fills.csv.gz")[1:],
        "BTCUSD": recorded_fills(data_dir / "BTCUSD_fills.csv.gz")[1:],
    }
    logged = list(read_trades(tmp_path / "log"))
    assert len(logged) == summary.trades
    for shard, (symbol, expected) in enumerate(fills.items()):
        assert [line.removeprefix(f"{symbol},") for line in told if line.startswith(symbol)] == (
            expected
        )
        flow_ids = client_ids(read_flow(files[shard]))
        names = {make_id(shard, n): str(name) for n, name in enumerate(flow_ids, start=1)}
        trades = [entry for entry in logged if entry.symbol == symbol]
        assert [entry.trade_id for entry in trades] == [
            make_id(shard, n) for n in range(1, len(expected) + 1)
        ]
        for entry, line in zip(trades, expected, strict=True):
            _, taker, _, maker, price, quantity, _ = line.split(",")
            sides = names[entry.buy_order_id], names[entry.sell_order_id]
            assert sides in ((taker, maker), (maker, taker))
            assert (str(entry.price), str(entry.quantity)) == (price, quantity)


NO_LEVEL = {"9999999999", "-9999999999"}


def recorded_levels(row: list[str]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return bids and asks of one checkpoint as (price, quantity), best first."""
    values = row[3:]
    asks = [(values[n], values[n + 1]) for n in range(0, 40, 4)]
    bids = [(values[n], values[n + 1]) for n in range(2, 40, 4)]
    there = [[(int(p), int(q)) for p, q in side if p not in NO_LEVEL] for side in (bids, asks)]
    return there[0], there[1]


@pytest.mark.timeout(600)
def test_the_depth_agrees_with_the_recorded_book(data_dir: Path, tmp_path: Path) -> None:
    flow = read_flow(data_dir / "GOOG_merged_flow.csv.gz")
    with gzip.open(data_dir / "GOOG_checkpoints.csv.gz", "rt") as file:
        checkpoints = [row for row in list(csv.reader(file))[1:] if int(row[2]) < 20_000]
    assert len(checkpoints) > 30
    out = io.StringIO(newline="")
    with (
        running_engine(config_for([flow]), tmp_path) as plan,
        Client(plan.addresses()[0], "replay", 60.0) as client,
    ):
        run = ReplayRun(client, [flow], out)
        for row in checkpoints:
            run.advance(int(row[2]) + 1)
            book = client.book("GOOG", 64)
            bids, asks = recorded_levels(row)
            for told, recorded in ((book.bids, bids), (book.asks, asks)):
                levels = [(int(level.price), int(level.quantity)) for level in told]
                assert levels[: len(recorded)] == recorded, f"after row {row[2]}"
        run.finish()
    expected = recorded_fills(data_dir / "GOOG_merged_fills.csv.gz")
    assert lines_of(out) == expected[: len(lines_of(out))]
    assert run.trades > 200
