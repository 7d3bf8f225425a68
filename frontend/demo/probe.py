"""The probe of a demo: one client, one order at a time, that measures the way to the answer.

It enters a post-only order far below the market and cancels it again, and takes the time from
before the call to after the answer: at full speed while nobody else trades, and when told "beside"
at a low rate under the load of the drivers, until it is told "enough". A client of arrays could
not say this: most of what it would measure is its own commands waiting behind each other.
"""

import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from engine.children import leave_ending_to_starter
from frontend.client import Client
from frontend.client.errors import (
    ClientError,
    NotCarriedOutError,
    OrderRejectedError,
    UnknownOutcomeError,
)
from frontend.demo.driver import SILENCE_S, Assignment, Failure, Outcome, leave_arrays, told
from frontend.demo.latencies import LatencyFile
from frontend.demo.tally import Tally
from ipc.instruments import Instrument
from ipc.records import account_of
from ipc.vocabulary import Reason

CARRIED_OUT_BEFORE = (Reason.DUPLICATE_CLIENT_ORDER_ID, Reason.UNKNOWN_ORDER)
"""What the repetition of a command is told whose first time was one time too many."""
PAUSE_S = 0.005
"""Between two orders beside others: a low rate, that adds little to the load."""


def probe(assignment: Assignment, demo: Connection) -> None:
    """Run the probe in a process of its own; what it says and hears is a driver's."""
    leave_ending_to_starter()
    try:
        (user_id,) = assignment.user_ids
        with Client(
            assignment.address, user_id, timeout_s=SILENCE_S, include_answers=True
        ) as client:
            _Probe(assignment, demo, client, account_of(user_id)).run()
    except ClientError as error:
        demo.send(Failure(f"the probe of the demo failed: {error}"))
    except EOFError:
        pass  # the demo is gone


class _Probe:
    """One client, its orders, and how long each took."""

    def __init__(
        self, assignment: Assignment, demo: Connection, client: Client, account: int
    ) -> None:
        self._assignment = assignment
        self._demo = demo
        self._client = client
        self._account = account
        self._tally = Tally()
        self._latencies = LatencyFile(assignment.directory, create=True)
        self._orders = 0
        self._sent_again = 0

    def run(self) -> None:
        """Do all that the pipe asks for, up to the end."""
        told(self._demo, "ready", "go")
        self._work("beside", 0)
        self._work("enough", PAUSE_S)
        told(self._demo, "drained", "flush")
        leave_arrays(self._assignment.directory, self._tally)
        self._demo.send(Outcome(self._tally.answers(), self._tally.rejects(), self._sent_again))

    def _work(self, until: str, pause_s: float) -> None:
        """Enter and cancel orders until the demo says the word."""
        instruments = self._assignment.instruments
        while not self._demo.poll(pause_s):
            if self._latencies.is_full:
                break
            self._enter_and_cancel(instruments[self._orders % len(instruments)])
        heard = self._demo.recv()
        assert heard == until, f"{heard!r} where {until!r} was to come"

    def _enter_and_cancel(self, instrument: Instrument) -> None:
        self._orders += 1
        client, number, symbol = self._client, self._orders, instrument.symbol
        price = instrument.tick.text(instrument.min_price)
        quantity = instrument.lot.text(1)
        self._time(
            lambda: client.submit(
                symbol, "buy", quantity, price, post_only=True, client_order_id=number
            )
        )
        self._time(lambda: client.cancel(symbol=symbol, client_order_id=number))
        reports = client.receive_array(0)
        reports["account"] = self._account
        self._tally.add(reports)

    def _time(self, command: Callable[[], object]) -> None:
        """Have a command carried out, also where its matcher is killed; keep how long it took."""
        start_ns = time.perf_counter_ns()
        unknown = False
        while True:
            try:
                command()
            except NotCarriedOutError:
                self._sent_again += 1
                continue
            except UnknownOutcomeError:
                unknown = True
                self._sent_again += 1
                continue
            except OrderRejectedError as error:
                if not unknown or error.code not in CARRIED_OUT_BEFORE:
                    raise
            self._latencies.add(time.perf_counter_ns() - start_ns)
            return
