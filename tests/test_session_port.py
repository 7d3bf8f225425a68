"""A third kind of session: the gateway knows nothing of the language that a front end speaks."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.plan import Plan
from engine.roles import RoleTable
from frontend.launch import running_engine
from frontend.reading import Reader
from frontend.roles import ROLES
from ipc.links.sockets import connect
from ipc.vocabulary import ExecType
from ipc.wire.messages import NewOrder, Report
from tests.fork_server import shared_fork_server
from tests.line_role import LINES, address_of
from tests.product import WAIT_S, Wire, make_config, until

TABLE = RoleTable((*ROLES.rows[1:], LINES))


class Lines:
    """A client of it."""

    def __init__(self, plan: Plan) -> None:
        self.sock = connect(address_of(plan), WAIT_S)
        self.read = self.sock.makefile("r")

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self.read.close()
        self.sock.close()

    def say(self, *lines: str) -> None:
        """Send lines in one piece."""
        self.sock.sendall("".join(f"{line}\n" for line in lines).encode())

    def hear(self) -> list[str]:
        """Return the words of the next line; none at the end."""
        return self.read.readline().split()

    def ask(self, *lines: str) -> list[str]:
        """Send lines, and return what comes next."""
        self.say(*lines)
        return self.hear()


@contextmanager
def product(directory: Path, extra: str = "") -> Iterator[Plan]:
    config = make_config(2, 4, f"[frontend]\n{extra}")
    with running_engine(config, directory, None, shared_fork_server(), TABLE) as plan:
        yield plan


@pytest.fixture
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    with product(tmp_path_factory.mktemp("s")) as plan:
        yield plan


def report(kind: ExecType, request: int, filled: int, left: int, words: list[str]) -> int:
    """Hold a line against what it must be; return the order's id."""
    assert words[:3] == ["report", str(request), str(int(kind))]
    assert words[4:] == [str(filled), str(left)]
    return int(words[3])


def test_orders_are_answered_and_trades_reach_every_session_of_both(plan: Plan) -> None:
    with Lines(plan) as lines, Lines(plan) as other, Wire(plan, "alice") as wire:
        assert lines.ask("login alice")[:2] == ["welcome", "alice"]
        assert other.ask("login bob")[:2] == ["welcome", "bob"]
        order_id = report(ExecType.NEW, 1, 0, 5, lines.ask("buy 1 100 5"))
        assert wire.receive().order_id == order_id  # type: ignore[union-attr]
        report(ExecType.NEW, 1, 0, 2, other.ask("sell 1 100 2"))
        report(ExecType.TRADE, 1, 2, 0, other.hear())
        assert report(ExecType.TRADE, 0, 2, 3, lines.hear()) == order_id
        traded = wire.receive()
        assert isinstance(traded, Report)
        assert (traded.exec_type, traded.order_id, traded.cum_qty) == (ExecType.TRADE, order_id, 2)
        wire.send(NewOrder(2, 77, 0, 1, 2, 1, 50, 4))  # on another shard
        report(ExecType.NEW, 77, 0, 4, lines.hear())
        assert report(ExecType.CANCELED, 2, 2, 0, lines.ask(f"cancel 1 {order_id}")) == order_id
        assert lines.ask(f"cancel 1 {order_id}") == ["reject", "3", "UNKNOWN_ORDER"]


def test_one_answer_comes_of_all_shards(plan: Plan) -> None:
    with Lines(plan) as lines:
        lines.ask("login alice")
        for symbol in (1, 2, 3):
            assert lines.ask(f"buy {symbol} 100 5")[0] == "report"
        lines.say("cancel_all")
        heard = [lines.hear() for _ in range(4)]
        assert [words[0] for words in heard] == ["report"] * 3 + ["cancelled"]
        assert heard[-1] == ["cancelled", "4", "3"]


def test_it_is_held_back_and_goes_on_in_order(tmp_path_factory: pytest.TempPathFactory) -> None:
    with product(tmp_path_factory.mktemp("s"), "window = 4\n") as plan, Lines(plan) as lines:
        lines.say("login alice", *(f"buy 1 {price} 1" for price in range(1, 201)))
        heard = [lines.hear()]
        while sum(words[0] == "report" for words in heard) < 200:
            heard.append(lines.hear())
        requests = [int(words[1]) for words in heard if words[0] == "report"]
        assert requests == list(range(1, 201))
        assert ["held"] in heard
        assert heard[0][0] == "welcome"


def test_it_hears_of_a_shard_that_was_lost(plan: Plan) -> None:
    with Lines(plan) as lines:
        lines.ask("login alice")
        order_id = report(ExecType.NEW, 1, 0, 5, lines.ask("buy 1 100 5"))
        with Reader(plan) as reader:
            shown = reader.status()
        [matcher] = [each for each in shown if (each.role, each.index) == ("matcher", 0)]
        os.kill(matcher.pid, signal.SIGKILL)
        assert lines.hear()[0] == "restarted"
        assert report(ExecType.CANCELED, 2, 0, 0, lines.ask(f"cancel 1 {order_id}")) == order_id


def test_who_leaves_has_its_orders_cancelled_where_it_asked(plan: Plan) -> None:
    with Wire(plan, "alice") as wire:
        with Lines(plan) as lines:
            lines.ask("login alice cancel")
            order_id = report(ExecType.NEW, 1, 0, 5, lines.ask("buy 1 100 5"))
        wire.until(
            lambda message: (
                isinstance(message, Report)
                and (message.exec_type, message.order_id) == (ExecType.CANCELED, order_id)
            )
        )
        with Reader(plan) as reader:
            until(lambda: sessions(reader) == 0)


def sessions(reader: Reader) -> int:
    return next(each for each in reader.status() if each.role == "lines").counters["sessions"]


def test_it_is_seen_off_once_every_answer_is_there(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with product(tmp_path_factory.mktemp("s")) as plan:
        lines = Lines(plan)
        lines.ask("login alice")
        lines.say(*(f"buy 1 {price} 1" for price in range(1, 101)))
        assert lines.hear()[0] == "report"
    heard = list(iter(lines.hear, []))
    assert [words[0] for words in heard] == ["report"] * 99 + ["closing"]
    assert heard[-1] == ["closing", "SHUTTING_DOWN"]
