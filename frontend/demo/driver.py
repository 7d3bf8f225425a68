"""The load of a demo: a process whose two clients, a maker and a taker, trade in arrays.

It speaks with the demo through a pipe: "ready", then when told "go" it trades until it is told
"enough", or there are as many orders as there may be, and says "drained" once every command is
answered. When told "flush" it gets what is still under way, leaves what it was told in files, and
hands over its counts.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.children import leave_ending_to_starter
from frontend.client import Client
from frontend.client.errors import ClientError
from frontend.demo.market import Market
from frontend.demo.tally import Tally
from ipc.instruments import Instrument
from ipc.records import account_of
from ipc.vocabulary import CommandType, ExecType, Reason
from ipc.wire.client_codec import warm

Records = npt.NDArray[np.void]

SILENCE_S = 30.0
"""How long the engine may leave a client without any answer."""
MAX_REPORTS = 1 << 20
"""Reports that one client keeps until it reads them: more than one turn can cause."""
RETRY_S = 0.01
"""Before what a killed matcher has not carried out is sent again."""


@dataclass(frozen=True)
class Assignment:
    """What one client process does. ``directory`` is where it leaves its arrays."""

    address: str
    user_ids: Sequence[str]
    instruments: Sequence[Instrument]
    seed: Sequence[int]
    max_orders: int
    directory: Path


@dataclass(frozen=True)
class Outcome:
    """What one client process did; the arrays are in files beside."""

    answers: Counter[tuple[CommandType, ExecType]]
    rejects: Counter[Reason]
    sent_again: int


@dataclass(frozen=True)
class Failure:
    """Why a client process of the demo could not go on."""

    text: str


def drive(assignment: Assignment, demo: Connection) -> None:
    """Run one driver in a process of its own; a failure goes through the pipe."""
    leave_ending_to_starter()
    warm()
    maker_id, taker_id = assignment.user_ids
    address = assignment.address
    try:
        with (
            Client(address, maker_id, timeout_s=SILENCE_S, max_reports=MAX_REPORTS) as maker,
            Client(address, taker_id, timeout_s=SILENCE_S, max_reports=MAX_REPORTS) as taker,
        ):
            _Driver(assignment, demo, maker, taker).run()
    except ClientError as error:
        demo.send(Failure(f"a client of the demo failed: {error}"))
    except EOFError:
        pass  # the demo is gone


def told(demo: Connection, say: str, hear: str) -> None:
    """Tell the demo how far this process is, and wait for its word."""
    demo.send(say)
    word = demo.recv()
    assert word == hear, f"{word!r} where {hear!r} was to come"


class _Driver:
    """A maker, a taker, and what both were told."""

    def __init__(
        self, assignment: Assignment, demo: Connection, maker: Client, taker: Client
    ) -> None:
        self._assignment = assignment
        self._demo = demo
        self._maker, self._taker = maker, taker
        self._accounts = dict(
            zip((maker, taker), map(account_of, assignment.user_ids), strict=True)
        )
        self._market = Market(assignment.instruments, assignment.seed)
        self._tally = Tally(2 * assignment.max_orders)
        self._sent_again = 0

    def run(self) -> None:
        """Do all that the pipe asks for, up to the end."""
        told(self._demo, "ready", "go")
        while self._market.orders < self._assignment.max_orders and not self._demo.poll():
            self._turn()
        self._demo.send("drained")
        for word in ("enough", "flush"):
            heard = self._demo.recv()
            assert heard == word, f"{heard!r} where {word!r} was to come"
        for client in self._accounts:
            self._catch_up(client)
        leave_arrays(self._assignment.directory, self._tally)
        self._demo.send(Outcome(self._tally.answers(), self._tally.rejects(), self._sent_again))

    def _turn(self) -> None:
        """Let the maker make room and quote, and then the taker take."""
        market = self._market
        self._catch_up(self._maker)
        self._ask(self._maker, market.changes(self._tally.leaves(market.quoted)))
        self._ask(self._maker, market.quotes())
        self._ask(self._taker, market.takes())
        self._take_reports(self._taker)

    def _catch_up(self, client: Client) -> None:
        """Get all that a client has to be told of what was done before."""
        self._ask(client, self._market.nothing())
        left = self._market.orders
        while not self._tally.has_ended(left):
            self._take_reports(client, SILENCE_S)

    def _ask(self, client: Client, commands: Records) -> None:
        """Have commands carried out, each once: also where their matcher is killed meanwhile."""
        while len(commands):
            answers = client.submit_array(commands)
            lost = answers["reason"] == Reason.SHARD_DOWN
            answers["account"] = self._accounts[client]
            if not lost.any():
                self._tally.add(answers)
                return
            self._tally.add(answers[~lost])
            commands = commands[lost]
            self._sent_again += len(commands)
            time.sleep(RETRY_S)

    def _take_reports(self, client: Client, timeout_s: float = 0) -> None:
        reports = client.receive_array(timeout_s)
        if not len(reports) and timeout_s:
            raise ClientError(f"no answer for {timeout_s:.0f} s")
        reports["account"] = self._accounts[client]
        self._tally.add(reports)


def leave_arrays(directory: Path, tally: Tally) -> None:
    """Write what a client process keeps for the demo, one file an array."""
    np.save(directory / "orders.npy", tally.orders())
    np.save(directory / "fills.npy", tally.fills())
