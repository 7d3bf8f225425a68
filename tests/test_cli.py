"""The command line: what it prints, what it returns, and that mistakes and endings are quiet."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine.plan import Plan
from frontend.cli import main
from frontend.client import Client
from frontend.command_line.endings import FAILURE, USAGE
from frontend.reading import ProcessView, Reader
from frontend.roles import ROLES
from frontend.times import nanoseconds, time_text
from ipc.records import account_of, make_id
from tests.product import config_text, until

WAIT_S = 60.0
COMMAND = [sys.executable, "-m", "frontend.cli"]
SHARD_OF_BB = 1


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)


def shown(plan: Plan, *arguments: str) -> list[str]:
    """Arguments of a reading command, and where its product is."""
    return [*arguments, "--data-dir", str(plan.data_dir)]


@pytest.fixture(scope="module")
def order_id(product: Plan) -> Iterator[int]:
    """A buy of 10 BB at 20.05, of which 4 have traded; others rest at 20.00 and 21.00."""
    with Client(product.addresses()[0], "alice") as client:
        execution = client.submit("BB", "buy", 10, "20.05", post_only=True, client_order_id=77)
        client.submit("BB", "buy", 3, "20.00")
        client.submit("BB", "sell", 5, "21.00")
        client.submit("BB", "sell", 4, "20.05")
        client.submit("AA", "sell", 1, "9.00")
        client.submit("AA", "buy", 1, "9.00")
        yield execution.order_id


# Mistakes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], USAGE, "the following arguments are required: COMMAND"),
        (["frobnicate"], USAGE, "invalid choice: 'frobnicate'"),
        (["book"], USAGE, "the following arguments are required: SYMBOL"),
        (["book", "AA", "--depth", "0"], USAGE, "'0' must be a whole number of 1 to 1024"),
        (["trades", "--limit", "-1"], USAGE, "--limit"),
        (["trades", "--lim", "5"], USAGE, "unrecognized arguments: --lim 5"),
        (["order", "9007199254740992"], USAGE, "must be a whole number of 1 to 9007199254740991"),
        (["demo", "--seconds", "0"], USAGE, "'0' must be 0.1 to 86400 seconds"),
        (["demo", "--seconds", "nan"], USAGE, "'nan' must be 0.1 to 86400 seconds"),
        (["demo", "--symbols", "four"], USAGE, "'four' must be a whole number of 1 to 1000"),
        (["replay"], USAGE, "the following arguments are required: FILE"),
        (["replay", "a_x.csv", "--speed", "fast"], USAGE, "'fast' must be a number"),
        (["replay", "a_x.csv", "--connect", "tcp:x"], USAGE, "must be unix:PATH or tcp:HOST:PORT"),
        (["replay", "a_x.csv", "--connect", "/x", "--config", "y"], USAGE, "not allowed with"),
        (["replay", "missing_x.csv"], FAILURE, "missing_x.csv"),
        (["serve", "--config", "missing.toml"], USAGE, "missing.toml: "),
        (["status", "--data-dir", "missing"], FAILURE, r"no product runs in .*/missing$"),
        (["trades", "--data-dir", "missing"], FAILURE, r"no product runs in .*/missing$"),
    ],
)
def test_a_mistake_is_one_line_and_a_code(
    arguments: list[str],
    code: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_x.csv").write_text("seq,ts_ns,op,id,side,price,qty,tif\n")
    try:
        found = main(arguments)
    except SystemExit as end:
        found = int(end.code or 0)
    (line,) = capsys.readouterr().err.splitlines()
    assert found == code
    assert line.startswith("shardbook: ")
    assert re.search(text, line)


def test_a_wrong_key_is_told_from_a_process_of_its_own(tmp_path: Path) -> None:
    config = tmp_path / "wrong.toml"
    config.write_text(config_text(extra="[engine2]\nx = 1"))
    done = run("serve", "--config", config)
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert re.fullmatch(r"shardbook: .*wrong\.toml: engine2 = .*unknown key.*\n", done.stderr)


def test_version_and_help() -> None:
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"shardbook \S+\n", done.stdout)
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("serve", "demo", "replay", "trades", "book", "order", "status"):
        assert f"\n    {command} " in done.stdout


# Serving ----------------------------------------------------------------------------------------


def test_serve_until_interrupted(tmp_path: Path) -> None:
    config = tmp_path / "two.toml"
    config.write_text(config_text(symbols=2))
    serving = subprocess.Popen(
        [*COMMAND, "serve", "--config", str(config), "--data-dir", str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert serving.stdout is not None
    try:
        lines = [serving.stdout.readline()]
        while lines[-1] not in ("ready\n", ""):
            lines.append(serving.stdout.readline())
        second = run("serve", "--config", config, "--data-dir", tmp_path / "data")
        os.killpg(
            serving.pid, signal.SIGINT
        )  # as a terminal does: every process of the product gets it
        rest, errors = serving.communicate(timeout=WAIT_S)
    finally:
        serving.kill()
    assert any(re.match(r"matcher 1 on .*: BB$", line) for line in lines), lines
    assert (serving.returncode, rest.splitlines()[-1], errors) == (0, "stopped", "")
    assert second.returncode == FAILURE
    assert re.fullmatch(rf"shardbook: .*data is in use by process {serving.pid}\n", second.stderr)


# Reading ----------------------------------------------------------------------------------------


def test_trades(
    product: Plan,
    order_id: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(shown(product, "trades", "--symbol", "BB")) == 0
    header, trade = capsys.readouterr().out.splitlines()
    assert header.split() == [
        *("time", "trade_id", "symbol", "price", "quantity"),
        *("taker", "buy_order_id", "sell_order_id"),
    ]
    ids = [str(number) for number in (make_id(SHARD_OF_BB, 1), order_id, order_id + 3)]
    assert trade.split()[1:] == [ids[0], "BB", "20.05", "4", "SELL", *ids[1:]]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", trade.split()[0])
    assert main(shown(product, "trades")) == 0
    symbols = [line.split()[2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert symbols[:2] == ["BB", "AA"]
    assert main(shown(product, "trades", "--limit", "1")) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(shown(product, "trades", "--symbol", "ZZ")) == USAGE
    error = capsys.readouterr().err
    assert error == "shardbook: symbol 'ZZ' is not traded here; there are AA, BB, CC, DD\n"


def test_book(
    product: Plan,
    order_id: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(shown(product, "book", "BB")) == 0
    title, header, *levels = capsys.readouterr().out.splitlines()
    assert title == "BB after command 4 of its shard"
    assert header.split() == ["orders", "quantity", "bid", "ask", "quantity", "orders"]
    assert [level.split() for level in levels] == [
        ["1", "6", "20.05", "21.00", "5", "1"],
        ["1", "3", "20.00"],
    ]
    assert main(shown(product, "book", "BB", "--depth", "1")) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_order(
    product: Plan,
    order_id: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(shown(product, "order", str(order_id))) == 0
    output = capsys.readouterr().out
    fields = dict(line.split(maxsplit=1) for line in output.splitlines())
    assert fields["account"] == f"{account_of('alice'):016x}"
    assert fields["user_id"] == "alice"
    assert (fields["order_id"], fields["client_order_id"]) == (str(order_id), "77")
    assert (fields["side"], fields["order_type"], fields["post_only"]) == ("BUY", "LIMIT", "yes")
    assert (fields["price"], fields["quantity"]) == ("20.05", "10")
    assert fields["stop_price"] == "-"
    assert (fields["cum_qty"], fields["leaves_qty"]) == ("4", "6")
    assert (fields["ord_status"], fields["reason"]) == ("PARTIALLY_FILLED", "NONE")
    unknown = str(make_id(SHARD_OF_BB, 999))
    assert main(shown(product, "order", unknown)) == FAILURE
    assert capsys.readouterr().err == f"shardbook: order {unknown} is not known here\n"


def rows_of(
    plan: Plan, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Return what a reading command gives as JSON, with exact decimals, and as CSV."""
    assert main(shown(plan, *arguments, "--json")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert main(shown(plan, *arguments, "--csv")) == 0
    text = capsys.readouterr().out
    rows = list(csv.DictReader(io.StringIO(text)))
    found = [json.loads(line, parse_float=Decimal) for line in lines]
    assert len(text.splitlines()) == len(rows) + 1
    assert [list(row) for row in rows] == [list(row) for row in found]
    return found, rows


def test_trades_and_books_as_rows(
    product: Plan, order_id: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (trade,), (line,) = rows_of(product, capsys, "trades", "--symbol", "BB")
    assert (trade["symbol"], trade["price"], trade["quantity"]) == ("BB", Decimal("20.05"), 4)
    assert (trade["taker"], trade["buy_order_id"]) == ("SELL", order_id)
    assert (line["price"], line["quantity"]) == ("20.05", "4")
    assert line["time"] == trade["time"] == time_text(nanoseconds(trade["time"]) or 0)
    levels, lines = rows_of(product, capsys, "book", "BB")
    assert [tuple(level.values()) for level in levels] == [
        ("BB", 4, "BUY", Decimal("20.05"), 6, 1),
        ("BB", 4, "BUY", Decimal("20.00"), 3, 1),
        ("BB", 4, "SELL", Decimal("21.00"), 5, 1),
    ]
    assert [row["price"] for row in lines] == ["20.05", "20.00", "21.00"]
    assert rows_of(product, capsys, "trades", "--limit", "0") == ([], [])
    assert main(shown(product, "book", "DD", "--csv")) == 0
    assert capsys.readouterr().out == "symbol,sequence,side,price,quantity,order_count\n"


def test_orders_and_processes_as_rows(
    product: Plan, order_id: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (order,), (line,) = rows_of(product, capsys, "order", str(order_id))
    assert (order["user_id"], order["order_id"], order["post_only"]) == ("alice", order_id, True)
    assert (order["price"], order["leaves_qty"]) == (Decimal("20.05"), 6)
    assert (line["price"], line["post_only"]) == ("20.05", "yes")
    found, lines = rows_of(product, capsys, "status")
    names = [f"{row['role']} {row['index']}" for row in found]
    assert names == [member.name for member in ROLES.members(product)]
    matcher = next(row for row in found if (row["role"], row["index"]) == ("matcher", 1))
    assert matcher["counters"]["order_sequence"] == 4
    (line,) = [row for row in lines if (row["role"], row["index"]) == ("matcher", "1")]
    assert "order_sequence=4" in line["counters"]


def test_a_user_cannot_write_on_anothers_terminal(
    product: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    with Client(product.addresses()[0], "\x1b[2Jmallory") as client:
        order_id = client.submit("CC", "buy", 1, "1.00").order_id
        client.cancel_all("CC")
    assert main(shown(product, "order", str(order_id))) == 0
    output = capsys.readouterr().out
    assert "\\x1b[2Jmallory" in output
    assert "\x1b" not in output


def test_rows_follow_trades(product: Plan) -> None:
    follower = Follower(product, "CC", "--csv")
    with Client(product.addresses()[0], "dave") as client:
        client.submit("CC", "sell", 2, "5.00")
        client.submit("CC", "buy", 2, "5.00")
    assert follower.output.readline().split(",")[2:6] == ["CC", "5.00", "2", "BUY"]
    follower.process.send_signal(signal.SIGINT)
    assert follower.end() == (130, "")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_status_is_shown_again_and_again(product: Plan, form: list[str]) -> None:
    command = [*COMMAND, *shown(product, "status", "--watch", *form)]
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    times = 0
    while times < 2:
        line = watching.stdout.readline()
        assert line
        times += "supervisor" in line
    watching.send_signal(signal.SIGINT)
    assert (watching.wait(WAIT_S), watching.communicate()[1]) == (130, "")


def processes(plan: Plan) -> list[ProcessView]:
    with Reader(plan) as reader:
        return reader.status()


def test_status(
    product: Plan,
    order_id: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    until(lambda: not any(lag for p in processes(product) for lag in p.lag_trades.values()))
    assert main(shown(product, "status")) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["process", "pid", "core", "state", "uptime", "counters"]
    names = [" ".join(row.split()[:2]) for row in rows]
    assert names == [member.name for member in ROLES.members(product)]
    assert {row.split()[4] for row in rows} == {"ready"}
    matcher = next(row for row in rows if row.startswith("matcher 1"))
    assert "commands=4 order_sequence=4 trade_sequence=1" in matcher
    assert "lag_trades[1]=0" in next(row for row in rows if row.startswith("persister"))


def test_tables_on_a_terminal(product: Plan, order_id: int) -> None:
    ours, theirs = os.openpty()
    arguments = shown(product, "book", "BB")
    subprocess.run([*COMMAND, *arguments], stdout=theirs, timeout=WAIT_S, check=True)
    os.close(theirs)
    text = os.read(ours, 65_536).decode()
    os.close(ours)
    assert "20.05" in text
    assert "──" in text


def test_replay(product: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flow, fills = tmp_path / "DD_flow.csv", tmp_path / "out.csv"
    flow.write_text(
        "seq,ts_ns,op,id,side,price,qty,tif\n"
        "1,10,N,1,S,900,5,GTC\n"
        "2,20,N,2,S,901,5,GTC\n"
        "3,30,X,3,B,901,7,IOC\n"
    )
    address = str(product.addresses()[0])
    assert main(["replay", str(flow), "--connect", address, "--fills", str(fills)]) == 0
    assert re.search(r"^trades +2$", capsys.readouterr().out, re.M)
    assert [line.split(",")[3:6] for line in fills.read_text().splitlines()[1:]] == [
        ["1", "900", "5"],
        ["2", "901", "2"],
    ]


class Follower:
    """``trades --follow`` of one symbol in a process of its own."""

    def __init__(self, plan: Plan, symbol: str, *form: str) -> None:
        arguments = shown(plan, "trades", "--follow", "--symbol", symbol, "--limit", "0", *form)
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout
        assert self.output.readline().startswith("time")

    def end(self) -> tuple[int, str]:
        """Return the exit code and what it said about its end."""
        try:
            _, errors = self.process.communicate(timeout=WAIT_S)
        finally:
            self.process.kill()
        return self.process.returncode, errors


def test_follow_shows_new_trades_until_interrupted(product: Plan) -> None:
    with Client(product.addresses()[0], "bob") as client:
        for symbol in ("AA", "CC"):
            client.submit(symbol, "sell", 9, "7.00")
            client.submit(symbol, "buy", 1, "7.00")
        follower = Follower(product, "CC")
        for quantity in (2, 3):
            client.submit("AA", "buy", quantity, "7.00")
            client.submit("CC", "buy", quantity, "7.00")
            assert follower.output.readline().split()[2:5] == ["CC", "7.00", str(quantity)]
    follower.process.send_signal(signal.SIGINT)
    assert follower.end() == (130, "")


def test_a_closed_pipe_ends_quietly(product: Plan) -> None:
    follower = Follower(product, "DD")
    follower.output.close()
    with Client(product.addresses()[0], "carol") as client:
        client.submit("DD", "sell", 1, "7.00")
        client.submit("DD", "buy", 1, "7.00")
    assert follower.end() == (0, "")


def test_a_closed_pipe_is_noticed_without_a_trade(product: Plan) -> None:
    follower = Follower(product, "DD")
    follower.output.close()
    assert follower.end() == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_command_with_its_number(product: Plan, number: signal.Signals) -> None:
    follower = Follower(product, "DD")
    follower.process.send_signal(number)
    assert follower.end() == (128 + number, "")


def test_ctrl_c_during_imports_is_quiet() -> None:
    program = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'argparse':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.modules.pop('argparse', None)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "import frontend.__main__\n"
        "print('it went on')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize(
    ("ending", "code", "errors"),
    [
        (">/dev/full", FAILURE, "shardbook: [Errno 28] No space left on device\n"),
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
    ],
)
def test_an_output_that_takes_nothing(
    product: Plan, order_id: int, ending: str, code: int, errors: str
) -> None:
    assert order_id
    command = [*COMMAND, *shown(product, "book", "BB")]
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" "$@" {ending}', *command],
        stderr=subprocess.PIPE,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, errors)
