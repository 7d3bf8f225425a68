"""An exchange with data goes on under another configuration: processes, kills, what is refused."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.config import load_config, parse_config
from engine.journal.reader import segments_of
from engine.listing import plan_of
from engine.plan import Plan
from engine.shard.recovery import publish_nothing, recover
from engine.trade_log.log import logged_sequences, read_trades
from engine.verify import dry_run, verify
from frontend.reading import Reader, running_plan
from ipc.records import make_id, sequence_of
from ipc.vocabulary import ExecType, Reason
from ipc.wire.messages import NewOrder, Reject, Report
from tests.product import Wire, until
from tests.test_serve import Served

SMALL = "[journal]\nsegment_bytes = 16384\n"


def listing(*rows: str, matchers: int = 2, extra: str = "") -> str:
    """Return the text of a configuration; each row is ``SYMBOL``, and what else it has."""
    text = f"{extra}\n[engine]\nmatchers = {matchers}\npin = false\n"
    for row in rows:
        symbol, *more = row.split()
        keys = {"tick_size": "'0.01'"} | dict(one.split("=") for one in more)
        text += f'[[instruments]]\nsymbol = "{symbol}"\n'
        text += "".join(f"{key} = {value}\n" for key, value in keys.items())
    return text


def start(directory: Path, *rows: str, matchers: int = 2, extra: str = "") -> Served:
    head = f'data_dir = "{directory}/data"\n'
    return Served(directory, text=head + listing(*rows, matchers=matchers, extra=extra))


def stop(serving: Served) -> None:
    serving.process.send_signal(signal.SIGTERM)
    assert serving.end() == 0, serving.lines


@contextmanager
def served_listing(directory: Path, *rows: str) -> Iterator[Served]:
    """Serve for the length of a ``with`` block, and see a clean end."""
    serving = start(directory, *rows)
    try:
        serving.until("ready")
        yield serving
    except BaseException:
        serving.process.kill()
        raise
    stop(serving)


def numbers(wire: Wire) -> dict[str, int]:
    assert wire.welcome is not None
    return {i.symbol: i.number for i in wire.welcome.instruments if not i.retired}


def enter(wire: Wire, number: int, side: int, price: int, quantity: int, name: int) -> int:
    """Enter an order, and return its id, or the reason why it was rejected, below 0."""
    wire.send(NewOrder(number, name, name, side, 2, 1, price, quantity))
    while True:
        answer = wire.receive()
        if not isinstance(answer, Report | Reject) or answer.request_id != name:
            continue
        if isinstance(answer, Reject):
            return -answer.code
        if answer.exec_type == ExecType.NEW:
            return answer.order_id


def trades_of(wire: Wire, number: int, price: int, name: int) -> list[int]:
    """Trade once, and return the ids of both orders."""
    made = [enter(wire, number, side, price, 3, name + side) for side in (1, 2)]
    assert min(made) > 0, made
    return made


class Kept(NamedTuple):
    """What must stay: by shard the orders that rest, as bytes, and all trades of the log."""

    resting: dict[int, bytes]
    trades: list[tuple[object, ...]]


def kept_in(plan: Plan, numbers: set[int]) -> Kept:
    resting = {}
    logged = logged_sequences(plan.log_dir)
    for shard in (0, 1):
        found = recover(
            plan, shard, logged.get(shard, 0), publish_nothing, plan.data_dir / "orders"
        )
        rows = found.shard.book.resting()
        resting[shard] = rows[[int(n) in numbers for n in rows["symbol"]]].tobytes()
        found.shard.close()
    trades = read_trades(plan.log_dir)
    return Kept(resting, [(t.trade_id, t.symbol, t.price, t.quantity) for t in trades])


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")


def test_a_hundred_instruments_are_added_over_two_restarts_with_a_kill_between(
    directory: Path,
) -> None:
    old = ["AA", "BB", "CC", "DD"]
    serving = start(directory, *old, extra=SMALL)
    serving.until("ready")
    with Wire(serving.plan, "alice") as wire:
        assert numbers(wire) == {"AA": 1, "BB": 2, "CC": 3, "DD": 4}
        for name in range(200):
            trades_of(wire, 1 + name % 4, 1_000, 10 + 4 * name)
        resting = {n: enter(wire, n, 1, 500 + n, 7, 5_000 + n) for n in (1, 2, 3, 4)}
        command = [sys.executable, "-m", "frontend.cli", "snapshot", "--config", serving.config]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        later = {n: enter(wire, n, 2, 2_000 + n, 7, 6_000 + n) for n in (1, 2, 3, 4)}
    stop(serving)
    plan = plan_of(load_config(serving.config))
    before = kept_in(plan, {1, 2, 3, 4})
    assert len(before.trades) == 200

    fifty = [f"N{n}" for n in range(50)]
    added = [*fifty, "DD", "BB", *(f"M{n}" for n in range(50)), "AA", "CC"]
    # Killed as soon as the first shard has taken the change: it is carried out, or again.
    serving = start(directory, *added, extra=SMALL)
    segments = {shard: len(segments_of(plan.journal_dir(shard))) for shard in (0, 1)}
    until(lambda: any(len(segments_of(plan.journal_dir(s))) > segments[s] for s in (0, 1)))
    serving.process.kill()
    serving.end()
    serving = start(directory, *added, extra=SMALL)
    serving.until("ready")
    with Wire(serving.plan, "alice") as wire:
        now = numbers(wire)
        assert {symbol: now[symbol] for symbol in old} == {"AA": 1, "BB": 2, "CC": 3, "DD": 4}
        assert len(set(now.values())) == 104
        for place, symbol in enumerate([*fifty[:5], "M49", "AA"]):
            trades_of(wire, now[symbol], 1_200, 7_000 + 4 * place)
        new_order = enter(wire, now["N7"], 1, 900, 4, 7_900)
    serving.process.kill()  # and no snapshot was taken since
    serving.end()
    serving = start(directory, *added, extra=SMALL)
    serving.until("ready")
    assert not any("was not on shard" in line for line in serving.lines)
    with Wire(serving.plan, "alice") as wire:
        assert numbers(wire) == now
        # What rested trades under its id; what was known is still known.
        assert enter(wire, 1, 1, 100, 1, 5_001) == -Reason.DUPLICATE_CLIENT_ORDER_ID
        trades_of(wire, now["M3"], 1_200, 8_000)
    with Reader(running_plan(load_config(serving.config))) as reader:
        for number, order_id in [*resting.items(), *later.items(), (now["N7"], new_order)]:
            order = reader.order(order_id)
            assert order is not None
            assert (order["symbol"], order["leaves_qty"] > 0) == (number, 1)
        assert reader.book("AA", 1).bids["price"].tolist() == [501]
        assert len(reader.trades("N3", 10)) == 1
    stop(serving)
    after = kept_in(plan_of(load_config(serving.config)), {1, 2, 3, 4})
    assert after.resting == before.resting
    assert after.trades[: len(before.trades)] == before.trades
    assert sorted(symbol for _, symbol, *_ in after.trades[len(before.trades) :]) == sorted(
        [*fifty[:5], "M49", "AA", "M3"]
    )
    ids = [int(str(trade[0])) for trade in after.trades]
    for shard in (0, 1):
        mine = [sequence_of(i) for i in ids if i >> 45 == shard]
        assert mine == list(range(1, len(mine) + 1))
    verdict = verify(plan.data_dir)
    assert not verdict.problems, verdict.lines


def test_what_stands_in_the_way_is_refused_and_changes_nothing(directory: Path) -> None:
    old = ["AA", "BB", "CC", "DD"]
    with served_listing(directory, *old) as serving, Wire(serving.plan, "alice") as wire:
        trades_of(wire, 1, 100, 10)
        for name in range(3):
            assert enter(wire, 2, 1, 100, 5, 20 + name) > 0
        assert enter(wire, 3, 1, 100, 5, 30) > 0
    plan = plan_of(load_config(serving.config))
    files = {path: path.read_bytes() for path in plan.journal_dir(0).parent.rglob("*.journal")}
    rest = "only where none of its orders rest"
    for rows, matchers, said in (
        (["EE shard=0", "AA", "BB tick_size='0.05'", "CC", "DD"], 2,
         f"instrument 2 (BB): tick_size can become 0.05 from 0.01 {rest}; 3 rest"),
        (["AA", "BB", "DD", "EE"], 2,
         f"instrument 3 (CC): can be retired or go to another shard {rest}; 1 rest"),
        (["AA", "BB shard=0", "CC", "DD"], 2,
         f"instrument 2 (BB): can be retired or go to another shard {rest}; 3 rest"),
        (["AA", "BB max_resting_orders=2", "CC", "DD"], 2,
         "instrument 2 (BB): max_resting_orders = 2: must not be below the number of orders that "
         "rest, 3"),
        (old, 1, "engine.matchers = 1: must not be below 2"),
    ):  # fmt: skip
        if "max_resting_orders" not in said and "shard=0" not in rows[1]:  # a start takes a while
            refused = start(directory, *rows, matchers=matchers)
            assert refused.end() == 1
            assert said in "".join(refused.lines), refused.lines
        if matchers == 2:
            head = f'data_dir = "{directory}/data"\n'
            dry = dry_run(plan_of(parse_config(head + listing(*rows), "test")))
            assert said in "\n".join(dry.lines)
            assert dry.problems == 1
    now = {path: path.read_bytes() for path in plan.journal_dir(0).parent.rglob("*.journal")}
    assert now == files
    with served_listing(directory, *old) as serving, Wire(serving.plan, "alice") as wire:
        assert numbers(wire) == {"AA": 1, "BB": 2, "CC": 3, "DD": 4}


def test_ticks_bands_limits_and_the_end_of_an_instrument(directory: Path) -> None:
    old = served_listing(directory, "AA", "BB", "CC", "DD")
    with old as serving, Wire(serving.plan, "alice") as wire:
        (first, _) = trades_of(wire, 1, 103, 10)
        kept = enter(wire, 4, 1, 5_000, 5, 30)
    rows = [
        "AA tick_size='0.05'",
        "BB max_resting_orders=2 max_account_orders=1",
        "DD min_price='0.10' max_price='0.20'",
        "EE",
    ]
    config = directory / "test.toml"
    config.write_text(f'data_dir = "{directory}/data"\n' + listing(*rows))
    command = [
        sys.executable,
        "-m",
        "frontend.cli",
        "recover",
        "--dry-run",
        "--config",
        str(config),
    ]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for line in (
        "shard 0: would change its configuration: instrument 1 (AA) is retired",
        "shard 0: would change its configuration: instrument 3 (CC) is retired",
        "shard 0: would change its configuration: instrument 5 (AA) was not on shard 0, is now",
        "shard 1: would change its configuration: instrument 4 (DD): max_price was",
        "shard 1: would change its configuration: instrument 2 (BB): max_resting_orders was 131072",
    ):
        assert line in said
    with served_listing(directory, *rows) as serving:
        assert any("instrument 1 (AA) is retired" in line for line in serving.lines)
        with Wire(serving.plan, "alice") as wire:
            now = numbers(wire)
            assert now == {"AA": 5, "BB": 2, "DD": 4, "EE": 6}
            assert wire.welcome is not None
            left = [(i.number, i.symbol) for i in wire.welcome.instruments if i.retired]
            assert left == [(1, "AA"), (3, "CC")]
            # What is retired takes nothing; what has its symbol is counted in its own ticks.
            assert enter(wire, 1, 1, 100, 5, 40) == -Reason.UNKNOWN_SYMBOL
            trades_of(wire, now["AA"], 20, 50)
            # A band binds what is entered, and not what rests.
            assert enter(wire, 4, 1, 21, 5, 60) == -Reason.PRICE_OUT_OF_BAND
            assert enter(wire, 4, 1, 20, 5, 61) > 0
            assert enter(wire, 2, 1, 20, 5, 70) > 0
            assert enter(wire, 2, 1, 20, 5, 71) == -Reason.TOO_MANY_ORDERS
        with Reader(running_plan(load_config(serving.config))) as reader:
            order = reader.order(first)
            assert order is not None
            assert reader.instruments[int(order["symbol"])].tick.text(int(order["price"])) == "1.03"
            assert reader.book("DD", 2).bids["price"].tolist() == [5_000, 20]
            said_prices = [
                reader.instruments[int(t["symbol"])].tick.text(int(t["price"]))
                for t in reader.trades("AA", 9)
            ]
            assert said_prices == ["1.03", "1.00"]
    with served_listing(directory, *rows) as serving, Wire(serving.plan, "alice") as wire:
        assert numbers(wire) == now
        assert enter(wire, 4, 2, 20, 5, 80) > make_id(1, 0)  # it meets what rests at 50.00
    trades = [(trade.symbol, str(trade.price)) for trade in read_trades(serving.plan.log_dir)]
    assert trades == [("AA", "1.03"), ("AA", "1.00"), ("DD", "50.00")]
    assert kept > 0
    assert not verify(serving.plan.data_dir).problems


def test_a_client_that_resumes_hears_of_what_is_retired(directory: Path) -> None:
    """Its reports are kept over the restart, and are said in the ticks of then."""
    with served_listing(directory, "AA", "BB") as serving, Wire(serving.plan, "alice") as wire:
        trades_of(wire, 1, 103, 10)
    with (
        served_listing(directory, "BB") as serving,
        Wire(serving.plan, "alice", resume=[0, make_id(1, 0)]) as wire,
    ):
        reports = [wire.receive() for _ in range(4)]
        assert {report.symbol for report in reports if isinstance(report, Report)} == {1}
        assert wire.welcome is not None
        retired = {i.number: i.tick_size for i in wire.welcome.instruments if i.retired}
        assert retired == {1: "0.01"}
