"""The probe of a demo: one client, one command at a time, that measures the way to the answer.

It enters a post-only order far below the market and cancels it again, under the load that the
drivers make, until it is told "enough", and takes the time from before the call to after the
answer. A pipelined client could not say this: most of what it would measure is its own
commands waiting behind each other.
"""

import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

import numpy as np

from engine.children import leave_ending_to_starter
from frontend.client import Client
from frontend.client.errors import ClientError
from frontend.demo.driver import SILENCE_S, Assignment, Failure, Outcome, leave_arrays
from frontend.demo.tally import Tally
from ipc.instruments import Instrument
from ipc.records import account_of
from ipc.vocabulary import MAX_CLIENT_ID, OrderType, Side, TimeInForce
from ipc.wire.messages import CLIENT_COMMANDS, Cancel, NewOrder

PAUSE_S = 0.005
"""Between two orders: a low rate, that adds little to the load."""
MAX_SAMPLES = 1 << 20


def probe(assignment: Assignment, demo: Connection) -> None:
    """Run the probe in a process of its own; what it says and hears is a driver's."""
    leave_ending_to_starter()
    try:
        (user_id,) = assignment.user_ids
        with Client(assignment.address, user_id) as client:
            _Probe(assignment, demo, client, account_of(user_id)).run()
    except ClientError as error:
        demo.send(Failure(f"the probe of the demo failed: {error}"))
    except EOFError:
        pass  # the demo is gone


class _Probe:
    def __init__(
        self, assignment: Assignment, demo: Connection, client: Client, account: int
    ) -> None:
        self._assignment = assignment
        self._demo = demo
        self._client = client
        self._account = account
        self._tally = Tally()
        self._latencies_ns = np.zeros(MAX_SAMPLES, np.int64)
        self._samples = 0
        self._orders = 0

    def run(self) -> None:
        """Do all that the pipe asks for, up to the end."""
        self._told("ready", "go")
        start = time.monotonic()
        instruments = self._assignment.instruments
        while self._samples + 2 <= MAX_SAMPLES and not self._demo.poll(PAUSE_S):
            self._enter_and_cancel(instruments[self._orders % len(instruments)])
        elapsed_s = time.monotonic() - start
        self._hear("enough")
        self._told("drained", "flush")
        self._flush(instruments)
        latencies_ns = self._latencies_ns[: self._samples]
        leave_arrays(self._assignment.directory, self._tally, latencies_ns)
        self._demo.send(Outcome(self._tally.answers(), self._tally.rejects(), elapsed_s, False))

    def _told(self, say: str, hear: str) -> None:
        self._demo.send(say)
        self._hear(hear)

    def _hear(self, hear: str) -> None:
        word = self._demo.recv()
        assert word == hear, f"{word!r} where {hear!r} was to come"

    def _enter_and_cancel(self, instrument: Instrument) -> None:
        self._orders += 1
        symbol, number = instrument.number, self._orders
        new_request_id = self._client.new_request_id
        terms = (Side.BUY, OrderType.LIMIT, TimeInForce.GTC, instrument.min_price, 1, True)
        for message in (
            NewOrder(symbol, new_request_id(), number, *terms),
            Cancel(symbol, new_request_id(), 0, number),
        ):
            self._latencies_ns[self._samples] = self._ask(message)
            self._samples += 1

    def _ask(self, message: CLIENT_COMMANDS) -> int:
        """Send one command and wait for its answer; return how long that took."""
        start_ns = time.perf_counter_ns()
        self._client.send([message])
        while True:
            reports = self._client.receive_array(SILENCE_S)
            end_ns = time.perf_counter_ns()
            if not len(reports):
                raise ClientError(f"no answer for {SILENCE_S:.0f} s")
            reports["account"] = self._account
            if self._tally.add(reports):
                return end_ns - start_ns

    def _flush(self, instruments: Sequence[Instrument]) -> None:
        """Have one more answer from each shard, behind all other reports; see ``demo_driver``."""
        for symbol in {i.shard: i.number for i in instruments}.values():
            self._ask(Cancel(symbol, self._client.new_request_id(), 0, MAX_CLIENT_ID))
